"""What the console shows of each microgrid: the sums of its last slot, its groups and why one is closed, and its feeder.

Rules: fed by ingest's events in the hub's loop, read by the overview's thread; each change is one assignment. A microgrid shows
the sum of its open groups, and says of every closed one for whom it waits. Its `gap` is who is waited for when no group at all
is open.
Not here: meters and readings (`overview`), when a group opens (`hub.ingest`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hub.console.board import StatusBoard
from hub.ingest.groups import Gap, GroupSum
from hub.ingest.joining import OpenedSlot
from hub.ingest.registry import Registry
from hub.ingest.rosters import Grouping, RosterBook
from openmg.clock import slot_start
from openmg.masking import MIN_GROUP
from openmg.messages.feeder import FeederLive
from openmg.messages.telemetry import Roster


class GridView:
    """The microgrids of one hub; puts series and events on the board as they come."""

    def __init__(self, board: StatusBoard, registry: Registry, rosters: RosterBook) -> None:
        self._board, self._registry, self._rosters = board, registry, rosters
        self._slots: dict[int, OpenedSlot] = {}
        self._opened: dict[tuple[int, int], GroupSum] = {}
        """The newest sum of a group, by microgrid and number."""
        self._gaps: dict[tuple[int, int], Gap] = {}
        """Why a group is closed, until it opens again; final once it was left out of a slot."""
        self._live: dict[int, FeederLive] = {}
        self._small: dict[int, int] = {}

    # Events, in the hub's loop

    def on_slot(self, slot: OpenedSlot) -> None:
        """Sums of a slot were agreed on or are on their way."""
        self._slots[slot.microgrid] = slot
        at = slot_start(slot.slot)
        self._board.append(f"grid.mg{slot.microgrid}.import_wh", at, slot.import_wh)
        self._board.append(f"grid.mg{slot.microgrid}.export_wh", at, slot.export_wh)

    def on_group(self, group: GroupSum) -> None:
        place = group.microgrid, group.number
        self._opened[place] = group
        self._gaps.pop(place, None)

    def on_gap(self, gap: Gap) -> None:
        place = gap.microgrid, gap.number
        known = self._gaps.get(place)
        self._gaps[place] = gap if known is None else replace(gap, final=gap.final or known.final)
        if known is not None and (known.final or not gap.final):
            return  # it was told when the gap began
        names, (english, korean) = ", ".join(gap.missing) or gap.reason, self._where(gap)
        if gap.final:
            text = f"{english} is left out of a slot, waiting for {names}; the others' energy waits no longer."
            text_ko = f"{korean}: {names} 보고가 없어 이 그룹을 뺀 채 구간을 합의합니다."
        else:
            text = f"{english}: a slot stays closed, waiting for {names}."
            text_ko = f"{korean}: {names} 보고가 없어 구간을 공개하지 않습니다."
        self._board.event("gap", text, text_ko, "warning")

    def on_small_group(self, microgrid: int, present: int, needed: int) -> None:
        """Too few homes are there for a sum that hides each of them."""
        self._small[microgrid] = present
        self._board.event(
            "gap",
            f"Microgrid {microgrid}: group too small: {present} of {needed} meters; nothing is published.",
            f"마이크로그리드 {microgrid}: 그룹이 너무 작습니다: 계량기 {present}/{needed}개; 아무것도 공개하지 않습니다.",
            "warning",
        )

    def on_grouping(self, grouping: Grouping) -> None:
        """Groups were made anew: what was said of others does not hold of them."""
        self._small.pop(grouping.microgrid, None)
        for known in (self._opened, self._gaps):
            for place in [place for place in known if place[0] == grouping.microgrid]:
                del known[place]

    def on_feeder_live(self, microgrid: int, live: FeederLive) -> None:
        self._live[microgrid] = live

    def _where(self, gap: Gap) -> tuple[str, str]:
        """The group in English and Korean: by its number where there are several."""
        english, korean = f"Microgrid {gap.microgrid}", f"마이크로그리드 {gap.microgrid}"
        if len(self._groups(gap.microgrid)) > 1 or gap.final:
            return f"{english}, group {gap.number}", f"{korean}, 그룹 {gap.number}"
        return english, korean

    # What is shown

    def _groups(self, microgrid: int) -> tuple[Roster, ...]:
        known = self._rosters.known(microgrid)
        return known[-1].rosters if known else ()

    def sections(self) -> list[dict[str, Any]]:
        """Each microgrid as the console's section `grid` has it."""
        return [self._microgrid(microgrid) for microgrid in self._registry.microgrids()]

    def _microgrid(self, microgrid: int) -> dict[str, Any]:
        slot, live = self._slots.get(microgrid), self._live.get(microgrid)
        power_w = live.power_w if live else None
        rosters = self._groups(microgrid)
        groups = [self._group(microgrid, number, roster) for number, roster in enumerate(rosters, 1)]
        closed = [name for group in groups for name in group["gap"] or ()]
        small = self._small.get(microgrid) if not rosters else None
        return {
            "id": microgrid,
            "name": f"MG{microgrid}",
            "homes": len(self._registry.homes(microgrid)),
            "slot": slot.slot if slot else None,
            "meters": slot.meters if slot else None,
            "import_wh": slot.import_wh if slot else None,
            "export_wh": slot.export_wh if slot else None,
            "feeder_import_w": max(0, power_w) if power_w is not None else None,
            "feeder_export_w": max(0, -power_w) if power_w is not None else None,
            "gap": closed if groups and all(group["gap"] for group in groups) else None,
            "groups": groups,
            "small": None if small is None else {"present": small, "needed": MIN_GROUP},
        }

    def _group(self, microgrid: int, number: int, roster: Roster) -> dict[str, Any]:
        opened, gap = self._opened.get((microgrid, number)), self._gaps.get((microgrid, number))
        return {
            "number": number,
            "homes": len(roster.members),
            "slot": opened.slot if opened else None,
            "meters": len(opened.members) if opened else None,
            "import_wh": opened.import_wh if opened else None,
            "export_wh": opened.export_wh if opened else None,
            "gap": list(gap.missing or (gap.reason,)) if gap else None,
            "reason": gap.reason if gap else None,
            "left_out": gap is not None and gap.final,
        }
