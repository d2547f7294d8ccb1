"""Takes over what the PPDL chain has agreed on into the hub's history, after each decided block.

Rules: only what the chain answers is recorded: agreed slots in which no group stayed closed as whole hours, and once, for a
microgrid that is new to this process, the chain's hourly net energy from before its first agreed slot and the prices of its
genesis. Each block is looked at whole, so a block that was missed costs nothing as long as the chain remembers its slots (two
days).
Not here: the listening (`forecast_role`), the history itself (`history`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hub.inference.history import SOURCE_AGREED, SOURCE_CHAIN, HistoryStore, Hour
from hub.ppdl.app.answers import HistoryAnswer, PricesAnswer, SlotsAnswer
from hub.ppdl.app.state import SlotRecord
from hub.ppdl.application import QueryResult
from openmg.messages import base
from openmg.units import SLOTS_PER_HOUR

Query = Callable[[str], QueryResult]


class Recorder:
    """Fills a history from the chain's answers. Calls block on the disk."""

    def __init__(self, history: HistoryStore, query: Query, microgrids: Sequence[int]) -> None:
        self._history = history
        self._query = query
        self._microgrids = tuple(microgrids)
        self._newest: dict[int, tuple[int, int]] = {}
        """Newest slot and number of slots when a microgrid was last read: equal ones bring nothing new."""
        self.revision = 0
        """Grows whenever a microgrid has another slot, whether that made an hour whole or not."""

    def step(self) -> int:
        """Record what is new; the number of hours that were."""
        return sum(self._record(microgrid) for microgrid in self._microgrids)

    def _record(self, microgrid: int) -> int:
        result = self._query(f"slots/{microgrid}")
        if not result.ok:
            return 0
        slots = base.decode(SlotsAnswer, result.value).slots
        stored = self._begin(microgrid, slots) if microgrid not in self._newest else 0
        seen = (slots[-1].slot, len(slots)) if slots else (0, 0)
        if self._newest.get(microgrid) == seen:
            return stored
        hours = whole_hours(slots)
        if hours:
            known = self._history.known_hours(microgrid, hours[0].hour, SOURCE_AGREED)
            fresh = [hour for hour in hours if hour.hour not in known]
            stored += self._history.add_hours(microgrid, fresh, SOURCE_AGREED).stored
        self._newest[microgrid] = seen
        self.revision += 1
        return stored

    def _begin(self, microgrid: int, slots: Sequence[SlotRecord]) -> int:
        """The past that the chain began with, as far as nothing better is known."""
        self._begin_prices(microgrid)
        result = self._query(f"history/{microgrid}")
        if not result.ok:
            return 0
        past = base.decode(HistoryAnswer, result.value)
        first_agreed = slots[0].slot // SLOTS_PER_HOUR if slots else past.start_hour + len(past.net_wh)
        numbered = enumerate(past.net_wh, past.start_hour)
        hours = [Hour(hour, net_wh) for hour, net_wh in numbered if hour < first_agreed]
        return self._history.add_hours(microgrid, hours, SOURCE_CHAIN).stored

    def _begin_prices(self, microgrid: int) -> None:
        recorded = self._query(f"prices/{microgrid}")
        if recorded.ok:
            past = base.decode(PricesAnswer, recorded.value)
            self._history.begin_prices(microgrid, past.start_slot, past.wei_per_wh)


def whole_hours(slots: Sequence[SlotRecord]) -> list[Hour]:
    """Hours of which all four slots are agreed with all groups, ascending."""
    by_hour: dict[int, list[SlotRecord]] = {}
    for record in slots:
        if not record.closed:
            by_hour.setdefault(record.slot // SLOTS_PER_HOUR, []).append(record)
    return [
        Hour.of_sums(hour, sum(item.import_wh for item in records), sum(item.export_wh for item in records))
        for hour, records in sorted(by_hour.items())
        if len(records) == SLOTS_PER_HOUR
    ]
