"""The learning plan: every number that meters and replicas must share, fixed in the PPDL chain's genesis.

Rules: integers only; ratios are numerator and denominator; lengths of time are blocks or hours since 1970. A plan is
checked when it is made, so whoever holds one may rely on its bounds.
Not here: what the shape of the forecaster means (`openmg.forecast.spec`); a plan carries it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from openmg import codec
from openmg.forecast.calendar import KOREA_UTC_OFFSET_HOURS
from openmg.forecast.spec import HOURS_PER_DAY, HOURS_PER_WEEK, NET_ENERGY, ForecastSpec

UPDATE_SCALE_BITS = 18
"""Updates are int16 in units of 2^-18: up to 0.125 per weight; thirty Adam steps at 1e-3 move a weight by 0.03 or less.
"""
RULES = (
    "nnm_trimmed_mean",
    "trimmed_mean",
    "mean",
    "median",
    "krum",
    "multi_krum",
    "centred_clipping",
    "geometric_median",
)
"""The aggregation rules of `openmg.learning.rules`, the default first."""
MAX_RULE_ITERATIONS = 32
"""A round of iteration reads every update once; in tests eight bring both iterative rules to within rounding."""
PRIVACY_MODES = ("none", "secagg", "secagg_dp")
"""Updates in clear; only their sum opened; their sum opened with noise of a stated privacy loss."""
MIN_PRIVATE_PARTICIPANTS = 5
"""A sum over fewer says too much about each (`openmg.learning.secure`)."""
MIN_NOISE_UNITS, MAX_NOISE_UNITS = 2**10, 2**26
"""Of the deviation of a sum's noise, in units of 2^-18: each of 4,096 members still adds 16, and 16 deviations fit into int32.
"""
MAX_HOLIDAYS = 2000
MAX_SPAN_HOURS = 53 * HOURS_PER_WEEK
"""A year and a week, to train or to evaluate on."""
MAX_DEVICES = 4096
MAX_MODELS = 4
"""Of one chain: each has its weights, records and blobs in every replica, and a training of its own on every meter."""
MAX_PHASE_BLOCKS = 100_000
"""Two days of blocks at one every two seconds."""
MAX_ATTEMPTS = 64
"""As many as there may be validators: each leads once."""
MAX_COMMITTEE = 64
"""A committee is a sample; its ballots are counted one by one."""
MAX_LOCAL_STEPS = 1000
"""A tenth of a second on a laptop, some seconds on the smallest boards."""


@dataclass(frozen=True)
class LearningPlan:
    """One learning task; field names carry their units.

    A round takes commitments for `commit_blocks` blocks and, while fewer than `min_participants` are in, for as many again;
    after `max_round_blocks` it is void. Blobs are shown for `reveal_blocks`, each of `max_attempts` leaders has
    `aggregate_blocks`, and a committee of `committee_size` devices judges for `committee_blocks`. More than half of at
    least `committee_quorum` ballots that find the candidate worse by more than `worse_milli` thousandths refuse it.
    Reputations begin anew each `epoch_rounds` rounds.
    Up to `byzantine_num / byzantine_den` of the *registered* devices are taken for hostile.
    Centred clipping and the geometric median take `rule_iterations` steps; centred clipping's radius is
    `radius_num / radius_den` of the median distance.
    A meter takes `local_steps` Adam steps at `learning_rate_micro` millionths (falling to a hundredth on a cosine over
    the first `rate_decay_rounds` rounds, unless that is 0), on inputs with Gaussian noise of `noise_milli` thousandths
    added; its weights are drawn to the round's model by `prox_micro` and to zero, which is the base forecast alone, by
    `ridge_micro` (both millionths). Noise and ridge keep four weeks of a few homes under one sky from being learnt by heart.
    `privacy` is one of PRIVACY_MODES; all but the first exclude rules that look at single updates. With noise, the deviation is
    `noise_multiplier_milli` thousandths of the clipping norm, and rounds end before epsilon at 10^-`delta_exponent` passes
    `epsilon_budget_micro` millionths (`openmg.learning.budget`).
    Train windows lie in the `train_hours` before `evaluation_start_hour`, evaluation windows in the
    `evaluation_hours` from it on.
    """

    evaluation_start_hour: int
    holiday_days: tuple[int, ...] = ()
    min_participants: int = 3
    commit_blocks: int = 6
    reveal_blocks: int = 6
    aggregate_blocks: int = 6
    max_attempts: int = 4
    committee_blocks: int = 6
    committee_size: int = 2
    committee_quorum: int = 2
    worse_milli: int = 100
    epoch_rounds: int = 16
    max_round_blocks: int = 120
    spec: ForecastSpec = field(default=NET_ENERGY)
    seed: bytes = b"openmg-published-seed-1"
    rule: str = "nnm_trimmed_mean"
    byzantine_num: int = 3
    byzantine_den: int = 10
    momentum_num: int = 1
    momentum_den: int = 2
    clip_milli: int = 1000
    norm_cap_num: int = 2
    norm_cap_den: int = 1
    rule_iterations: int = 8
    radius_num: int = 1
    radius_den: int = 1
    local_steps: int = 30
    learning_rate_micro: int = 1000
    rate_decay_rounds: int = 0
    prox_micro: int = 0
    ridge_micro: int = 1000
    noise_milli: int = 1500
    privacy: str = "none"
    noise_multiplier_milli: int = 0
    delta_exponent: int = 5
    epsilon_budget_micro: int = 0
    train_hours: int = 4 * HOURS_PER_WEEK
    evaluation_hours: int = HOURS_PER_WEEK
    utc_offset_hours: int = KOREA_UTC_OFFSET_HOURS

    def __post_init__(self) -> None:
        self._bound("min_participants", 1, MAX_DEVICES)
        self._bound("commit_blocks", 1, MAX_PHASE_BLOCKS)
        self._bound("reveal_blocks", 1, MAX_PHASE_BLOCKS)
        self._bound("aggregate_blocks", 1, MAX_PHASE_BLOCKS)
        self._bound("max_attempts", 1, MAX_ATTEMPTS)
        self._bound("committee_blocks", 1, MAX_PHASE_BLOCKS)
        self._bound("committee_size", 0, MAX_COMMITTEE)
        self._bound("committee_quorum", 1, MAX_COMMITTEE)
        self._bound("worse_milli", 0, 10_000)
        self._bound("epoch_rounds", 1, 1_000_000)
        self._bound("max_round_blocks", self.commit_blocks, 10_000_000)
        self._bound("byzantine_den", 1, 1000)
        self._bound("byzantine_num", 0, (self.byzantine_den - 1) // 2)
        self._bound("momentum_den", 1, 1000)
        self._bound("momentum_num", 0, self.momentum_den - 1)
        self._bound("clip_milli", 1, 10_000)
        self._bound("norm_cap_den", 1, 1000)
        self._bound("norm_cap_num", self.norm_cap_den, 1000 * self.norm_cap_den)
        self._bound("rule_iterations", 1, MAX_RULE_ITERATIONS)
        self._bound("radius_den", 1, 1000)
        self._bound("radius_num", 1, 1000 * self.radius_den)
        self._bound("local_steps", 1, MAX_LOCAL_STEPS)
        self._bound("learning_rate_micro", 1, 1_000_000)
        self._bound("rate_decay_rounds", 0, 1_000_000)
        self._bound("prox_micro", 0, 1_000_000)
        self._bound("ridge_micro", 0, 1_000_000)
        self._bound("noise_milli", 0, 10_000)
        self._bound("train_hours", HOURS_PER_WEEK + self.spec.horizon_hours, MAX_SPAN_HOURS)
        self._bound("evaluation_hours", max(HOURS_PER_DAY, self.spec.horizon_hours), MAX_SPAN_HOURS)
        self._bound("evaluation_start_hour", self.train_hours, 2**32)
        self._bound("utc_offset_hours", -12, 14)
        if self.rule not in RULES:
            raise ValueError(f"rule {self.rule!r} is unknown; use one of {', '.join(RULES)}")
        self._check_privacy()
        if len(self.holiday_days) > MAX_HOLIDAYS or list(self.holiday_days) != sorted(set(self.holiday_days)):
            raise ValueError(f"holiday_days must be at most {MAX_HOLIDAYS} ascending days")
        if not 1 <= len(self.seed) <= 64:
            raise ValueError("seed must have 1 to 64 bytes")

    def _check_privacy(self) -> None:
        if self.privacy not in PRIVACY_MODES:
            raise ValueError(f"privacy {self.privacy!r} is unknown; use one of {', '.join(PRIVACY_MODES)}")
        noisy = self.privacy == "secagg_dp"
        self._bound("noise_multiplier_milli", int(noisy), 100_000 * noisy)
        self._bound("delta_exponent", 1, 30)
        self._bound("epsilon_budget_micro", int(noisy), 10**12 * noisy)
        if self.privacy == "none":
            return
        deviation_milli = self.noise_multiplier_milli * self.clip_units
        if noisy and not 1000 * MIN_NOISE_UNITS <= deviation_milli <= 1000 * MAX_NOISE_UNITS:
            raise ValueError(
                f"noise of {deviation_milli // 1000} units is not within {MIN_NOISE_UNITS}..{MAX_NOISE_UNITS}; change"
                " noise_multiplier_milli or clip_milli"
            )
        if self.rule != "mean":
            raise ValueError(f"rule {self.rule!r} looks at single updates, which {self.privacy} hides; use the mean")
        self._bound("min_participants", MIN_PRIVATE_PARTICIPANTS, MAX_DEVICES)

    def _bound(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name} is {value}; it must be a whole number in {low}..{high}")

    @property
    def clip_units(self) -> int:
        """Largest L2 norm of an update, in units of 2^-18."""
        return (self.clip_milli << UPDATE_SCALE_BITS) // 1000

    def hostile_devices(self, registered: int) -> int:
        """The number f of registered devices that the aggregate is prepared for, rounded down."""
        return registered * self.byzantine_num // self.byzantine_den

    def encode(self) -> bytes:
        """Canonical bytes, for a genesis or a notice to meters."""
        return codec.encode(asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> LearningPlan:
        """Inverse of `encode`; ValueError (DecodeError) for anything that is not a valid plan."""
        value: Any = codec.decode(data)
        names = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or value.keys() != names:
            raise codec.DecodeError("plan: the fields are not those of a learning plan")
        days = value["holiday_days"]
        if not isinstance(days, list) or not all(type(day) is int for day in days):
            raise codec.DecodeError("plan: holiday_days is not a list of whole numbers")
        expected = {"spec": dict, "seed": bytes, "rule": str, "privacy": str, "holiday_days": list}
        for name, item in value.items():
            if type(item) is not expected.get(name, int):
                raise codec.DecodeError(f"plan: {name} has the wrong type")
        return cls(**{**value, "holiday_days": tuple(days), "spec": _spec(value["spec"])})


def _spec(value: dict[str, Any]) -> ForecastSpec:
    """The forecaster in a plan; DecodeError for anything else."""
    expected = {item.name: type(getattr(NET_ENERGY, item.name)) for item in fields(ForecastSpec)}
    value = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
    if {name: type(item) for name, item in value.items()} != expected:
        raise codec.DecodeError("plan: the forecaster does not have the fields it must have")
    if not all(type(size) is int for size in value["hidden"]) or not all(type(name) is str for name in value["channels"]):
        raise codec.DecodeError("plan: the forecaster's layers or channels have the wrong type")
    return ForecastSpec(**value)
