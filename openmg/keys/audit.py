"""What an auditor learns of an owner, from a viewing key or a disclosure, checked against the public chain.

An incoming key finds every note that the owner ever received, a full one also which of them were spent: both for all
positions of the tree, past and future, for a key cannot be limited to a range (docs/KEYS.md says why). A disclosure is
limited: it opens the notes of a range. Each opening is checked against the commitment on chain, which nobody can open
in two ways. That no note of the range was left out, and its word on what was spent, cannot be checked.
Pure but for the command. Rules: an auditor reads leaves and nullifiers from a node of its own, never from whom it audits.

    python -m openmg.keys.audit SECRET_FILE CHAIN_FILE [--network test]

SECRET_FILE holds a viewing key or a disclosure, CHAIN_FILE the events as JSON lines: `{"index": 0, "cm": "0x...",
"ciphertext": "0x..."}` for each NoteQueued, `{"start": 0, "firstIndex": 0, "count": 16}` for each BatchAppended and
`{"nullifier": "0x..."}` for each NullifierSpent. A note that waits in the queue has no position yet and is not shown.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from openmg.keys.text import KeyTextError, decode_address, decode_viewing_key, encode_address
from openmg.zk.notes import IncomingViewingKey, Note, NoteScanner, ShieldedAddress, ViewingKey
from openmg.zk.tree import CAPACITY

FORMAT = "openmg disclosure 1"
MAX_POSITION = (1 << 52) - 1
BATCH_LEAVES = 16
"""Most leaves of one BatchAppended."""
_NOTE_FIELDS = {"position", "commitment", "asset", "amount", "blinding"}
_SPENT_FIELDS = {"spent", "nullifier"}


class AuditError(ValueError):
    """What was handed over or read is malformed, or contradicts the chain; the error says where."""


@dataclass(frozen=True)
class ChainNote:
    """A leaf of the note tree as the chain emitted it; the position counts over all trees."""

    position: int
    commitment: int
    ciphertext: bytes


@dataclass(frozen=True)
class SeenNote:
    """A note of the owner at its position; `spent` is None when that cannot be seen or was not said."""

    position: int
    note: Note
    spent: bool | None = None

    def nullifier(self, nullifier_key: int) -> int:
        return self.note.nullifier(nullifier_key, self.position // CAPACITY, self.position % CAPACITY)


def notes_seen(key: IncomingViewingKey, chain: Iterable[ChainNote], nullifiers: Collection[int] = ()) -> list[SeenNote]:
    """The owner's notes among the leaves; with a full viewing key also whether each is among the spent `nullifiers`."""
    scanner, found = NoteScanner(key), []
    for leaf in chain:
        note = scanner.open(leaf.ciphertext, leaf.commitment)
        if note is not None:
            seen = SeenNote(leaf.position, note)
            if isinstance(key, ViewingKey):
                seen = SeenNote(leaf.position, note, seen.nullifier(key.nullifier_key) in nullifiers)
            found.append(seen)
    return found


@dataclass(frozen=True)
class Disclosure:
    """The owner's notes from position `first` to `last` (both included), opened.

    `nullifiers` has one for each spent note of a full disclosure, and is None in an incoming one, which says nothing of
    spends. That a nullifier is the note's own can be checked with the nullifier key only, which a disclosure does not
    contain: it is the owner's word.
    """

    network: str
    address: ShieldedAddress
    first: int
    last: int
    notes: tuple[SeenNote, ...]
    nullifiers: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= MAX_POSITION:
            raise AuditError(f"positions {self.first} to {self.last} are no range of the tree")

    def to_json(self) -> str:
        """As text for the auditor."""
        return json.dumps(
            {
                "format": FORMAT,
                "kind": "incoming" if self.nullifiers is None else "full",
                "address": encode_address(self.address, self.network),
                "from": self.first,
                "to": self.last,
                "notes": [self._row(seen) for seen in self.notes],
            },
            indent=1,
        )

    def _row(self, seen: SeenNote) -> dict[str, Any]:
        note = seen.note
        row: dict[str, Any] = {
            "position": seen.position,
            "commitment": hex(note.commitment),
            "asset": hex(note.asset),
            "amount": str(note.amount),
            "blinding": hex(note.blinding),
        }
        if self.nullifiers is not None:
            nullifier = self.nullifiers.get(seen.position)
            row |= {"spent": nullifier is not None, "nullifier": None if nullifier is None else hex(nullifier)}
        return row

    @staticmethod
    def from_json(text: str, network: str) -> Disclosure:
        """The disclosure in the text; AuditError when it is none, or of another network."""
        try:
            return _disclosure(json.loads(text), network)
        except (TypeError, KeyError, ValueError, RecursionError) as error:
            raise AuditError(f"it is no disclosure of this version: {error}") from None

    def check(self, commitments: Mapping[int, int], nullifiers: Collection[int] = ()) -> None:
        """AuditError when a note is outside the range, listed twice, or not the leaf on chain, or a nullifier is not spent.

        `commitments` are the chain's leaves by position, `nullifiers` its spent ones.
        """
        positions = [seen.position for seen in self.notes]
        if len(set(positions)) != len(positions):
            raise AuditError("it opens a position twice")
        for seen in self.notes:
            if not self.first <= seen.position <= self.last:
                raise AuditError(f"note {seen.position} is outside the range {self.first} to {self.last}")
            if commitments.get(seen.position) != seen.note.commitment:
                raise AuditError(f"note {seen.position} does not open the leaf that is on chain")
        claimed = list((self.nullifiers or {}).values())
        if len(set(claimed)) != len(claimed) or not all(nullifier in nullifiers for nullifier in claimed):
            raise AuditError("it says of a note that it was spent, with a nullifier that is not on chain or said twice")


def _disclosure(table: dict[str, Any], network: str) -> Disclosure:
    if table["format"] != FORMAT or table["kind"] not in ("incoming", "full"):
        raise AuditError("its format or kind is unknown")
    address, full = decode_address(table["address"], network), table["kind"] == "full"
    notes: list[SeenNote] = []
    nullifiers: dict[int, int] = {}
    for row in table["notes"]:
        if row.keys() != _NOTE_FIELDS | (_SPENT_FIELDS if full else set()):
            raise AuditError("a note does not have the fields of its kind")
        blinding, position = int(row["blinding"], 16), int(row["position"])
        note = Note(int(row["asset"], 16), int(row["amount"]), address.public_key, blinding)
        if note.commitment != int(row["commitment"], 16):
            raise AuditError(f"note {position} does not open its own commitment")
        notes.append(SeenNote(position, note, row["spent"] is True if full else None))
        if full and row["nullifier"] is not None:
            nullifiers[position] = int(row["nullifier"], 16)
        if full and (row["nullifier"] is not None) != (row["spent"] is True):
            raise AuditError(f"note {position} is spent without a nullifier, or the other way round")
    return Disclosure(network, address, int(table["from"]), int(table["to"]), tuple(notes), nullifiers if full else None)


@dataclass(frozen=True)
class _Batch:
    """Leaves of the queue that went into the tree: the one at place `first` of the queue lies at position `start`."""

    start: int
    first: int
    count: int


def read_chain(lines: Iterable[str]) -> tuple[list[ChainNote], set[int]]:
    """Leaves of the tree by position, and nullifiers, of a chain file; AuditError names the line that is malformed."""
    queue: dict[int, tuple[int, bytes]] = {}
    batches: list[_Batch] = []
    nullifiers: set[int] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "nullifier" in row:
                nullifiers.add(int(row["nullifier"], 16))
            elif "start" in row:
                batches.append(_Batch(int(row["start"]), int(row["firstIndex"]), int(row["count"])))
            else:
                queue[int(row["index"])] = int(row["cm"], 16), bytes.fromhex(row["ciphertext"].removeprefix("0x"))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise AuditError(f"line {number} of the chain file is no event: {error!r}") from None
    leaves = {batch.start + i: queue.get(batch.first + i) for batch in batches for i in range(min(batch.count, BATCH_LEAVES))}
    if None in leaves.values():
        raise AuditError("a batch of the chain file holds notes that it does not name; add all NoteQueued events")
    return [ChainNote(position, *leaf) for position, leaf in sorted(leaves.items()) if leaf is not None], nullifiers


def audit(secret: str, chain: Iterable[str], network: str) -> list[SeenNote]:
    """The notes that a viewing key or a disclosure shows on this chain; AuditError or KeyTextError when it shows none."""
    leaves, nullifiers = read_chain(chain)
    if not secret.lstrip().startswith("{"):
        return notes_seen(decode_viewing_key(secret, network), leaves, nullifiers)
    disclosure = Disclosure.from_json(secret, network)
    disclosure.check({leaf.position: leaf.commitment for leaf in leaves}, nullifiers)
    return list(disclosure.notes)


def main(argv: list[str] | None = None) -> int:
    import argparse
    import sys
    from pathlib import Path

    from openmg.keys.text import NETWORKS

    parser = argparse.ArgumentParser(prog="python -m openmg.keys.audit", description="What a viewing key or disclosure shows.")
    parser.add_argument("secret", type=Path, help="file with the key or disclosure")
    parser.add_argument("chain", type=Path, help="file with the chain's events")
    parser.add_argument("--network", choices=tuple(NETWORKS), default="test")
    arguments = parser.parse_args(argv)
    try:
        with arguments.chain.open(encoding="utf-8") as chain:
            notes = audit(arguments.secret.read_text(encoding="utf-8"), chain, arguments.network)
    except (AuditError, KeyTextError, UnicodeDecodeError) as error:
        print(f"{arguments.secret}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename} cannot be read ({error.strerror}); give the paths of two files", file=sys.stderr)
        return 1
    for seen in notes:
        spent = {None: "not shown", True: "spent", False: "unspent"}[seen.spent]
        print(
            json.dumps(
                {"position": seen.position, "asset": hex(seen.note.asset), "amount": str(seen.note.amount), "spent": spent}
            )
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
