"""What a hub knows that lies as it likes: everything it saw, as linear equations in what it must not learn.

Unknown are each report's value, its self mask and the pair masks; a report is an equation in them, each mask that the hub
can compute from what it saw is another one. The functionals of the values alone that follow from all of them, found by
elimination, are all the hub can say of the values: masks are uniform and independent (keys under HKDF).
Not here: where the reports and keys come from (the tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Protocol

from masking_kit import SLOT

from openmg.identity import DeviceKey
from openmg.masking import MaskedSlot, Masker, threshold
from openmg.masking.masks import dealt_share, share_digest, xor
from openmg.messages.slot_opening import KEY_BYTES
from openmg.pairwise import mask_sign

Row = dict[str, Fraction]


class Members(Protocol):
    """A roster's members in its order, with their secrets: only so can be told which masks a key takes off."""

    keys: Sequence[DeviceKey]
    addresses: Sequence[bytes]
    maskers: Sequence[Masker]


class View:
    """Everything that the hub saw: reports (also second and late ones) and keys, and the secrets of members that collude."""

    def __init__(self, group: Members, colluding: frozenset[int] = frozenset(), slot: int = SLOT) -> None:
        self.group, self.colluding, self.slot = group, colluding, slot
        self.reports: list[tuple[int, MaskedSlot]] = []
        self.seen: set[bytes] = set()

    def hear(self, place: int, report: MaskedSlot) -> None:
        self.reports.append((place, report))

    def take(self, keys: bytes) -> None:
        self.seen |= {keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES)}

    def _knows(self, dealer: int, report: MaskedSlot) -> bool:
        """Whether enough shares of the report's self mask can be opened with any 32 bytes it saw."""
        group, good = self.group, 0
        for holder, address in enumerate(group.addresses):
            sealed, digest = dealt_share(report.shares, holder)
            keys = set(self.seen)
            if holder in self.colluding:
                keys.add(group.maskers[holder].pad(group.addresses[dealer], self.slot, report.self_commitment))
            good += any(share_digest(report.self_commitment, address, xor(sealed, key)) == digest for key in keys)
        return good >= threshold(len(group.keys))

    def learnt(self) -> list[set[int]]:
        """Supports of a basis of what can be said of the honest members' values, by the number of the report."""
        return [{int(name[1:]) for name in row if name[0] == "x"} for row in self.functionals()]

    def functionals(self) -> list[Row]:
        """A basis of what can be said of the honest members' values; `x3` is that of report 3."""
        group, rows, honest = self.group, [], []
        for number, (place, report) in enumerate(self.reports):
            row: Row = {f"x{number}": Fraction(1), f"b{number}": Fraction(1)}
            for peer, address in enumerate(group.addresses):
                if peer != place:
                    low, high = sorted((peer, place))
                    row[f"m{low},{high}"] = Fraction(mask_sign(group.addresses[place], address))
            rows.append(row)
            if place in self.colluding or self._knows(place, report):
                rows.append({f"b{number}": Fraction(1)})
            if place in self.colluding:
                rows.append({f"x{number}": Fraction(1)})
            else:
                honest.append(number)
        for low in range(len(group.keys)):
            for high in range(low + 1, len(group.keys)):
                key = group.maskers[low].pair_key(group.addresses[high], self.slot)
                if key in self.seen or {low, high} & self.colluding:
                    rows.append({f"m{low},{high}": Fraction(1)})
        return [{f"x{n}": row[f"x{n}"] for n in honest if f"x{n}" in row} for row in _of_values(rows)]


def _of_values(rows: list[Row]) -> list[Row]:
    """Eliminates every mask and every colluder's value first; what is left speaks of values alone."""
    rows, names = [dict(row) for row in rows], sorted({name for row in rows for name in row}, key=lambda n: (n[0] == "x", n))
    known = {next(iter(row)) for row in rows if len(row) == 1}
    left: list[Row] = [{n: c for n, c in row.items() if n not in known} for row in rows]
    done: list[Row] = []
    for name in names:
        pivot = next((row for row in left if name in row), None)
        if pivot is None:
            continue
        left.remove(pivot)
        if name[0] == "x":
            done.append(pivot)
        for row in left:
            if name in row:
                factor = row[name] / pivot[name]
                for other, value in pivot.items():
                    row[other] = row.get(other, Fraction(0)) - factor * value
                    if not row[other]:
                        del row[other]
    return done


def honest_run(view: View, places: frozenset[int]) -> None:
    """The members at these places are opened as the protocol says."""
    group: Any = view.group
    signed = {place: group.ask(place, group.notice(places)).signature for place in places}
    for place in places:
        view.take(group.ask(place, group.notice(places, signed)).keys)
