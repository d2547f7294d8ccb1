"""A validator's disk: what it signed, and the chain.

One SQLite file in WAL mode, one writer connection, synchronous=FULL: a commit returns after fsync. A vote is
durable before it is sent; a decided block, its certificate and the outcome of its execution are durable, in
one transaction, before the application commits, so that an application is never ahead of its chain. The
primary key (kind, height, view) makes a second, different vote impossible; votes of decided heights are
pruned.

`initialise_store` is called once when a validator is provisioned. A store that is created later, because the
file is gone, is marked incomplete: its validator stays silent until it has caught up
(`consensus/catchup.py`), since it may have signed what it no longer knows.

Not here: threads (the engine gives the writer one of its own) and consensus rules.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import PreparedProof, Restored, VoteRecord
from hub.ppdl.consensus.messages import (
    Decided,
    Kind,
    QuorumCert,
    decode_cert,
    encode_cert,
)
from hub.ppdl.genesis import Genesis
from openmg import codec
from openmg.signing import SIGNATURE_BYTES

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0
MAX_HEADERS_PER_READ = 512
LOG_COMPLETE, LOG_LOST = b"complete", b"lost"

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE votes (kind INTEGER, height INTEGER, view INTEGER, digest BLOB NOT NULL, wire BLOB NOT NULL,
                    PRIMARY KEY (kind, height, view)) WITHOUT ROWID;
CREATE TABLE prepared (height INTEGER PRIMARY KEY, cert BLOB NOT NULL, block BLOB NOT NULL);
CREATE TABLE blocks (height INTEGER PRIMARY KEY, header BLOB NOT NULL, view INTEGER NOT NULL, seals BLOB NOT NULL,
                     wire BLOB NOT NULL, app_hash BLOB NOT NULL, updates BLOB NOT NULL);
"""


class StoreError(RuntimeError):
    """The store cannot be used; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """A decided header for a light client.

    320 bytes, the view of its seals, and at least a quorum of 65-byte seals, signers ascending.
    """

    header_bytes: bytes
    view: int
    seals: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A decided block and the outcome of its execution.

    App hash after it and validator changes (address, active).
    """

    decided: Decided
    app_hash: bytes
    updates: tuple[tuple[bytes, bool], ...]


def initialise_store(path: Path, genesis: Genesis) -> None:
    """Create the store of a new validator of this chain, with an empty vote log that is known to be complete.

    Call it once, when provisioning; a store that exists is left as it is. Never call it to repair a validator
    that has voted.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _create(path, genesis, LOG_COMPLETE)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _create(path: Path, genesis: Genesis, log: bytes) -> None:
    """Make the file whole beside its place, then move it there: a store that exists is complete."""
    part = path.with_name(path.name + ".part")
    for leftover in (part, part.with_name(part.name + "-journal")):
        leftover.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript("BEGIN;" + _SCHEMA + f"PRAGMA user_version={SCHEMA_VERSION};")
            rows = [("genesis", genesis.hash), ("log", log)]
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            connection.execute("COMMIT")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the new name survives a power cut, as the votes in the file do
    finally:
        os.close(directory)


class PpdlStore:
    """The store of one validator. Writes and `restored` from one thread at a time; the other reads from any thread
    (SQLite puts them in line).

    Raises StoreError when the file belongs to another chain or is damaged.
    """

    def __init__(self, path: Path, genesis: Genesis) -> None:
        self.path = path
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                _create(path, genesis, LOG_LOST)
            self._writer = _connect(path)
            self._reader = _connect(path)
            (layout,) = self._writer.execute("PRAGMA user_version").fetchone()
            found = self._meta("genesis") if layout == SCHEMA_VERSION else None
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot open PPDL store {path} ({error}): check the file and its directory") from error
        if layout != SCHEMA_VERSION:
            self.close()
            wanted = f"layout {layout} instead of {SCHEMA_VERSION}"
            raise StoreError(f"PPDL store {path} has {wanted}: run the version of this program that made it")
        if found != genesis.hash:
            self.close()
            raise StoreError(f"PPDL store {path} belongs to another chain: give the store of this genesis")

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
        self._reader.close()

    def _meta(self, name: str) -> bytes | None:
        row = self._writer.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def damaged(self, what: str, error: Exception) -> StoreError:
        """The error for bytes in the file that this program did not write."""
        advice = "check the disk; never put an older copy in its place, it has forgotten what this validator signed"
        return StoreError(f"the {what} in PPDL store {self.path} is damaged ({error}): {advice}")

    def last_height(self) -> int:
        """Height of the last decided block, 0 before the first."""
        row = self._writer.execute("SELECT max(height) FROM blocks").fetchone()
        return int(row[0] or 0)

    def log_complete(self) -> bool:
        """Whether every vote of this validator is known to be in the log."""
        return self._meta("log") == LOG_COMPLETE

    def mark_log_complete(self) -> None:
        """Durably trust the vote log again."""
        self._writer.execute("UPDATE meta SET value=? WHERE name='log'", (LOG_COMPLETE,))

    def persist(self, votes: Sequence[VoteRecord], prepared: PreparedProof | None) -> None:
        """Make votes, and the certificate they rest on, durable together.

        A vote that is already there is kept as it is. Raises StoreError if another one stands at its (kind,
        height, view): that cannot happen while one process uses the store, so the file is shared or damaged.
        """
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        try:
            for vote in votes:
                self._insert_vote(vote)
            if prepared is not None:
                row = (prepared.block.height, encode_cert(prepared.cert), prepared.block.encoded)
                db.execute("INSERT OR REPLACE INTO prepared VALUES (?, ?, ?)", row)
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    def _insert_vote(self, vote: VoteRecord) -> None:
        key = (int(vote.kind), vote.height, vote.view)
        known = self._writer.execute("SELECT digest FROM votes WHERE kind=? AND height=? AND view=?", key).fetchone()
        if known is None:
            self._writer.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?)", (*key, vote.digest, vote.wire))
        elif bytes(known[0]) != vote.digest:
            where = f"{vote.kind.name} height {vote.height} view {vote.view}"
            raise StoreError(f"refusing to sign twice ({where}): another process uses this validator's store or key")

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
        decided, db = stored.decided, self._writer
        updates = codec.encode([[address, active] for address, active in stored.updates])
        seals = b"".join(decided.qc.seals)
        block = decided.block
        row = (block.height, block.header.encoded, decided.qc.view, seals, block.encoded, stored.app_hash, updates)
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            db.execute("DELETE FROM votes WHERE height<=?", (block.height,))
            db.execute("DELETE FROM prepared WHERE height<=?", (block.height,))
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    def blocks_from(self, height: int, limit: int, max_bytes: int | None = None) -> list[StoredBlock]:
        """At most `limit` decided blocks from `height` on, ascending, without gaps.

        With `max_bytes` only as many as fit, but at least one.
        """
        rows = self._reader.execute(
            "SELECT view, seals, wire, app_hash, updates FROM blocks WHERE height>=? ORDER BY height LIMIT ?",
            (height, limit),
        )
        found: list[StoredBlock] = []
        size = 0
        try:
            for row in rows:
                size += len(row[2])
                if found and max_bytes is not None and size > max_bytes:
                    break
                found.append(_stored_from(*row))
            return found
        except ValueError as error:
            raise self.damaged("chain", error) from error

    def updates_through(self, height: int) -> list[tuple[int, tuple[tuple[bytes, bool], ...]]]:
        """Every (height, validator changes) up to `height` that changes something, ascending."""
        rows = self._reader.execute(
            "SELECT height, updates FROM blocks WHERE height<=? AND updates<>? ORDER BY height",
            (height, codec.encode([])),
        )
        return [(h, _changes_from(updates)) for h, updates in rows]

    def headers_after(self, height: int, limit: int) -> list[SignedHeader]:
        """At most `limit` (and MAX_HEADERS_PER_READ) signed headers above `height`, ascending, without gaps."""
        rows = self._reader.execute(
            "SELECT header, view, seals FROM blocks WHERE height>? ORDER BY height LIMIT ?",
            (height, min(limit, MAX_HEADERS_PER_READ)),
        )
        return [SignedHeader(bytes(header), view, _split_seals(bytes(seals))) for header, view, seals in rows]


def _split_seals(seals: bytes) -> tuple[bytes, ...]:
    return tuple(seals[i : i + SIGNATURE_BYTES] for i in range(0, len(seals), SIGNATURE_BYTES))


def _changes_from(updates: bytes) -> tuple[tuple[bytes, bool], ...]:
    return tuple((address, active) for address, active in codec.decode(bytes(updates)))


def _stored_from(view: int, seals: bytes, wire: bytes, app_hash: bytes, updates: bytes) -> StoredBlock:
    decided = Decided(Block.decode(bytes(wire)), QuorumCert(view, _split_seals(bytes(seals))))
    return StoredBlock(decided, bytes(app_hash), _changes_from(updates))
