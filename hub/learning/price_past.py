"""A pool's public past as the price model sees it: in training what the genesis records, in a forecast what the hub knows.

The series is the price of each slot; beside it, as the model's channel, the net energy of the microgrid that was to be expected
for the slot's hour a day before (`hub.inference.expectation`): half the mean of its latest seven days, half that of the four
same weekdays. Both ways use the functions of this file, so that a model is asked what it was taught.
Rules: pure. Values are measured in the deviation of the pool's own span, so that one model serves all pools; a window of
training begins at a whole hour, as every forecast does. Windows with a slot without a price are left out.
Not here: rounds (`price_trainer`), forecasts (`hub.inference.agreed_price`), gaps of a forecast (`openmg.forecast.gaps`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.inference.expectation import expected
from hub.ppdl.app.genesis_prices import NO_PRICE
from hub.ppdl.app.genesis_state import AppGenesis
from openmg.forecast.features import MIN_DEVIATION_WH, Standard, Windows, series
from openmg.forecast.spec import HOURS_PER_DAY, ForecastSpec
from openmg.learning.plan import LearningPlan
from openmg.member.spans import LearnerNotReady, cut
from openmg.units import SLOTS_PER_DAY, SLOTS_PER_HOUR

F64 = NDArray[np.float64]

MIN_DEVIATION_WEI = 10.0**6
"""What a pool whose price hardly moves is divided by: more than rounding moves it, a thirty-thousandth of the demo's prices."""


@dataclass(frozen=True)
class PoolPast:
    """Prices from `start_slot` on (wei per Wh; None is a gap), up to a whole hour, and the expected net energy in Wh of each
    of those slots and of the day after, [len + 96]."""

    start_slot: int
    prices: tuple[int | None, ...]
    expected_net_wh: F64

    @property
    def end_slot(self) -> int:
        return self.start_slot + len(self.prices)

    def channels(self, spec: ForecastSpec, span: slice) -> F64 | None:
        """The model's channels in units of their own mean and deviation over `span`; None where it takes none.

        Raises ValueError when nothing is known in the span.
        """
        if not spec.channels:
            return None
        standard = Standard.of(self.expected_net_wh[span], MIN_DEVIATION_WH)
        return standard.apply(self.expected_net_wh)[:, None]


@dataclass(frozen=True)
class PoolSpans:
    """Training and evaluation windows of all pools."""

    train: Windows
    held_out: Windows


def pool_past(first_slot: int, prices: Sequence[int | None], first_hour: int, net_wh: Sequence[int | None]) -> PoolPast:
    """What is known of both, from the first slot to the last whole hour; empty when they do not meet."""
    first = max(first_slot, first_hour * SLOTS_PER_HOUR)
    end = min((first_slot + len(prices)) // SLOTS_PER_HOUR, first_hour + len(net_wh)) * SLOTS_PER_HOUR
    if end <= first:
        return PoolPast(first, (), np.empty(0))
    ahead = expected(series(net_wh), HOURS_PER_DAY, HOURS_PER_DAY)
    slots = np.arange(first, end + SLOTS_PER_DAY)
    return PoolPast(first, tuple(prices[first - first_slot : end - first_slot]), ahead[slots // SLOTS_PER_HOUR - first_hour])


def recorded_pasts(genesis: AppGenesis) -> list[PoolPast]:
    """Of each pool whose prices the genesis records."""
    feeders = {feeder.microgrid: feeder for feeder in genesis.feeders}
    pasts = []
    for record in genesis.prices:
        feeder = feeders[record.microgrid]
        known = [None if price == NO_PRICE else price for price in record.wei_per_wh]
        pasts.append(pool_past(record.start_slot, known, feeder.start_hour, feeder.net_wh))
    return pasts


def pool_spans(plan: LearningPlan, pasts: Sequence[PoolPast]) -> PoolSpans:
    """The windows of a plan. Raises LearnerNotReady when too little is known of a pool."""
    found = []
    for past in pasts:
        evaluation = plan.evaluation_start_hour * SLOTS_PER_HOUR - past.start_slot
        span = slice(max(0, evaluation - plan.train_hours * SLOTS_PER_HOUR), max(0, evaluation))
        try:
            channels = past.channels(plan.spec, span)
        except ValueError as error:
            raise LearnerNotReady(str(error)) from error
        found.append(cut(plan, past.start_slot, series(past.prices), MIN_DEVIATION_WEI, channels, SLOTS_PER_HOUR))
    return PoolSpans(_joined([spans.train for spans in found]), _joined([spans.held_out for spans in found]))


def _joined(parts: Sequence[Windows]) -> Windows:
    """All windows; their origins are places in the series of their own pool."""
    names = ("origins", "inputs", "base", "residual")
    return Windows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
