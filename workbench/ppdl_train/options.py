"""What a run is asked for, checked, and the learning plan that follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from openmg.forecast.spec import HOURS_PER_WEEK, ForecastSpec
from openmg.learning.plan import MAX_SPAN_HOURS, MIN_PRIVATE_PARTICIPANTS, PRIVACY_MODES, RULES, LearningPlan
from workbench.attacks.catalogue import named

MAX_ROUNDS = 10_000
RULE_NAMES = {"nnm-trimmed": "nnm_trimmed_mean", "trimmed": "trimmed_mean"} | {name.replace("_", "-"): name for name in RULES}
"""The command's names of the rules."""
MAX_CLIP = 10
DEFAULT_CLIP_MILLI = {"none": 4000, "secagg": 4000, "secagg_dp": 300}
"""Noise grows with the clipping norm, so with noise it is short."""


def default_rule(privacy: str) -> str:
    """The rule when none is named: only the mean can be had of a sum."""
    return "nnm-trimmed" if privacy == "none" else "mean"


class OptionError(ValueError):
    """An option cannot be used; one sentence says which and what to give."""


@dataclass(frozen=True)
class TrainOptions:
    """The options of `openmg ppdl train`; raises OptionError."""

    data: Path
    split_date: date
    horizon_hours: int = 24
    resolution_minutes: int = 60
    clients_per_round: int = 30
    rounds: int = 60
    rule: str = "nnm-trimmed"
    byzantine: float = 0.0
    attack: str = "none"
    seed: int = 1
    local_steps: int = 200
    trainer: str = "auto"
    country: str = ""
    privacy: str = "none"
    noise_multiplier: float = 0.0
    epsilon_budget: float = 0.0
    drop_out: float = 0.0
    clip: float = 0.0
    """0: DEFAULT_CLIP of the privacy mode."""
    rivals: bool = True
    """Also train what the federated model is compared with."""

    def __post_init__(self) -> None:
        if self.rule not in RULE_NAMES:
            raise OptionError(f"--rule {self.rule} is unknown; use one of {', '.join(sorted(RULE_NAMES))}")
        if not 0 <= self.byzantine < 0.5:
            raise OptionError(f"--byzantine {self.byzantine} is not within 0 to 0.5; no rule stands half of the homes lying")
        if self.privacy_mode not in PRIVACY_MODES:
            raise OptionError(f"--privacy {self.privacy} is unknown; use none, secagg or secagg-dp")
        if self.privacy != "none" and self.rule != "mean":
            raise OptionError(
                f"--privacy {self.privacy} hides single updates, which --rule {self.rule} looks at; use --rule mean"
            )
        if self.privacy != "none" and self.clients_per_round < MIN_PRIVATE_PARTICIPANTS:
            raise OptionError(f"--privacy {self.privacy} takes --clients-per-round {MIN_PRIVATE_PARTICIPANTS} or more")
        if (self.privacy == "secagg-dp") != (self.noise_multiplier > 0 and self.epsilon_budget > 0):
            raise OptionError("--noise-multiplier and --epsilon-budget go with --privacy secagg-dp, both above 0")
        if not 0 <= self.drop_out < 1 or (self.drop_out and self.privacy == "none"):
            raise OptionError("--drop-out is a share from 0 to below 1 and goes with --privacy secagg or secagg-dp")
        if not 0 <= self.clip <= MAX_CLIP:
            raise OptionError(f"--clip {self.clip} is not within 0 to {MAX_CLIP}")
        if not 1 <= self.rounds <= MAX_ROUNDS or self.clients_per_round < 1:
            raise OptionError(f"--rounds has 1 to {MAX_ROUNDS}, --clients-per-round at least 1")
        try:
            named(self.attack.replace("-", "_"))
            self.spec  # noqa: B018  # checked when it is made
        except ValueError as error:
            raise OptionError(str(error)) from error

    @property
    def spec(self) -> ForecastSpec:
        """Without a level: trained on the seasons of one year, what it teaches of them misleads in the next."""
        return ForecastSpec("demand", self.resolution_minutes, self.horizon_hours, level=False)

    @property
    def privacy_mode(self) -> str:
        """The plan's name of the mode."""
        return self.privacy.replace("-", "_")

    def plan(self, split_hour: int, start_hour: int, end_hour: int, holiday_days: tuple[int, ...]) -> LearningPlan:
        """Trained on everything before the split, tested on everything from it on.

        A year of hours needs no noise and no ridge against learning by heart; the rate falls over all rounds, so that the
        last ones settle. Rates, pull and momentum were chosen on September and October of the London homes, trained to
        August. Raises OptionError when the spans are too short or long.
        """
        try:
            return LearningPlan(
                evaluation_start_hour=split_hour,
                train_hours=min(split_hour - start_hour, MAX_SPAN_HOURS),
                evaluation_hours=min(end_hour - split_hour, MAX_SPAN_HOURS),
                holiday_days=holiday_days,
                utc_offset_hours=0,
                spec=self.spec,
                seed=f"openmg-train-{self.seed}".encode(),
                rule=RULE_NAMES[self.rule],
                local_steps=self.local_steps,
                learning_rate_micro=2000,
                rate_decay_rounds=self.rounds,
                prox_micro=5000,
                ridge_micro=0,
                noise_milli=0,
                clip_milli=round(1000 * self.clip) or DEFAULT_CLIP_MILLI[self.privacy_mode],
                privacy=self.privacy_mode,
                min_participants=MIN_PRIVATE_PARTICIPANTS,
                noise_multiplier_milli=round(1000 * self.noise_multiplier),
                epsilon_budget_micro=int(1_000_000 * self.epsilon_budget),
                momentum_num=7,
                momentum_den=10,
            )
        except ValueError as error:
            weeks = (split_hour - start_hour) // HOURS_PER_WEEK
            raise OptionError(f"{error} (the data has {weeks} weeks before the split date)") from error


def parse_minutes(text: str) -> int:
    """`60min` or `1h` in minutes. Raises OptionError."""
    match = re.fullmatch(r"(\d{1,4})\s*(min|m|h)", text.strip())
    if not match:
        raise OptionError(f"{text!r} is not a length of time; write it like 60min or 24h")
    return int(match[1]) * (60 if match[2] == "h" else 1)
