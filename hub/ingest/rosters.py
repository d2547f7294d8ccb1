"""Which meters are summed together from which slot on: the groupings of each microgrid.

Rules: pure; a grouping is made from signed births when every registered home of the microgrid announced itself,
or when the caller says to wait no longer and there are enough. Replacing a grouping takes effect in the slot
after the next boundary, so that every member can hear of it first; the very first one may begin earlier,
since nothing was summed before. A group that stays as it was keeps its roster, unless the grouping before never began: its
members may have heard of rosters that begin in the same slot, and only one that begins then replaces those.
Not here: who is grouped with whom (`partition`), time, MQTT, signatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hub.ingest.partition import partition, require_group_size
from hub.ingest.registry import Device, Registry
from openmg.masking import DEFAULT_GROUP, MAX_GROUP, MIN_GROUP, make_roster
from openmg.messages.telemetry import Birth, Roster, RosterMember

MAX_GROUPINGS = 16
"""Kept of each microgrid; a new one is made at most once a slot."""


@dataclass(frozen=True)
class Grouping:
    """The rosters of a microgrid from `from_slot` on until the next grouping's; no home is in two of them.

    A roster that was taken over from the grouping before begins earlier itself.
    """

    microgrid: int
    from_slot: int
    rosters: tuple[Roster, ...]

    @property
    def homes(self) -> int:
        return sum(len(roster.members) for roster in self.rosters)


def with_grouping(known: Sequence[Grouping], new: Grouping) -> tuple[Grouping, ...]:
    """A microgrid's groupings, oldest first, with a new one, which replaces those that would have begun then or later."""
    return (*(item for item in known if item.from_slot < new.from_slot), new)[-MAX_GROUPINGS:]


def grouping_at(known: Sequence[Grouping], slot: int) -> Grouping | None:
    """The grouping that covers the slot; None before the first."""
    return next((item for item in reversed(known) if item.from_slot <= slot), None)


class RosterBook:
    """Births and groupings of one hub. ValueError for a group size out of bounds."""

    def __init__(self, registry: Registry, group_size: int = DEFAULT_GROUP, operator: bytes = b"") -> None:
        self._registry, self._group_size, self._operator = registry, require_group_size(group_size), operator
        self._births: dict[str, Birth] = {}
        self._groupings: dict[int, tuple[Grouping, ...]] = {}

    def known(self, microgrid: int) -> tuple[Grouping, ...]:
        """The groupings of a microgrid, oldest first."""
        return self._groupings.get(microgrid, ())

    def since(self, microgrid: int, first_slot: int) -> Iterator[tuple[int, Roster]]:
        """(place in its grouping, roster) of those that cover `first_slot` or a later slot, newest first, each once."""
        known, told = self.known(microgrid), set()
        ended = sum(following.from_slot <= first_slot for following in known[1:])
        for grouping in reversed(known[ended:]):
            for place, roster in enumerate(grouping.rosters):
                if roster not in told:
                    told.add(roster)
                    yield place, roster

    def most_groups(self, microgrid: int) -> int:
        """How many groups any kept grouping of the microgrid has."""
        return max((len(item.rosters) for item in self.known(microgrid)), default=0)

    def record(self, grouping: Grouping) -> None:
        """Takes a grouping as published; one that would have begun then or later is replaced by it."""
        self._groupings[grouping.microgrid] = with_grouping(self.known(grouping.microgrid), grouping)

    def birth(self, device: Device, birth: Birth) -> bool:
        """Notes a verified birth; False when nothing changed."""
        if self._births.get(device.name) == birth:
            return False
        self._births[device.name] = birth
        return True

    def born(self, name: str) -> Birth | None:
        return self._births.get(name)

    def propose(self, microgrid: int, current_slot: int, first_slot: int, patient: bool) -> Grouping | None:
        """The grouping to publish and `record` now; None when the present one is right or more births are to come.

        current_slot: the slot that is running. first_slot: where a microgrid's very first grouping begins.
        patient: wait for every registered home.
        """
        homes = self._registry.homes(microgrid)
        present = [device for device in homes if device.name in self._births][:MAX_GROUP]
        if len(present) < MIN_GROUP or (patient and len(present) < min(len(homes), MAX_GROUP)):
            return None
        known = self.known(microgrid)
        last = known[-1].rosters if known else ()
        members = {device.address: self._member(device) for device in present}
        groups = partition(members, self._group_size, [[m.address for m in roster.members] for roster in last])
        clear_feeder = self._registry.has_feeder(microgrid)
        start = current_slot + 1 if known else first_slot
        rosters = tuple(
            make_roster(microgrid, start, [members[address] for address in group], clear_feeder, self._operator)
            for group in groups
        )
        if [_content(roster) for roster in rosters] == [_content(roster) for roster in last]:
            return None
        if known and known[-1].from_slot <= current_slot:
            same = {_content(roster): roster for roster in last}
            rosters = tuple(same.get(_content(roster), roster) for roster in rosters)
        return Grouping(microgrid, start, rosters)

    def too_small(self, microgrid: int) -> int | None:
        """How many homes announced themselves when these are too few for a group, so that nothing is published; else None."""
        homes = self._registry.homes(microgrid)
        born = sum(device.name in self._births for device in homes)
        return born if homes and born < MIN_GROUP and not self.known(microgrid) else None

    def _member(self, device: Device) -> RosterMember:
        birth = self._births[device.name]
        return RosterMember(
            device.name, device.address, birth.mask_public, birth.payment_key, birth.payment_box, device.approval
        )


def _content(roster: Roster) -> tuple[bytes, bool, tuple[RosterMember, ...]]:
    """All of a roster but when it begins."""
    return roster.operator, roster.clear_feeder, roster.members
