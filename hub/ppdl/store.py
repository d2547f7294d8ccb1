"""A validator's disk: what it signed, and the chain.

One SQLite file in WAL mode, one writer connection, synchronous=FULL: a commit returns after fsync. A vote is
durable before it is sent; a decided block, its certificate and the outcome of its execution are durable, in
one transaction, before the application commits, so that an application is never ahead of its chain. The
primary key (kind, height, view) makes a second, different vote impossible; votes of decided heights are
pruned.

The chain begins at block 1, or after a snapshot: then `base` is the tip there, and no earlier block is here. The
headers that changed the set of validators are kept for ever, so that a snapshot can be proved from the genesis on.

`initialise_store` is called once when a validator is provisioned. A store that is created later, because the
file is gone, is marked incomplete, and so is one that went back in time (`marker.py`): its validator stays silent
until it has caught up (`consensus/catchup.py`), since it may have signed what it no longer knows. A file that SQLite
finds damaged is refused here; `quarantine.py` says when another takes its place.

Not here: threads (the engine gives the writer one of its own) and consensus rules.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.decoding import decode_cert
from hub.ppdl.consensus.effects import PreparedProof, Restored, Tip, VoteRecord
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import Kind, encode_cert
from hub.ppdl.genesis import Genesis
from hub.ppdl.marker import NAME_BYTES, Mark, Marker, marker_path
from hub.ppdl.rows import (
    SetChange,
    SignedHeader,
    StoredBlock,
    change_from,
    changes_from,
    split_seals,
    stored_from,
    tip_bytes,
    tip_from,
)
from hub.ppdl.storefiles import (
    DAMAGE_ADVICE,
    StoreDamaged,
    StoreError,
    is_damage,
    set_aside_numbers,
    side_files,
    voted_before,
)
from openmg import codec
from openmg.durable import sync_folder

__all__ = ["PpdlStore", "SetChange", "SignedHeader", "StoreError", "StoredBlock", "initialise_store"]

SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 10.0
MAX_HEADERS_PER_READ = 512
LOG_COMPLETE, LOG_LOST = b"complete", b"lost"

File = TypeVar("File", sqlite3.Connection, Marker)

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE votes (kind INTEGER, height INTEGER, view INTEGER, digest BLOB NOT NULL, wire BLOB NOT NULL,
                    PRIMARY KEY (kind, height, view)) WITHOUT ROWID;
CREATE TABLE prepared (height INTEGER PRIMARY KEY, cert BLOB NOT NULL, block BLOB NOT NULL);
CREATE TABLE blocks (height INTEGER PRIMARY KEY, header BLOB NOT NULL, view INTEGER NOT NULL, seals BLOB NOT NULL,
                     wire BLOB NOT NULL, app_hash BLOB NOT NULL, updates BLOB NOT NULL);
CREATE TABLE sets (height INTEGER PRIMARY KEY, header BLOB NOT NULL, view INTEGER NOT NULL, seals BLOB NOT NULL,
                   opened BLOB NOT NULL);
"""


def initialise_store(path: Path, genesis: Genesis) -> None:
    """Create the store of a new validator of this chain, with an empty vote log that is known to be complete.

    Call it once, when provisioning; a store that exists is left as it is. Never call it to repair a validator
    that has voted: where the traces of an earlier store lie, the new one's log counts as lost.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _create(path, genesis, LOG_LOST if voted_before(path) else LOG_COMPLETE)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path, genesis: Genesis, log: bytes) -> None:
    """Make the file whole beside its place, then move it there: a store that exists is complete, and has its marker."""
    name = os.urandom(NAME_BYTES)
    marker = Marker(marker_path(path))
    marker.begin(Mark(name, 0))
    marker.close()
    part = path.with_name(path.name + ".part")
    of_older_file = side_files(path)  # SQLite would take them for this one's
    for leftover in (part, part.with_name(part.name + "-journal"), *of_older_file):
        leftover.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript("BEGIN;" + _SCHEMA + f"PRAGMA user_version={SCHEMA_VERSION};")
            rows = [("genesis", genesis.hash), ("log", log), ("name", name), ("number", _number_bytes(0))]
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            connection.execute("COMMIT")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


class PpdlStore:
    """The store of one validator. Writes, `log_complete`, `knows_vote` and `restored` from one thread at a time.

    The other reads come from any thread, also while one writes: they have a connection of their own, see only what is
    committed, and wait for no disk.

    Raises StoreError when the file belongs to another chain, StoreDamaged when it is malformed.
    """

    def __init__(self, path: Path, genesis: Genesis) -> None:
        self.path = path
        self._opened: list[sqlite3.Connection | Marker] = []
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                _create(path, genesis, LOG_LOST)
            if not path.stat().st_size:
                raise StoreDamaged(path, "it is empty")  # SQLite would take it for a new one
            self._writer = self._keep(_connect(path))
            self._reader = self._keep(_connect(path))
            (layout,) = self._writer.execute("PRAGMA user_version").fetchone()
            found = self._meta("genesis") if layout == SCHEMA_VERSION else None
            self._marker = self._keep(Marker(marker_path(path)))
            self.set_aside = len(set_aside_numbers(path))
            self._check(layout, found, genesis)
        except (sqlite3.Error, OSError) as error:
            self.close()
            if is_damage(error):
                raise StoreDamaged(path, str(error)) from error
            raise StoreError(f"cannot open PPDL store {path} ({error}): check the file and its directory") from error
        except BaseException:
            self.close()
            raise

    def _keep(self, file: File) -> File:
        self._opened.append(file)  # to be closed whatever comes
        return file

    def _check(self, layout: int, found: bytes | None, genesis: Genesis) -> None:
        """Refuse what is not this chain's intact store; note a store that went back in time."""
        if layout != SCHEMA_VERSION:
            wanted = f"layout {layout} instead of {SCHEMA_VERSION}"
            raise StoreError(f"PPDL store {self.path} has {wanted}: run the version of this program that made it")
        if found != genesis.hash:
            raise StoreError(f"PPDL store {self.path} belongs to another chain: give the store of this genesis")
        (fault,) = self._writer.execute("PRAGMA quick_check(1)").fetchone()
        if fault != "ok":
            raise StoreDamaged(self.path, str(fault).replace("\n", " "))
        self._name = bytes(self._meta("name") or b"")
        self._number = int.from_bytes(self._meta("number") or b"", "big")
        self.suspicion = self._why_older(self._marker.read())
        if self.suspicion:
            self.mark_log_lost()
            self._marker.begin(Mark(self._name, self._number))

    def _why_older(self, mark: Mark | None) -> str:
        """Why the file cannot be what this validator last wrote; empty when nothing speaks against it."""
        if mark is None:
            return "its marker file is missing or damaged"
        if mark.store != self._name:
            return "its marker file belongs to another store"
        if mark.number > self._number:
            return f"it ends at transaction {self._number}, but {mark.number} were made durable"
        return ""

    def close(self) -> None:
        """Close the files."""
        for file in self._opened:
            file.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on disk when it returns; then noted in the marker."""
        db, number = self._writer, self._number + 1
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("UPDATE meta SET value=? WHERE name='number'", (_number_bytes(number),))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._number = number
        self._marker.write(Mark(self._name, number))

    def _meta(self, name: str) -> bytes | None:
        row = self._writer.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def damaged(self, what: str, error: Exception) -> StoreError:
        """The error for bytes in the file that this program did not write."""
        return StoreError(f"the {what} in PPDL store {self.path} is damaged ({error}): {DAMAGE_ADVICE}")

    def last_height(self) -> int:
        """Height of the last decided block (or of the snapshot under an empty chain), 0 before the first."""
        row = self._reader.execute("SELECT max(height) FROM blocks").fetchone()
        return int(row[0] or 0) or self.base_height()

    def base(self) -> Tip | None:
        """The tip of the snapshot that the chain here begins after; None when it begins at block 1."""
        row = self._reader.execute("SELECT value FROM meta WHERE name='base'").fetchone()
        try:
            return None if row is None else tip_from(bytes(row[0]))
        except ValueError as error:
            raise self.damaged("snapshot's place", error) from error

    def base_height(self) -> int:
        """Height of the snapshot that the chain here begins after, 0 when it begins at block 1."""
        base = self.base()
        return 0 if base is None else base.height

    def log_complete(self) -> bool:
        """Whether every vote of this validator is known to be in the log."""
        return self._meta("log") == LOG_COMPLETE

    def mark_log_complete(self) -> None:
        """Durably trust the vote log again."""
        with self._transaction() as db:
            db.execute("UPDATE meta SET value=? WHERE name='log'", (LOG_COMPLETE,))

    def mark_log_lost(self) -> None:
        """Durably note that this validator signed, or may have signed, what the log does not hold."""
        with self._transaction() as db:
            db.execute("UPDATE meta SET value=? WHERE name='log'", (LOG_LOST,))

    def persist(self, votes: Sequence[VoteRecord], prepared: PreparedProof | None) -> None:
        """Make votes, and the certificate they rest on, durable together.

        A vote that is already there is kept as it is. Raises StoreError if another one stands at its (kind,
        height, view): that cannot happen while one process uses the store, so the file is shared or damaged.
        """
        with self._transaction() as db:
            for vote in votes:
                self._insert_vote(vote)
            if prepared is not None:
                row = (prepared.block.height, encode_cert(prepared.cert), prepared.block.encoded)
                db.execute("INSERT OR REPLACE INTO prepared VALUES (?, ?, ?)", row)

    def _insert_vote(self, vote: VoteRecord) -> None:
        key = (int(vote.kind), vote.height, vote.view)
        known = self._writer.execute("SELECT digest FROM votes WHERE kind=? AND height=? AND view=?", key).fetchone()
        if known is None:
            self._writer.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?)", (*key, vote.digest, vote.wire))
        elif bytes(known[0]) != vote.digest:
            where = f"{vote.kind.name} height {vote.height} view {vote.view}"
            raise StoreError(f"refusing to sign twice ({where}): another process uses this validator's store or key")

    def knows_vote(self, kind: Kind, height: int, view: int) -> bool:
        """Whether the log holds a vote of this validator there."""
        key = (int(kind), height, view)
        return self._writer.execute("SELECT 1 FROM votes WHERE kind=? AND height=? AND view=?", key).fetchone() is not None

    def restored(self) -> Restored:
        """What the log remembers of the height after the last block.

        The votes of the highest view, the highest certificate.
        """
        height = self.last_height() + 1
        rows = self._writer.execute(
            "SELECT kind, view, digest, wire FROM votes WHERE height=:h"
            " AND view=(SELECT max(view) FROM votes WHERE height=:h) ORDER BY kind",
            {"h": height},
        ).fetchall()
        row = self._writer.execute("SELECT cert, block FROM prepared WHERE height=?", (height,)).fetchone()
        prepared = None
        try:
            votes = tuple(VoteRecord(Kind(k), height, view, bytes(d), bytes(wire)) for k, view, d, wire in rows)
            if row is not None:
                prepared = PreparedProof(decode_cert(bytes(row[0])), Block.decode(bytes(row[1])))
        except ValueError as error:
            raise self.damaged("vote log", error) from error
        return Restored(votes, prepared, self.log_complete())

    def save_block(self, stored: StoredBlock) -> None:
        """Make a decided and executed block durable; forget the votes of its height and of those before."""
        decided = stored.decided
        updates = codec.encode([[address, active] for address, active in stored.updates])
        seals = b"".join(decided.qc.seals)
        block = decided.block
        row = (block.height, block.header.encoded, decided.qc.view, seals, block.encoded, stored.app_hash, updates)
        with self._transaction() as db:
            db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            _forget_votes(db, block.height)
            if stored.opened:
                _insert_change(db, SetChange(block.header, decided.qc, stored.opened))

    def adopt(self, base: Tip, header: Header, changes: Iterable[SetChange]) -> None:
        """Go on after a snapshot, whose block has this header, instead of after the last block.

        The blocks here are forgotten, and the votes up to the snapshot's height, which is decided. The history of sets
        is the snapshot's. What the vote log holds of later heights stays, and its being complete or lost too.
        """
        with self._transaction() as db:
            db.execute("DELETE FROM blocks")
            db.execute("DELETE FROM sets")
            _forget_votes(db, base.height)
            for change in changes:
                _insert_change(db, change)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('base', ?)", (tip_bytes(base, header),))

    def forget_chain(self) -> None:
        """Begin at the genesis again, when the application is lost and the blocks that made it are not here.

        The vote log is then of no use at the low heights that come again, so it counts as lost.
        """
        with self._transaction() as db:
            for table in ("blocks", "sets"):
                db.execute(f"DELETE FROM {table}")
            db.execute("DELETE FROM meta WHERE name='base'")
            db.execute("UPDATE meta SET value=? WHERE name='log'", (LOG_LOST,))

    def set_changes(self, height: int) -> tuple[SetChange, ...]:
        """Every decided header up to `height` that changed the set, from the genesis on, ascending."""
        rows = self._reader.execute("SELECT header, view, seals, opened FROM sets WHERE height<=? ORDER BY height", (height,))
        try:
            return tuple(change_from(*row) for row in rows)
        except ValueError as error:
            raise self.damaged("history of validators", error) from error

    def blocks_from(self, height: int, limit: int, max_bytes: int | None = None) -> list[StoredBlock]:
        """At most `limit` decided blocks from `height` on, ascending, without gaps; none when that one is not here.

        With `max_bytes` only as many as fit, but at least one.
        """
        rows = self._reader.execute(
            "SELECT view, seals, wire, app_hash, updates, height FROM blocks WHERE height>=? ORDER BY height LIMIT ?",
            (height, limit),
        )
        found: list[StoredBlock] = []
        size = 0
        try:
            for row in rows:
                if not found and row[5] != height:
                    break
                size += len(row[2])
                if found and max_bytes is not None and size > max_bytes:
                    break
                found.append(stored_from(*row[:5]))
            return found
        except ValueError as error:
            raise self.damaged("chain", error) from error

    def updates_through(self, height: int) -> list[tuple[int, tuple[tuple[bytes, bool], ...]]]:
        """Every (height, validator changes) up to `height` that changes something, ascending."""
        rows = self._reader.execute(
            "SELECT height, updates FROM blocks WHERE height<=? AND updates<>? ORDER BY height",
            (height, codec.encode([])),
        )
        return [(h, changes_from(updates)) for h, updates in rows]

    def headers_after(self, height: int, limit: int) -> list[SignedHeader]:
        """At most `limit` (and MAX_HEADERS_PER_READ) signed headers above `height`, ascending, without gaps.

        None when the first of them is not here, because the chain begins after a snapshot.
        """
        rows = self._reader.execute(
            "SELECT header, view, seals, height FROM blocks WHERE height>? ORDER BY height LIMIT ?",
            (height, min(limit, MAX_HEADERS_PER_READ)),
        ).fetchall()
        if rows and rows[0][3] != height + 1:
            return []
        return [SignedHeader(bytes(header), view, split_seals(bytes(seals))) for header, view, seals, _ in rows]


def _number_bytes(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _forget_votes(db: sqlite3.Connection, height: int) -> None:
    db.execute("DELETE FROM votes WHERE height<=?", (height,))
    db.execute("DELETE FROM prepared WHERE height<=?", (height,))


def _insert_change(db: sqlite3.Connection, change: SetChange) -> None:
    header, qc = change.header, change.qc
    row = (header.height, header.encoded, qc.view, b"".join(qc.seals), b"".join(change.opened))
    db.execute("INSERT INTO sets VALUES (?, ?, ?, ?, ?)", row)
