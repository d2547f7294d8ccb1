"""The groups of a slot that were opened, joined into one transaction: its leaves are under one root.

Rules: pure. A slot is joined at once when all its groups are open; else WAIT_SLOTS after the first of them was, without those
that are closed then: they are left out of the slot for good, because its root must not change once it was used. So no group
waits for another longer than that.
Not here: how a group opens (`groups`), the hand-over (`delivery`), what replicas check (`hub.ppdl.app.slots`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.ingest.groups import GroupSum
from hub.ingest.rosters import Grouping
from openmg.messages.telemetry import Roster

WAIT_SLOTS = 4
"""An hour. A group that misses members opens without them, where it may, in the second slot after (`GAP_AFTER_SLOTS`)."""


@dataclass(frozen=True)
class OpenedSlot:
    """A slot of a microgrid as it goes to the chain: the sums of its open groups, and the rosters of those left out."""

    microgrid: int
    slot: int
    groups: tuple[GroupSum, ...]
    closed: tuple[Roster, ...] = ()

    @property
    def import_wh(self) -> int:
        return sum(group.import_wh for group in self.groups)

    @property
    def export_wh(self) -> int:
        return sum(group.export_wh for group in self.groups)

    @property
    def meters(self) -> int:
        """How many meters are in the sums."""
        return sum(len(group.members) for group in self.groups)


@dataclass
class _Waiting:
    grouping: Grouping
    since_slot: int
    """Slot that ran when the first group was opened."""
    opened: dict[Roster, GroupSum] = field(default_factory=dict)


class Joining:
    """Opened groups that wait for the others of their slot."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        """By microgrid and slot; bounded by the slots that can be open."""

    def add(self, group: GroupSum, grouping: Grouping, current_slot: int) -> OpenedSlot | None:
        """Takes an opened group of a slot with this grouping; the slot, when that was the last."""
        place = group.microgrid, group.slot
        waiting = self._waiting.setdefault(place, _Waiting(grouping, current_slot))
        waiting.opened[group.roster] = group
        return self._join(place) if len(waiting.opened) == len(waiting.grouping.rosters) else None

    def due(self, current_slot: int) -> tuple[OpenedSlot, ...]:
        """The slots that have waited long enough, oldest first."""
        over = sorted(place for place, item in self._waiting.items() if current_slot >= item.since_slot + WAIT_SLOTS)
        return tuple(self._join(place) for place in over)

    def _join(self, place: tuple[int, int]) -> OpenedSlot:
        waiting = self._waiting.pop(place)
        rosters, opened = waiting.grouping.rosters, waiting.opened
        groups = tuple(opened[roster] for roster in rosters if roster in opened)
        return OpenedSlot(*place, groups, tuple(roster for roster in rosters if roster not in opened))
