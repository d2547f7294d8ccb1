"""Slot reports of a roster collected until they are whole or their time is over; then their survivor set is opened.

Rules: pure. All members reported: the set is fixed at once. Somebody is missing: it is fixed once the second slot after the
reported one runs *and* no report has come for as long (so that a backlog after an outage is not cut off), if enough members are
there; until then the group opens nothing and names who is missing. A set is fixed once: a report that comes later, and a
second report of a member, are never opened.
A report under an unknown roster, for a slot the roster does not cover, that lies ahead or is older than MAX_OPEN_SLOTS, or from
somebody who is no member is refused. Sums to which the members' commitments do not open are a gap. What was closed for good
(`close`) opens nothing any more.
Not here: signatures and proofs (`reports`), the answers to a set (`openings`), storage (`store`), which sets may be opened
(`openmg.masking.survivors`), which groups there are (`rosters`), what becomes of a slot some of whose groups stay closed
(`joining`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.ingest.openings import HeldReport, Opening, RefusedOpening
from hub.ingest.rosters import Grouping, grouping_at, with_grouping
from openmg.masking import Commitments, SlotSums, roster_id, threshold
from openmg.masking.opening import MaskedReport, NotYet
from openmg.masking.survivors import RefusedSet, require_set
from openmg.messages.slot_opening import OpeningNotice, SlotOpening
from openmg.messages.telemetry import Roster, SlotReport

GAP_AFTER_SLOTS = 2
"""A slot counts as incomplete once the second slot after it runs: reports leave within seconds of the boundary."""
MAX_OPEN_SLOTS = 96
"""A day: what is not opened by then cannot be settled any more and is forgotten."""
MAX_AHEAD_SLOTS = 1
"""A meter's clock may run this far ahead of the hub's."""


class RefusedReport(ValueError):
    """The report does not fit any group; the text says why."""


@dataclass(frozen=True)
class GroupSum:
    """An opened group: its roster, the survivors' signed reports in the roster's order, the sums, and the signatures under the
    survivor set (address -> 65 bytes; empty when nobody is left out). `number`: which group of the microgrid it is, from 1."""

    roster: Roster
    slot: int
    rows: tuple[bytes, ...]
    sums: SlotSums
    members: tuple[bytes, ...]
    signatures: dict[bytes, bytes] = field(default_factory=dict)
    number: int = 1

    @property
    def microgrid(self) -> int:
        return self.roster.microgrid

    @property
    def import_wh(self) -> int:
        return self.sums.import_wh

    @property
    def export_wh(self) -> int:
        return self.sums.export_wh


@dataclass(frozen=True)
class Gap:
    """A group that opened nothing: the names that are missing, or none of them and a reason. `number`: as of a GroupSum.

    final: the slot went on without the group, which therefore stays closed.
    """

    microgrid: int
    slot: int
    missing: tuple[str, ...]
    reason: str
    number: int = 1
    final: bool = False


@dataclass
class _Group:
    reports: dict[bytes, HeldReport] = field(default_factory=dict)
    last_arrival: int = 0
    """Slot that ran when the last report came."""
    notice: OpeningNotice | None = None
    opening: Opening | None = None
    done: bool = False


class SlotGroups:
    """The open groups of every roster."""

    def __init__(self, chain_id: int) -> None:
        self._chain_id = chain_id
        self._groupings: dict[int, tuple[Grouping, ...]] = {}
        self._rosters: dict[bytes, Roster] = {}
        self._groups: dict[tuple[bytes, int], _Group] = {}
        self._looked_to: dict[bytes, int] = {}
        self.late = 0
        """Reports that came after their slot's set was fixed, or were a member's second."""

    def add_grouping(self, grouping: Grouping, looked_to: int | None = None) -> None:
        """Expects reports under these rosters from `from_slot` on; gaps before `looked_to` are not reported again.

        Groupings of the microgrid that would have begun then or later are replaced by it.
        """
        microgrid = grouping.microgrid
        kept = self._groupings[microgrid] = with_grouping(self._groupings.get(microgrid, ()), grouping)
        known = {roster_id(roster): roster for item in kept for roster in item.rosters}
        for name in [name for name, roster in self._rosters.items() if roster.microgrid == microgrid and name not in known]:
            del self._rosters[name], self._looked_to[name]
        for name, roster in known.items():
            self._rosters[name] = roster
            self._looked_to.setdefault(name, max(grouping.from_slot, looked_to or 0))

    def grouping(self, microgrid: int, slot: int) -> Grouping | None:
        """The groups of a slot; None when they are not known (any more)."""
        return grouping_at(self._groupings.get(microgrid, ()), slot)

    def restore_set(self, notice: OpeningNotice) -> None:
        """Holds to a set that was fixed before a restart; its reports are added again afterwards."""
        if notice.roster_id in self._rosters:
            self._groups.setdefault((notice.roster_id, notice.slot), _Group()).notice = notice

    def add(
        self, report: SlotReport, shares: bytes, commitments: Commitments, address: bytes, raw: bytes, current_slot: int
    ) -> Opening | None:
        """Takes a verified report, the shares delivered with it and its proved commitments. The opening, when it is now known
        who is in it.

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
        held = HeldReport(MaskedReport(report.masked, report.self_commitment, shares), commitments, raw)
        if group.done or group.opening is not None or not self._expected(group, address, held):
            self.late += group.reports.get(address) != held
            return None
        group.reports[address], group.last_arrival = held, current_slot
        wanted = len(roster.members) if group.notice is None else len(group.notice.survivors)
        return self._fix(roster, report.slot, group) if len(group.reports) == wanted else None

    @staticmethod
    def _expected(group: _Group, address: bytes, held: HeldReport) -> bool:
        """Whether it is the member's first report, and the one that a set from before a restart names."""
        if group.notice is None:
            return address not in group.reports
        named = dict(zip(group.notice.survivors, group.notice.commitments, strict=True))
        return named.get(address) == held.masked.self_commitment

    def _fix(self, roster: Roster, slot: int, group: _Group) -> Opening:
        if group.notice is None:
            survivors = tuple(member.address for member in roster.members if member.address in group.reports)
            commitments = tuple(group.reports[address].masked.self_commitment for address in survivors)
            group.notice = OpeningNotice(roster_id(roster), slot, survivors, commitments)
        ordered = {address: group.reports[address] for address in group.notice.survivors}
        group.opening = Opening(roster, group.notice, ordered, self._chain_id)
        return group.opening

    def due(self, current_slot: int) -> tuple[Opening, ...]:
        """Fixes the sets of groups whose time is over and that have enough members."""
        fixed = []
        for (name, slot), group in self._groups.items():
            roster = self._rosters.get(name)
            quiet_since = max(slot, group.last_arrival)
            if roster is None or group.done or group.notice is not None or current_slot < quiet_since + GAP_AFTER_SLOTS:
                continue
            if self._why_closed(roster, group) == "":
                fixed.append(self._fix(roster, slot, group))
        return tuple(fixed)

    @staticmethod
    def _why_closed(roster: Roster, group: _Group) -> str:
        """Why the members that are there cannot be opened; empty when they can."""
        try:
            require_set(roster, tuple(group.reports))
        except RefusedSet as error:
            return str(error)
        return ""

    def answer(self, address: bytes, message: SlotOpening) -> GroupSum | Gap | OpeningNotice | None:
        """Takes a member's answer: the group's sum, a Gap when it does not open, or the notice to show anew.

        Raises RefusedOpening.
        """
        group = self._groups.get((message.roster_id, message.slot))
        if group is None or group.opening is None:
            raise RefusedOpening("the answer is for a slot that is not being opened")
        if group.done:
            return None
        opening = group.opening
        if opening.take(address, message):
            return opening.notice
        try:
            sums = opening.sums()
        except NotYet:
            return None
        except ValueError as error:
            group.done = True
            return Gap(opening.roster.microgrid, opening.slot, (), str(error), self._number(opening.roster, opening.slot))
        group.done = True
        rows, number = tuple(report.raw for report in opening.reports.values()), self._number(opening.roster, opening.slot)
        return GroupSum(opening.roster, opening.slot, rows, sums, tuple(opening.reports), opening.signatures, number)

    def asking(self) -> tuple[Opening, ...]:
        """Openings that wait for answers."""
        return tuple(g.opening for g in self._groups.values() if g.opening is not None and not g.done)

    def close(self, microgrid: int, slot: int) -> tuple[Gap, ...]:
        """Takes a slot as settled: reports of it open nothing again. The gaps of the groups that opened nothing until now."""
        left = []
        for name, roster in self._rosters.items():
            if roster.microgrid == microgrid and self._covers(roster, slot):
                left += self._gap(name, roster, slot)
                self._groups.setdefault((name, slot), _Group()).done = True
        return tuple(left)

    def gaps(self, current_slot: int) -> tuple[Gap, ...]:
        """Slots that should be opened by now and are not, each told once; forgets what is too old."""
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
        group, number = self._groups.get((name, slot), _Group()), self._number(roster, slot)
        if group.done:
            return []
        if group.opening is not None:
            silent = group.opening.silent
            return [Gap(roster.microgrid, slot, silent, f"no keys to open it from {', '.join(silent)}", number)]
        missing = tuple(member.device for member in roster.members if member.address not in group.reports)
        reason = f"no report from {', '.join(missing)}"
        if len(group.reports) >= threshold(len(roster.members)):
            closed = self._why_closed(roster, group)
            reason += f"; {closed}" if closed else "; the others' sum is opened without them"
        return [Gap(roster.microgrid, slot, missing, reason, number)]

    def _covers(self, roster: Roster, slot: int) -> bool:
        """Whether the slot's grouping has this roster."""
        grouping = self.grouping(roster.microgrid, slot)
        return grouping is not None and roster in grouping.rosters

    def _number(self, roster: Roster, slot: int) -> int:
        """Which group of the slot's grouping it is, from 1."""
        grouping = self.grouping(roster.microgrid, slot)
        return 1 + grouping.rosters.index(roster) if grouping is not None and roster in grouping.rosters else 1
