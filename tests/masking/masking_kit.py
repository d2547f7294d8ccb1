"""A group of members in one process: keys, roster, reports of one slot, and what each of them promised."""

from __future__ import annotations

from collections.abc import Iterable

from openmg.identity import DeviceKey
from openmg.masking import MaskedSlot, Masker, make_roster, roster_id
from openmg.masking.member import Promise, answer
from openmg.masking.opening import MaskedReport
from openmg.messages.slot_opening import OpeningNotice, SlotOpening
from openmg.messages.telemetry import RosterMember

CHAIN_ID = 7
SLOT = 1_979_000
KEYS = tuple(DeviceKey(bytes([100 + i]) * 32) for i in range(30))


def member(key: DeviceKey, approval: bytes = b"") -> RosterMember:
    return RosterMember(f"home-{KEYS.index(key) + 1}", key.address, key.mask_public, 0, bytes(32), approval)


class Group:
    """`count` of KEYS from the first on in a roster, in its order; member i has the values `value(i)` in the slot."""

    def __init__(self, count: int, clear_feeder: bool = False, first: int = 0) -> None:
        self.roster = make_roster(1, SLOT - 10, [member(key) for key in KEYS[first : first + count]], clear_feeder)
        self.id = roster_id(self.roster)
        by_address = {key.address: key for key in KEYS}
        self.keys = [by_address[item.address] for item in self.roster.members]
        self.addresses = [key.address for key in self.keys]
        self.maskers = [Masker(key, self.roster) for key in self.keys]
        self.reports: list[MaskedSlot] = [m.mask(SLOT, self.value(i)) for i, m in enumerate(self.maskers)]
        self.promises = [Promise(SLOT, self.id, report.self_commitment) for report in self.reports]

    @staticmethod
    def value(place: int) -> tuple[int, int, int, int]:
        return 1000 + 7 * place, 3 * place, 2**200 + place, 2**201 + place * place

    def notice(self, places: Iterable[int], signed: dict[int, bytes] | None = None) -> OpeningNotice:
        """The set of these members, with signatures by place."""
        chosen, signers = sorted(places), sorted(signed or {})
        return OpeningNotice(
            self.id,
            SLOT,
            tuple(self.addresses[i] for i in chosen),
            tuple(self.reports[i].self_commitment for i in chosen),
            tuple(self.addresses[i] for i in signers),
            tuple((signed or {})[i] for i in signers),
        )

    def ask(self, place: int, notice: OpeningNotice) -> SlotOpening:
        """The member's answer, its promise kept. Raises RefusedSet."""
        signing_key = self.keys[place].signing_key
        self.promises[place], opening = answer(self.maskers[place], self.promises[place], notice, CHAIN_ID, signing_key)
        return opening

    def masked(self, places: Iterable[int]) -> dict[bytes, MaskedReport]:
        return {self.addresses[i]: MaskedReport(*self.reports[i]) for i in places}

    def total(self, places: Iterable[int]) -> tuple[int, ...]:
        return tuple(sum(column) for column in zip(*(self.value(i) for i in places), strict=True))
