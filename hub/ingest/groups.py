"""Slot reports of a roster collected until they are whole; then, and only then, their sums are opened.

Rules: pure; a group with a gap opens nothing and names who is missing; a report under a roster, for a slot
the roster does not cover, that lies ahead or is older than MAX_OPEN_SLOTS, or from somebody who is no member is
refused. A late report still completes its group until then. Sums to which the members' commitments do not open count as
masks that do not cancel: validators would refuse them.
Not here: signatures and proofs (`reports`), storage (`store`), masks and sums of commitments (`openmg.masking`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openmg.masking import Commitments, open_sum, require_committed, roster_id
from openmg.messages.telemetry import Roster, SlotReport

GAP_AFTER_SLOTS = 2
"""A slot counts as incomplete once the second slot after it runs: reports leave within seconds of the boundary."""
MAX_OPEN_SLOTS = 96
"""A day: what is not whole by then cannot be settled any more and is forgotten."""
MAX_AHEAD_SLOTS = 1
"""A meter's clock may run this far ahead of the hub's."""
MAX_ROSTERS = 16
"""Of each microgrid; a new one is made at most once a slot."""


class RefusedReport(ValueError):
    """The report does not fit any group; the text says why."""


@dataclass(frozen=True)
class GroupSum:
    """A whole group: its roster, the signed reports in the roster's order, and the opened sums (Wh)."""

    roster: Roster
    slot: int
    rows: tuple[bytes, ...]
    import_wh: int
    export_wh: int

    @property
    def microgrid(self) -> int:
        return self.roster.microgrid

    @property
    def members(self) -> tuple[bytes, ...]:
        """Addresses, in the roster's order."""
        return tuple(member.address for member in self.roster.members)


@dataclass(frozen=True)
class Gap:
    """A group that opened nothing: the names that are missing, or none of them and a reason."""

    microgrid: int
    slot: int
    missing: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class _Member:
    masked: tuple[int, ...]
    commitments: Commitments
    raw: bytes


@dataclass
class _Group:
    reports: dict[bytes, _Member] = field(default_factory=dict)
    done: bool = False


class SlotGroups:
    """The open groups of every roster."""

    def __init__(self) -> None:
        self._rosters: dict[bytes, Roster] = {}
        self._groups: dict[tuple[bytes, int], _Group] = {}
        self._looked_to: dict[bytes, int] = {}

    def add_roster(self, roster: Roster, looked_to: int | None = None) -> None:
        """Expects reports under this roster from its `from_slot` on; gaps before `looked_to` are not reported again.

        Rosters of the microgrid that would have begun then or later are replaced by it.
        """
        others = {name: r.from_slot for name, r in self._rosters.items() if r.microgrid == roster.microgrid}
        kept = sorted((name for name in others if others[name] < roster.from_slot), key=lambda name: others[name])
        for name in others.keys() - set(kept[-MAX_ROSTERS + 1 :]):
            del self._rosters[name], self._looked_to[name]
        self._rosters[roster_id(roster)] = roster
        self._looked_to[roster_id(roster)] = max(roster.from_slot, looked_to or 0)

    def add(
        self, report: SlotReport, commitments: Commitments, address: bytes, raw: bytes, current_slot: int
    ) -> GroupSum | Gap | None:
        """Takes a verified report and its proved commitments. Its group's sum when it is whole now, a Gap when masks or
        commitments do not fit, else None.

        Raises RefusedReport.
        """
        roster = self._rosters.get(report.roster_id)
        if roster is None:
            raise RefusedReport("the report names an unknown roster")
        if address not in {member.address for member in roster.members}:
            raise RefusedReport("the device is not in the roster it names")
        if not self._covers(roster, report.slot):
            raise RefusedReport(f"the roster does not cover slot {report.slot}")
        if not current_slot - MAX_OPEN_SLOTS <= report.slot <= current_slot + MAX_AHEAD_SLOTS:
            raise RefusedReport(f"slot {report.slot} is not open; it is slot {current_slot} now")
        group = self._groups.setdefault((report.roster_id, report.slot), _Group())
        if group.done:
            return None
        group.reports[address] = _Member(report.masked, commitments, raw)
        if len(group.reports) < len(roster.members):
            return None
        group.done = True
        return self._open(roster, report.slot, group)

    def close(self, microgrid: int, slot: int) -> None:
        """Takes a slot whose sums were handed on before as whole; reports of it open nothing again."""
        for name, roster in self._rosters.items():
            if roster.microgrid == microgrid and self._covers(roster, slot):
                self._groups.setdefault((name, slot), _Group()).done = True

    def gaps(self, current_slot: int) -> tuple[Gap, ...]:
        """Slots that should be whole by now and are not, each told once; forgets what is too old."""
        found = []
        for name, roster in self._rosters.items():
            until = current_slot - GAP_AFTER_SLOTS + 1
            for slot in range(max(self._looked_to[name], until - MAX_OPEN_SLOTS), until):
                if self._covers(roster, slot):
                    found += self._gap(name, roster, slot)
            self._looked_to[name] = max(self._looked_to[name], until)
        for key in [key for key in self._groups if key[1] < current_slot - MAX_OPEN_SLOTS]:
            del self._groups[key]
        return tuple(found)

    def _gap(self, name: bytes, roster: Roster, slot: int) -> list[Gap]:
        group = self._groups.get((name, slot), _Group())
        if group.done:
            return []
        missing = tuple(member.device for member in roster.members if member.address not in group.reports)
        return [Gap(roster.microgrid, slot, missing, f"no report from {', '.join(missing)}")]

    def _covers(self, roster: Roster, slot: int) -> bool:
        """Whether this roster is the latest of its microgrid that begins at or before the slot."""
        starts = [r.from_slot for r in self._rosters.values() if r.microgrid == roster.microgrid]
        return slot >= roster.from_slot and not any(roster.from_slot < start <= slot for start in starts)

    @staticmethod
    def _open(roster: Roster, slot: int, group: _Group) -> GroupSum | Gap:
        try:
            sums = open_sum(roster, {address: member.masked for address, member in group.reports.items()})
            require_committed(sums, (member.commitments for member in group.reports.values()))
        except ValueError as error:
            return Gap(roster.microgrid, slot, (), str(error))
        rows = tuple(group.reports[member.address].raw for member in roster.members)
        return GroupSum(roster, slot, rows, sums.import_wh, sums.export_wh)
