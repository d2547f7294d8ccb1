"""The robust aggregation rules, in integers: one family per file, and the table of their names.

A rule takes int64 rows [n, P] in the order of their device ids, the number f of hostile rows it shall withstand, and
the plan's settings for iterative rules; it gives the step [P] and which rows it found far off.
Rules: no float, no BLAS; every sum is an exact integer, so neither the processor nor the order of arrival can show;
ties between equal distances or scores fall to the lower index, that is the smaller device id; every division rounds
half up or is a floor division that the rule states.
Bounds: n <= MAX_DEVICES = 2^12 rows, |value| <= 2^15, P <= MAX_PARAMETERS; each file proves from them that its int64
sums do not wrap. `openmg.learning.aggregate` checks them.
Not here: who may take part, the norm cap's place before the rules, and the server's momentum (`aggregate`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from openmg.learning.rules.centred_clipping import centred_clipping
from openmg.learning.rules.coordinatewise import mean, median, trimmed_mean
from openmg.learning.rules.geometric_median import geometric_median
from openmg.learning.rules.krum import krum, multi_krum
from openmg.learning.rules.mixing import nnm_trimmed_mean
from openmg.learning.rules.outcome import I64, Outcome, Settings

Rule = Callable[[I64, int, Settings], Outcome]

BY_NAME: Mapping[str, Rule] = MappingProxyType(
    {
        "nnm_trimmed_mean": nnm_trimmed_mean,
        "trimmed_mean": trimmed_mean,
        "mean": mean,
        "median": median,
        "krum": krum,
        "multi_krum": multi_krum,
        "centred_clipping": centred_clipping,
        "geometric_median": geometric_median,
    }
)
"""The names are those of `LearningPlan.rule`."""
