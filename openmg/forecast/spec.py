"""Shape of a forecaster: what goes in, what comes out, how its weights lie in one flat vector.

The network is residual: base forecast (half the mean profile of the last 7 days, half that of the last 4 same
weekdays; of a persistent series half of that and half the last day) plus the output of a ReLU network with two hidden
layers, everything in units of the series' own deviation.
It has two heads over one trunk: the mean, which may be added up over homes, and the quantiles P10, P50 and P90, which
may not. One spec is one model on the chain: another number here is another `model_id`, hence other hashes.
The canonical weights ("master") are int32 at 2^-20; float32 weights are derived from them and never go back.
Not here: features, training and arithmetic.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

from openmg.hashing import keccak256
from openmg.units import MODEL_BYTES

HOURS_PER_DAY = 24
HOURS_PER_WEEK = 168
DAYS_PER_WEEK = 7
MINUTES_PER_HOUR = 60
RESOLUTIONS_MINUTES = (5, 10, 15, 20, 30, 60)
HORIZONS_HOURS = (24, 48, 72)
MAX_LAG_HOURS = HOURS_PER_WEEK
MAX_HIDDEN = 256
MAX_CHANNELS = 8
PROFILE_WEEKS = 4
"""The same-weekday profile averages up to this many earlier weeks, as many as the history has."""
QUANTILES_MILLI = (100, 500, 900)
HEADS = 1 + len(QUANTILES_MILLI)
"""Outputs lie head by head: the mean of every step, then P10, P50 and P90 of every step."""

MASTER_SCALE_BITS = 20
"""Master weights are integers in units of 2^-20; float32 holds them exactly below 2^24, that is below 16.0."""
MAX_FEATURES = 2_048
"""So many products of the fixed-point network may be summed in 63 bits (`fixedpoint`)."""
MAX_PARAMETERS = 200_000
"""The largest model whose squared distances between updates and fixed-point sums were bounded."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True)
class ForecastSpec:
    """One forecaster.

    quantity: what the series is (net_energy, import_energy, export_energy, generation, price). resolution_minutes: length
    of a step. horizon_hours: how far ahead. lag_hours: latest values among the inputs. channels: names of further series
    whose values at the target steps are inputs (a weather forecast, the expected demand). annual: two inputs for the day
    of the year, for series of several years. level: the last input is the week's mean; without it nought. In units of
    the training span's deviation a mean tells the season, and what follows a cold week in spring does not in autumn.
    persistent: the series hangs on its state of the day before (a pool's price), so the last day is half of the base forecast.
    Raises ValueError for a value outside its bounds.
    """

    quantity: str = "net_energy"
    resolution_minutes: int = 60
    horizon_hours: int = 24
    lag_hours: int = 48
    hidden: tuple[int, int] = (64, 32)
    channels: tuple[str, ...] = ()
    annual: bool = False
    level: bool = True
    persistent: bool = False

    def __post_init__(self) -> None:
        self._demand(self.resolution_minutes in RESOLUTIONS_MINUTES, f"a step has {RESOLUTIONS_MINUTES} minutes")
        self._demand(self.horizon_hours in HORIZONS_HOURS, f"a horizon has {HORIZONS_HOURS} hours")
        self._demand(1 <= self.lag_hours <= MAX_LAG_HOURS, f"lags span 1 to {MAX_LAG_HOURS} hours")
        sizes_fit = len(self.hidden) == 2 and all(1 <= size <= MAX_HIDDEN for size in self.hidden)
        self._demand(sizes_fit, f"there are two hidden layers of 1 to {MAX_HIDDEN}")
        names = (self.quantity, *self.channels)
        named = all(_NAME.fullmatch(name) for name in names) and len(set(names)) == len(names)
        self._demand(named, "names are unlike each other, of a-z, 0-9 and _, at most 32")
        self._demand(len(self.channels) <= MAX_CHANNELS, f"at most {MAX_CHANNELS} channels are taken")
        self._demand(self.features <= MAX_FEATURES, f"at most {MAX_FEATURES} inputs are taken")
        self._demand(self.parameters <= MAX_PARAMETERS, f"a model has at most {MAX_PARAMETERS} weights")

    def _demand(self, holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"forecaster: {rule}; {self!r} breaks this")

    @cached_property
    def model_id(self) -> str:
        """Name of the model: every field that changes its meaning or its shape."""
        shape = "-".join(str(size) for size in (self.features, *self.hidden, self.outputs))
        extra = (
            "".join(f"+{name}" for name in self.channels)
            + ("+annual" if self.annual else "")
            + ("" if self.level else "-level")
            + ("+persistent" if self.persistent else "")
        )
        times = f"{self.resolution_minutes}min.{self.horizon_hours}h.{self.lag_hours}h"
        return f"openmg.forecast.2.{self.quantity}{extra}.{times}.{shape}"

    @cached_property
    def short_name(self) -> bytes:
        """The short name by which messages say which model they are about: the first bytes of keccak(model id)."""
        return keccak256(self.model_id.encode("ascii"))[:MODEL_BYTES]

    @cached_property
    def steps_per_hour(self) -> int:
        return MINUTES_PER_HOUR // self.resolution_minutes

    @cached_property
    def steps_per_day(self) -> int:
        return HOURS_PER_DAY * self.steps_per_hour

    @cached_property
    def steps_per_week(self) -> int:
        return HOURS_PER_WEEK * self.steps_per_hour

    @cached_property
    def lag_steps(self) -> int:
        return self.lag_hours * self.steps_per_hour

    @cached_property
    def horizon_steps(self) -> int:
        return self.horizon_hours * self.steps_per_hour

    @cached_property
    def target_days(self) -> int:
        """Local days that a forecast may touch."""
        return self.horizon_hours // HOURS_PER_DAY + 1

    @cached_property
    def calendar_features(self) -> int:
        """sin and cos of the origin's time of day, weekday of the first and last target step, one holiday flag for each
        target day, and with `annual` sin and cos of the day of the year."""
        return 2 + 2 * DAYS_PER_WEEK + self.target_days + (2 if self.annual else 0)

    @cached_property
    def features(self) -> int:
        """Lags, day profile and its spread, same-weekday profile, channels, calendar, the week's mean (or nought)."""
        ahead = (1 + len(self.channels)) * self.horizon_steps
        return self.lag_steps + 2 * self.steps_per_day + ahead + self.calendar_features + 1

    @cached_property
    def outputs(self) -> int:
        return HEADS * self.horizon_steps

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Weight matrix [in, out] and bias [out] of each layer, in the order in which they lie in the flat vector."""
        widths = (self.features, *self.hidden, self.outputs)
        return tuple(s for a, b in zip(widths, widths[1:], strict=False) for s in ((a, b), (b,)))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(math.prod(shape) for shape in self.shapes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        return tuple(sum(self.sizes[:i]) for i in range(len(self.sizes)))

    @cached_property
    def parameters(self) -> int:
        return sum(self.sizes)

    @property
    def master_bytes(self) -> int:
        return 4 * self.parameters

    @property
    def update_bytes(self) -> int:
        return 2 * self.parameters

    @property
    def min_history_steps(self) -> int:
        """Without one week there is no weekly mean and no same-weekday profile, hence no forecast."""
        return self.steps_per_week


NET_ENERGY = ForecastSpec()
"""The meters' first model: hourly net energy of a home, import minus export, for the next day."""
IMPORT_ENERGY = ForecastSpec("import_energy")
"""What a home draws from the grid: its load less what its own panels cover of it at that moment."""
EXPORT_ENERGY = ForecastSpec("export_energy")
"""What a home feeds in: its generation less what it uses at that moment. A meter at the home's border sees no more of it."""
EXPECTED_NET = "expected_net"
"""Channel of the price model: what net energy of the microgrid was to be expected for the target's hour, a day before."""
PRICE = ForecastSpec("price", 15, 24, 24, hidden=(24, 24), channels=(EXPECTED_NET,), persistent=True)
"""Price of a microgrid's pool in each slot of the next day. A day of lags, so that two of its vectors fit one transaction."""
