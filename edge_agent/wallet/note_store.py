"""The wallet's notes on disk: every leaf of the public note tree, which of them are the owner's, and payments under way.

Rules: a payment is written, and its inputs set aside, before its proof leaves the meter, so that a crash can lead to a
payment that is not made, never to one made twice. It is done when its change is in the tree: nobody else knows the
change's blinding, so nobody can make us believe it. Inputs are free again once the payment's `valid_until` has passed
without its change in the tree. The meter may have been blind then, so a purpose is tried again only with the same
inputs, whose nullifiers the chain takes once; should the first attempt be found in the tree after all, it counts.
A change also says by itself what it spent and for which purpose (`edge_agent.wallet.change`), so that all of this holds
for payments that another database knew, before the wallet was restored.
The file is the journal's, mode 0600.
Not here: which notes to spend (`edge_agent.wallet.notes`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.wallet.change import Change, purpose_number
from edge_agent.wallet.journal import open_private

EXPIRY_MARGIN_SECONDS = 30
"""The chain's clock may run behind the meter's: inputs stay set aside so much longer than the payment is valid."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS leaves (
    position INTEGER PRIMARY KEY, commitment BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS notes (
    position INTEGER PRIMARY KEY, asset BLOB NOT NULL, amount BLOB NOT NULL, blinding BLOB NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0, payment INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS payments (
    number INTEGER PRIMARY KEY, purpose TEXT NOT NULL, change BLOB NOT NULL, valid_until INTEGER NOT NULL,
    state TEXT NOT NULL, prove_ms INTEGER, backend TEXT
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_payment_for_a_purpose ON payments(purpose) WHERE state != 'expired';
CREATE TABLE IF NOT EXISTS payment_inputs (
    payment INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (payment, position)
) STRICT;
CREATE TABLE IF NOT EXISTS served (
    purpose BLOB PRIMARY KEY
) STRICT;
"""


class PaymentState(enum.StrEnum):
    """A payment is under way until its change is in the tree (done) or its time has passed (expired)."""

    UNDER_WAY = "under way"
    DONE = "done"
    EXPIRED = "expired"


@dataclass(frozen=True)
class OwnNote:
    """A note of the owner and its place in the tree."""

    position: int
    asset: int
    amount: int
    blinding: int


@dataclass(frozen=True)
class Leaf:
    """A leaf of the public tree, and the note when it is the owner's."""

    position: int
    commitment: int
    own: OwnNote | None = None
    change: Change | None = None
    """What the note says when it is the change of a payment of the owner."""


def _blob(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _own_note(row: tuple[int, bytes, bytes, bytes]) -> OwnNote:
    return OwnNote(row[0], *(int.from_bytes(part, "big") for part in row[1:]))


class NoteStore:
    """Leaves, own notes and payments."""

    def __init__(self, path: Path) -> None:
        self._db = open_private(path)
        self._db.executescript(_SCHEMA)

    def leaves(self) -> list[int]:
        """All commitments in order of position."""
        return [int.from_bytes(row[0], "big") for row in self._db.execute("SELECT commitment FROM leaves ORDER BY position")]

    def leaf_count(self) -> int:
        """How many leaves of the tree were heard of."""
        return int(self._db.execute("SELECT COUNT(*) FROM leaves").fetchone()[0])

    def add_leaves(self, leaves: Iterable[Leaf]) -> None:
        """The next leaves of the tree, all or none; completes the payments that made them."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for leaf in leaves:
                self._add_leaf(leaf)

    def _add_leaf(self, leaf: Leaf) -> None:
        commitment, own = _blob(leaf.commitment), leaf.own
        self._db.execute("INSERT OR IGNORE INTO leaves VALUES(?,?)", (leaf.position, commitment))
        if own is not None:
            self._db.execute(
                "INSERT OR IGNORE INTO notes(position, asset, amount, blinding) VALUES(?,?,?,?)",
                (own.position, _blob(own.asset), _blob(own.amount), _blob(own.blinding)),
            )
        for (number,) in self._db.execute("SELECT number FROM payments WHERE change=?", (commitment,)).fetchall():
            self._complete(number)
        if leaf.change is not None:
            self._take_change(leaf.change)

    def _complete(self, number: int) -> None:
        rows = self._db.execute("SELECT position FROM payment_inputs WHERE payment=?", (number,))
        self._spend([row[0] for row in rows], number)
        self._db.execute("UPDATE payments SET state=? WHERE number=?", (PaymentState.DONE, number))

    def _take_change(self, change: Change) -> None:
        """A payment of the owner that this database may not know was made."""
        self._db.execute("INSERT OR IGNORE INTO served VALUES(?)", (_blob(change.purpose),))
        for position in change.positions:
            row = self._db.execute("SELECT spent FROM notes WHERE position=?", (position,)).fetchone()
            if row is not None and not row[0]:
                self._spend([position], None)

    def _spend(self, positions: list[int], by: int | None) -> None:
        """These notes are spent, so whatever else would spend them can no longer be made."""
        places = ",".join("?" * len(positions))
        self._db.execute(f"UPDATE notes SET spent=1 WHERE position IN ({places})", positions)
        rivals = self._db.execute(
            f"SELECT DISTINCT payment FROM payment_inputs JOIN payments ON payment=number"
            f" WHERE position IN ({places}) AND payment IS NOT ? AND state=?",
            (*positions, by, PaymentState.UNDER_WAY),
        ).fetchall()
        for (rival,) in rivals:
            self._expire(rival)

    def spendable(self, asset: int) -> list[OwnNote]:
        """Unspent notes of the asset that no payment has set aside, largest first."""
        rows = self._db.execute(
            "SELECT position, asset, amount, blinding FROM notes WHERE spent=0 AND payment IS NULL AND asset=?",
            (_blob(asset),),
        )
        return sorted(map(_own_note, rows), key=lambda note: (-note.amount, note.position))

    def tied_inputs(self, purpose: str) -> list[OwnNote]:
        """The inputs of an expired attempt at this purpose that may yet turn out to have been made; empty if none may.

        It may as long as none of its inputs was seen spent by another payment.
        """
        rows = self._db.execute(
            "SELECT position, asset, amount, blinding FROM notes JOIN payment_inputs USING(position) WHERE"
            " payment_inputs.payment=(SELECT MAX(number) FROM payments WHERE purpose=? AND state=? AND NOT EXISTS"
            " (SELECT 1 FROM payment_inputs AS used JOIN notes USING(position) WHERE used.payment=number AND spent=1))",
            (purpose, PaymentState.EXPIRED),
        )
        return [_own_note(row) for row in rows]

    def begin_payment(self, purpose: str, inputs: tuple[OwnNote, ...], change: int, valid_until: int) -> int:
        """Set the inputs aside for a payment whose change note is `change`; returns its number."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            cursor = self._db.execute(
                "INSERT INTO payments(purpose, change, valid_until, state) VALUES(?,?,?,?)",
                (purpose, _blob(change), valid_until, PaymentState.UNDER_WAY),
            )
            number = cursor.lastrowid or 0
            pairs = [(number, note.position) for note in inputs]
            self._db.executemany("UPDATE notes SET payment=? WHERE position=?", pairs)
            self._db.executemany("INSERT INTO payment_inputs VALUES(?,?)", pairs)
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
        self._db.execute("UPDATE notes SET payment=NULL WHERE payment=? AND spent=0", (number,))
        self._db.execute("UPDATE payments SET state=? WHERE number=?", (PaymentState.EXPIRED, number))

    def payment_under_way(self) -> bool:
        row = self._db.execute("SELECT 1 FROM payments WHERE state=? LIMIT 1", (PaymentState.UNDER_WAY,)).fetchone()
        return row is not None

    def has_payment(self, purpose: str) -> bool:
        """Whether a payment for this purpose is under way or done, or was made before the wallet was restored."""
        sql = "SELECT 1 FROM payments WHERE purpose=? AND state!=? UNION SELECT 1 FROM served WHERE purpose=?"
        row = self._db.execute(sql, (purpose, PaymentState.EXPIRED, _blob(purpose_number(purpose)))).fetchone()
        return row is not None

    def attempts(self, purpose: str) -> int:
        """How many payments for this purpose were ever begun."""
        return int(self._db.execute("SELECT COUNT(*) FROM payments WHERE purpose=?", (purpose,)).fetchone()[0])

    def has_blinding(self, blinding: int) -> bool:
        """Whether a note with this blinding is, or was, the owner's."""
        return self._db.execute("SELECT 1 FROM notes WHERE blinding=?", (_blob(blinding),)).fetchone() is not None

    def notes_between(self, first: int, last: int) -> list[tuple[OwnNote, bool]]:
        """The owner's notes from position `first` to `last`, spent or not, and whether each is spent."""
        rows = self._db.execute(
            "SELECT position, asset, amount, blinding, spent FROM notes WHERE position BETWEEN ? AND ? ORDER BY position",
            (first, last),
        )
        return [(_own_note(row[:4]), bool(row[4])) for row in rows]

    def close(self) -> None:
        self._db.close()
