"""The wallet's notes on disk: every leaf of the public note tree, which are the owner's, what was spent, what is under way.

Rules: a spend is written, and its inputs set aside, before anything of it leaves the meter, so that a crash can lead to a
payment that is not made, never to one made twice. It is done when its change is in the tree: nobody else knows the
change's blinding. A spend that makes no note (a burn) is done when the nullifiers of all of its inputs are on chain.
Inputs are free again once the spend's `valid_until` has passed. The meter may have been blind then, so a purpose is tried
again only with the same inputs, whose nullifiers the chain takes once; should the first attempt be found in the tree after
all, it counts. Only a change proves that inputs went elsewhere: a nullifier says that a note is spent, not by what.
A change also says by itself for which purpose it was made (`edge_agent.wallet.change`), so that all of this holds for
payments that another database knew, before the wallet was restored.
Leaves may be taken back when the chain was rewritten. What is known of a note then stays with its commitment: it is bound
again where the note lies next, so an attempt is still repeated with the same notes or not at all.
The file is the journal's, mode 0600.
Not here: which notes to spend (`edge_agent.wallet.notes`), how far leaves may be taken back (there, too).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.wallet.change import Change, purpose_number
from edge_agent.wallet.journal import WalletError, open_private

EXPIRY_MARGIN_SECONDS = 30
"""The chain's clock may run behind the meter's: inputs stay set aside so much longer than the payment is valid."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS leaves (
    position INTEGER PRIMARY KEY, commitment BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS open_notes (
    position INTEGER PRIMARY KEY, asset BLOB NOT NULL, amount BLOB NOT NULL, partial BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS open_notes_by_partial ON open_notes(partial);
CREATE TABLE IF NOT EXISTS expected (
    partial BLOB PRIMARY KEY, blinding BLOB NOT NULL, purpose TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS notes (
    position INTEGER PRIMARY KEY, asset BLOB NOT NULL, amount BLOB NOT NULL, blinding BLOB NOT NULL,
    nullifier BLOB NOT NULL, spent_by INTEGER, payment INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS notes_by_nullifier ON notes(nullifier);
CREATE TABLE IF NOT EXISTS nullifiers (
    place INTEGER PRIMARY KEY, value BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS nullifiers_by_value ON nullifiers(value);
CREATE TABLE IF NOT EXISTS payments (
    number INTEGER PRIMARY KEY, purpose TEXT NOT NULL, change BLOB, valid_until INTEGER NOT NULL,
    state TEXT NOT NULL, done_at INTEGER, prove_ms INTEGER, backend TEXT
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_payment_for_a_purpose ON payments(purpose) WHERE state != 'expired';
CREATE INDEX IF NOT EXISTS payments_by_change ON payments(change);
CREATE TABLE IF NOT EXISTS payment_inputs (
    payment INTEGER NOT NULL, place INTEGER NOT NULL, position INTEGER, commitment BLOB NOT NULL,
    PRIMARY KEY (payment, place)
) STRICT;
CREATE INDEX IF NOT EXISTS payment_inputs_by_position ON payment_inputs(position);
CREATE TABLE IF NOT EXISTS served (
    purpose BLOB PRIMARY KEY
) STRICT;
"""
# notes.spent_by, payments.done_at: position of the change that says so. payment_inputs.position: NULL while the note is
# not in the tree, because the chain took it back.

_NOTE = "position, asset, amount, blinding, nullifier"
_SPENT = "(spent_by IS NOT NULL OR EXISTS (SELECT 1 FROM nullifiers WHERE value=nullifier))"


class PaymentState(enum.StrEnum):
    """A payment is under way until its change is in the tree (done) or its time has passed (expired)."""

    UNDER_WAY = "under way"
    DONE = "done"
    EXPIRED = "expired"


class NotFree(Exception):
    """A note that is to be spent is spent or set aside already; nothing was changed."""


@dataclass(frozen=True)
class OwnNote:
    """A note of the owner, its place over all trees, and the nullifier that spending it publishes."""

    position: int
    asset: int
    amount: int
    blinding: int
    nullifier: int


@dataclass(frozen=True)
class OpenNote:
    """What the ciphertext of a leaf says in clear: a note for whoever knows the partial's opening."""

    asset: int
    amount: int
    partial: int


@dataclass(frozen=True)
class Leaf:
    """A leaf of the public tree, and what the wallet made of it."""

    position: int
    commitment: int
    own: OwnNote | None = None
    change: Change | None = None
    """What the note says when it is the change of a payment of the owner."""
    opened: OpenNote | None = None
    """What its ciphertext says in clear, whoever's it is; nobody has checked it."""


def _blob(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _own_note(row: tuple[int, bytes, bytes, bytes, bytes]) -> OwnNote:
    return OwnNote(row[0], *(int.from_bytes(part, "big") for part in row[1:5]))


class NoteStore:
    """Leaves, own notes and payments."""

    def __init__(self, path: Path) -> None:
        self._db = open_private(path)
        columns = {row[1] for row in self._db.execute("PRAGMA table_info(notes)")}
        if columns and "nullifier" not in columns:
            self._db.close()
            raise WalletError(f"{path} holds notes of an earlier version, whose token contract is gone; move it away")
        self._db.executescript(_SCHEMA)

    # Leaves

    def leaves(self, first: int = 0, count: int = -1) -> list[int]:
        """Up to `count` commitments (all: -1) from position `first` on."""
        sql = "SELECT commitment FROM leaves WHERE position>=? ORDER BY position LIMIT ?"
        return [int.from_bytes(row[0], "big") for row in self._db.execute(sql, (first, count))]

    def leaf_count(self) -> int:
        """How many leaves were heard of, empty ones included; they have no gaps."""
        return int(self._db.execute("SELECT COALESCE(MAX(position) + 1, 0) FROM leaves").fetchone()[0])

    def add_leaves(self, leaves: Iterable[Leaf]) -> None:
        """The next leaves of the tree, all or none; completes the payments that made them."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for leaf in leaves:
                self._add_leaf(leaf)
            self._settle_burns()

    def _add_leaf(self, leaf: Leaf) -> None:
        commitment = _blob(leaf.commitment)
        self._db.execute("INSERT OR IGNORE INTO leaves VALUES(?,?)", (leaf.position, commitment))
        if leaf.opened is not None:
            note = leaf.opened
            row = (leaf.position, *map(_blob, (note.asset, note.amount, note.partial)))
            self._db.execute("INSERT OR IGNORE INTO open_notes VALUES(?,?,?,?)", row)
        if leaf.own is not None:
            self._add_own(leaf.own, commitment)
        if not self._complete_by(commitment, leaf.position) and leaf.change is not None:
            self._take_change(leaf.change, leaf.position)

    def _add_own(self, own: OwnNote, commitment: bytes) -> None:
        values = map(_blob, (own.asset, own.amount, own.blinding, own.nullifier))
        sql = f"INSERT OR IGNORE INTO notes({_NOTE}) VALUES(?,?,?,?,?)"
        if self._db.execute(sql, (own.position, *values)).rowcount:
            self._bind(own.position, commitment)

    def _bind(self, position: int, commitment: bytes) -> None:
        """Spends whose input the chain had taken back find it here; one that is under way sets it aside again."""
        lost = self._db.execute(
            "SELECT payment, MIN(place), state FROM payment_inputs JOIN payments ON payment=number"
            " WHERE position IS NULL AND commitment=? GROUP BY payment",
            (commitment,),
        ).fetchall()
        for payment, place, state in lost:
            self._db.execute("UPDATE payment_inputs SET position=? WHERE payment=? AND place=?", (position, payment, place))
            if state == PaymentState.UNDER_WAY:
                self._db.execute("UPDATE notes SET payment=? WHERE position=?", (payment, position))

    def _complete_by(self, commitment: bytes, position: int) -> bool:
        """Whether the leaf is the change of payments of this database, which are done now."""
        numbers = self._db.execute("SELECT number FROM payments WHERE change=?", (commitment,)).fetchall()
        for (number,) in numbers:
            rows = self._db.execute("SELECT position FROM payment_inputs WHERE payment=? AND position NOT NULL", (number,))
            self._spend([row[0] for row in rows], number, position)
            self._done(number, position)
        return bool(numbers)

    def _done(self, number: int, position: int | None) -> None:
        (purpose,) = self._db.execute("SELECT purpose FROM payments WHERE number=?", (number,)).fetchone()
        rivals = self._db.execute(
            "SELECT number FROM payments WHERE purpose=? AND number!=? AND state=?", (purpose, number, PaymentState.UNDER_WAY)
        ).fetchall()
        for (rival,) in rivals:  # with the same inputs, so it can no longer be made
            self._expire(rival)
        sql = "UPDATE OR IGNORE payments SET state=?, done_at=? WHERE number=?"
        self._db.execute(sql, (PaymentState.DONE, position, number))

    def _take_change(self, change: Change, position: int) -> None:
        """A payment of the owner that another database knew was made."""
        self._db.execute("INSERT OR IGNORE INTO served VALUES(?)", (_blob(change.purpose),))
        for spent in change.positions:
            row = self._db.execute("SELECT 1 FROM notes WHERE position=? AND spent_by IS NULL", (spent,)).fetchone()
            if row is not None:
                self._spend([spent], None, position)

    def _spend(self, positions: Sequence[int], by: int | None, change_position: int) -> None:
        """A change says that these notes are spent, so whatever else would spend them can no longer be made."""
        places = ",".join("?" * len(positions))
        self._db.execute(f"UPDATE notes SET spent_by=? WHERE position IN ({places})", (change_position, *positions))
        rivals = self._db.execute(
            f"SELECT DISTINCT payment FROM payment_inputs JOIN payments ON payment=number"
            f" WHERE position IN ({places}) AND payment IS NOT ? AND state=?",
            (*positions, by, PaymentState.UNDER_WAY),
        ).fetchall()
        for (rival,) in rivals:
            self._expire(rival)

    def take_back(self, first: int) -> None:
        """Forget the leaves from position `first` on: the chain was rewritten there.

        Payments whose change is among them are under way again with the same inputs. Purposes that a change named stay
        served, and inputs that are gone stay those of their payment: neither lets anything be paid twice.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE payment_inputs SET position=NULL WHERE position>=?", (first,))
            for table in ("leaves", "open_notes", "notes"):
                self._db.execute(f"DELETE FROM {table} WHERE position>=?", (first,))
            self._db.execute("UPDATE notes SET spent_by=NULL WHERE spent_by>=?", (first,))
            for (number,) in self._db.execute("SELECT number FROM payments WHERE done_at>=?", (first,)).fetchall():
                self._reopen(number)
            self._settle_burns()

    def _reopen(self, number: int) -> None:
        sql = "UPDATE OR IGNORE payments SET state=?, done_at=NULL WHERE number=?"
        self._db.execute(sql, (PaymentState.UNDER_WAY, number))
        sql = "UPDATE notes SET payment=? WHERE position IN (SELECT position FROM payment_inputs WHERE payment=?)"
        self._db.execute(sql, (number, number))

    # Open notes

    def expect(self, partial: int, blinding: int, purpose: str) -> list[tuple[int, OpenNote]]:
        """The owner knows this partial's blinding; returns the open notes with it that were heard of before."""
        row = (_blob(partial), _blob(blinding), purpose)
        self._db.execute("INSERT OR IGNORE INTO expected VALUES(?,?,?)", row)
        sql = "SELECT position, asset, amount, partial FROM open_notes WHERE partial=? ORDER BY position"
        rows = self._db.execute(sql, (_blob(partial),)).fetchall()
        return [(row[0], OpenNote(*(int.from_bytes(part, "big") for part in row[1:]))) for row in rows]

    def expected_blinding(self, partial: int) -> int | None:
        """The blinding of a partial that the owner knows."""
        row = self._db.execute("SELECT blinding FROM expected WHERE partial=?", (_blob(partial),)).fetchone()
        return None if row is None else int.from_bytes(row[0], "big")

    def received(self, purpose: str) -> list[OwnNote]:
        """The notes that arrived for a purpose's partials, spent or not, in order of position."""
        sql = (
            f"SELECT {', '.join('notes.' + name for name in _NOTE.split(', '))} FROM notes"
            " JOIN open_notes USING(position) JOIN expected USING(partial) WHERE purpose=? ORDER BY position"
        )
        return [_own_note(row) for row in self._db.execute(sql, (purpose,))]

    def claim(self, notes: Iterable[OwnNote]) -> None:
        """Open notes at leaves that were heard of before turn out to be the owner's."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for note in notes:
                sql = "SELECT commitment FROM leaves WHERE position=?"
                self._add_own(note, self._db.execute(sql, (note.position,)).fetchone()[0])

    # Nullifiers

    def add_nullifiers(self, first: int, nullifiers: Sequence[int]) -> list[OwnNote]:
        """What stands in the chain's list from place `first` on, instead of what stood there.

        Returns the owner's notes that are now seen to be spent although no payment of this database spends them.
        """
        rows = [(first + i, _blob(value)) for i, value in enumerate(nullifiers)]
        sql = "SELECT place, value FROM nullifiers WHERE place>=? AND place<?"
        known = set(self._db.execute(sql, (first, first + len(rows))).fetchall())
        news = [row for row in rows if row not in known]
        if not news:
            return []
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            strange = [note for _, value in news for note in self._strange(value)]
            self._db.executemany("INSERT OR REPLACE INTO nullifiers VALUES(?,?)", news)
            self._settle_burns()
        return strange

    def _strange(self, nullifier: bytes) -> list[OwnNote]:
        """The owner's note of this nullifier, when nothing known spends it."""
        sql = (
            f"SELECT {_NOTE} FROM notes WHERE nullifier=? AND NOT {_SPENT}"
            " AND NOT EXISTS (SELECT 1 FROM payment_inputs WHERE payment_inputs.position=notes.position)"
        )
        return [_own_note(row) for row in self._db.execute(sql, (nullifier,))]

    def _settle_burns(self) -> None:
        """What makes no note is done when all of its inputs are spent, and under way again when they no longer are."""
        open_input = (
            "EXISTS (SELECT 1 FROM payment_inputs LEFT JOIN notes USING(position) WHERE payment_inputs.payment=number"
            " AND (payment_inputs.position IS NULL OR NOT EXISTS (SELECT 1 FROM nullifiers WHERE value=nullifier)))"
        )
        sql = f"SELECT number FROM payments WHERE change IS NULL AND state!=? AND NOT {open_input}"
        for (number,) in self._db.execute(sql, (PaymentState.DONE,)).fetchall():
            self._done(number, None)
        sql = f"SELECT number FROM payments WHERE change IS NULL AND state=? AND {open_input}"
        for (number,) in self._db.execute(sql, (PaymentState.DONE,)).fetchall():
            self._reopen(number)

    # Spending

    def spendable(self, asset: int) -> list[OwnNote]:
        """Unspent notes of the asset, of more than 0, that no payment has set aside, largest first."""
        sql = f"SELECT {_NOTE} FROM notes WHERE payment IS NULL AND asset=? AND amount!=? AND NOT {_SPENT}"
        rows = self._db.execute(sql, (_blob(asset), _blob(0)))
        return sorted(map(_own_note, rows), key=lambda note: (-note.amount, note.position))

    def crowded(self, limit: int) -> int | None:
        """The lowest asset of which more than `limit` notes are spendable."""
        sql = f"SELECT asset FROM notes WHERE payment IS NULL AND amount!=? AND NOT {_SPENT} GROUP BY asset HAVING COUNT(*)>?"
        rows = self._db.execute(f"{sql} ORDER BY asset LIMIT 1", (_blob(0), limit)).fetchall()
        return int.from_bytes(rows[0][0], "big") if rows else None

    def tied_inputs(self, purpose: str) -> list[OwnNote | None]:
        """The inputs of an expired attempt at this purpose that may yet turn out to have been made; empty if none may.

        It may as long as no other payment's change says that it spent one of them. None stands for an input that is not
        in the tree at the moment.
        """
        sql = (
            "SELECT MAX(number) FROM payments WHERE purpose=? AND state=? AND NOT EXISTS (SELECT 1 FROM payment_inputs"
            " AS used JOIN notes USING(position) WHERE used.payment=number AND spent_by IS NOT NULL)"
        )
        (number,) = self._db.execute(sql, (purpose, PaymentState.EXPIRED)).fetchone()
        columns = ", ".join("notes." + name for name in _NOTE.split(", "))
        rows = self._db.execute(
            f"SELECT {columns} FROM payment_inputs LEFT JOIN notes USING(position)"
            " WHERE payment_inputs.payment=? ORDER BY place",
            (number,),
        )
        return [None if row[0] is None else _own_note(row) for row in rows]

    def begin(self, purpose: str, inputs: Sequence[OwnNote], commitments: Sequence[int], change: int | None, until: int) -> int:
        """Set inputs (with their commitments) aside for a spend whose change note is `change`; returns its number.

        `change` is None for a spend that makes no note. Raises NotFree when an input is spent or set aside.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            blob = None if change is None else _blob(change)
            cursor = self._db.execute(
                "INSERT INTO payments(purpose, change, valid_until, state) VALUES(?,?,?,?)",
                (purpose, blob, until, PaymentState.UNDER_WAY),
            )
            number = cursor.lastrowid or 0
            for place, (note, commitment) in enumerate(zip(inputs, commitments, strict=True)):
                sql = f"UPDATE notes SET payment=? WHERE position=? AND nullifier=? AND payment IS NULL AND NOT {_SPENT}"
                if not self._db.execute(sql, (number, note.position, _blob(note.nullifier))).rowcount:
                    raise NotFree(f"note {note.position} cannot be spent for {purpose!r}: it is spent or set aside already")
                row = (number, place, note.position, _blob(commitment))
                self._db.execute("INSERT INTO payment_inputs VALUES(?,?,?,?)", row)
        return number

    def record_proof(self, number: int, prove_ms: int, backend: str) -> None:
        """How long the payment's proof took, and with which backend."""
        self._db.execute("UPDATE payments SET prove_ms=?, backend=? WHERE number=?", (prove_ms, backend, number))

    def expire(self, now: int) -> None:
        """Free the inputs of payments whose time has passed; their purpose may be tried again."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            late = self._db.execute(
                "SELECT number FROM payments WHERE state=? AND valid_until<?",
                (PaymentState.UNDER_WAY, now - EXPIRY_MARGIN_SECONDS),
            ).fetchall()
            for (number,) in late:
                self._expire(number)

    def _expire(self, number: int) -> None:
        self._db.execute("UPDATE notes SET payment=NULL WHERE payment=?", (number,))
        self._db.execute("UPDATE payments SET state=? WHERE number=?", (PaymentState.EXPIRED, number))

    # Questions

    def payment_under_way(self, number: int | None = None) -> bool:
        """Whether this payment, or any, is under way."""
        sql = "SELECT 1 FROM payments WHERE state=? AND (? IS NULL OR number=?) LIMIT 1"
        return self._db.execute(sql, (PaymentState.UNDER_WAY, number, number)).fetchone() is not None

    def is_landed(self, number: int) -> bool:
        """Whether the chain has taken this payment: its inputs are spent, though its change may not be in the tree yet."""
        sql = f"SELECT COUNT(*), COALESCE(SUM({_SPENT}), 0) FROM payment_inputs JOIN notes USING(position)"
        total, spent = self._db.execute(f"{sql} WHERE payment_inputs.payment=?", (number,)).fetchone()
        return bool(total) and total == spent

    def has_payment(self, purpose: str) -> bool:
        """Whether a payment for this purpose is under way or done, or was made before the wallet was restored."""
        sql = "SELECT 1 FROM payments WHERE purpose=? AND state!=? UNION SELECT 1 FROM served WHERE purpose=?"
        row = self._db.execute(sql, (purpose, PaymentState.EXPIRED, _blob(purpose_number(purpose)))).fetchone()
        return row is not None

    def state_of(self, purpose: str) -> PaymentState | None:
        """State of the newest attempt at this purpose; None when this database knows of none."""
        sql = "SELECT state FROM payments WHERE purpose=? ORDER BY state=? DESC, number DESC LIMIT 1"
        row = self._db.execute(sql, (purpose, PaymentState.DONE)).fetchone()
        return None if row is None else PaymentState(row[0])

    def attempts(self, purpose: str) -> int:
        """How many payments for this purpose were ever begun."""
        return int(self._db.execute("SELECT COUNT(*) FROM payments WHERE purpose=?", (purpose,)).fetchone()[0])

    def has_blinding(self, blinding: int) -> bool:
        """Whether a note with this blinding is, or was, the owner's."""
        return self._db.execute("SELECT 1 FROM notes WHERE blinding=?", (_blob(blinding),)).fetchone() is not None

    def notes_between(self, first: int, last: int) -> list[tuple[OwnNote, bool]]:
        """The owner's notes from position `first` to `last`, spent or not, and whether each is spent."""
        rows = self._db.execute(
            f"SELECT {_NOTE}, {_SPENT} FROM notes WHERE position BETWEEN ? AND ? ORDER BY position", (first, last)
        )
        return [(_own_note(row[:5]), bool(row[5])) for row in rows]

    def close(self) -> None:
        self._db.close()
