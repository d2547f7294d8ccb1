"""What a hub learns of a home from one round's updates, in each privacy mode: gradient inversion, membership inference.

London homes, 28 days of hours each, the chain's plan (30 steps, clip 1.0); twelve spans of the year are twelve rounds. The hub
knows homes of its own (shadows) and attacks others. Prints tables and writes `benchmarks/results/leakage.json`, part by part.

    python benchmarks/bench_leakage.py --data FOLDER [--parts learned,rehearsed,homes,windows,models] [--base-rounds 0]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import Windows, series
from openmg.forecast.model import initial_master, to_float
from openmg.forecast.trainer import get_trainer
from openmg.hashing import keccak256, word
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import update_from_bytes
from openmg.member.learner import LocalLearner
from openmg.member.spans import LearnerNotReady, Spans, of_home
from workbench.attacks.attack import BaseAttack
from workbench.attacks.inversion import LearnedInversion, Prior, Recovery, RehearsedInversion, day_profile
from workbench.attacks.presence import HomePresence, ModelPresence, WindowPresence, window_losses
from workbench.attacks.rehearsal import Rehearsal
from workbench.attacks.revealed import reveal
from workbench.attacks.roc import Roc, best_area, roc
from workbench.ppdl_train.federation import Federation
from workbench.ppdl_train.homes import Fleet, Home, device_of
from workbench.ppdl_train.households import Household, load_households

RESULTS = Path(__file__).with_name("results") / "leakage.json"
LONDON = "lcl_2013_80_households_30min.csv.gz"
SPANS = 12
SHADOWS_OF = 3
"""Every third home is the hub's own, where both sides need homes of one span."""
FOLDS = 5
SUMS = (5, 10, 30)
NOISE_MULTIPLIERS = (0.3, 1.0, 2.0)
DRAWS = 4
"""Rounds drawn for each span."""
OTHER_TRAININGS = 4
WINDOWS = 48
MODELS, MODEL_ROUNDS = 8, 16
F64 = NDArray[np.float64]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]


def own_spans(learner: LocalLearner) -> Spans:
    """Of a learner of a home's energy, the only ones here."""
    assert isinstance(learner.spans, Spans)
    return learner.spans


@dataclass(frozen=True)
class Sample:
    """A home's training span: its readings in deviations [T], the update it sent, and updates under other chance."""

    home: int
    span: int
    learner: LocalLearner
    values: F64
    update: I16

    def under_other_chance(self, master: I32) -> F64:
        """The mean update of trainings whose order and noise are not those of the update that was sent."""
        others = [
            LocalLearner.of_spans(device_of(1000 + n), self.learner.plan, own_spans(self.learner), self.learner.trainer)
            for n in range(OTHER_TRAININGS)
        ]
        return np.asarray(np.mean([_update(learner, master, self.span) for learner in others], axis=0), dtype=np.float64)


class Bench:
    """The samples and what all parts share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self._households = load_households(options.data / LONDON, 60)
        self.plan = self.plan_of(0)
        self.trainer = get_trainer(self.plan.spec, "numpy")

    def plan_of(self, span: int, **changes: Any) -> LearningPlan:
        first = LearningPlan(evaluation_start_hour=self._households.start_hour + 672, utc_offset_hours=0)
        return replace(first, evaluation_start_hour=self._households.start_hour + (span + 1) * first.train_hours, **changes)

    def private(self, multiplier: float) -> LearningPlan:
        """The plan with noise, or with sums alone for nought."""
        noise = {"noise_multiplier_milli": round(1000 * multiplier), "epsilon_budget_micro": 10**9} if multiplier else {}
        return self.plan_of(0, privacy="secagg_dp" if multiplier else "secagg", rule="mean", min_participants=5, **noise)

    @cached_property
    def master(self) -> I32:
        """The model that the updates are made to: after `base_rounds` rounds of the homes that are nobody's target."""
        if not self.options.base_rounds:
            return initial_master(self.plan.spec, self.plan.seed)
        learners = [self._learner(number, household, 0) for number, household in enumerate(self._households.homes)]
        homes = [
            Home("", learner.chance, learner, own_spans(learner), False, 0.0) for learner in learners if learner is not None
        ][::SHADOWS_OF]
        return _federated(self.plan, homes, 1, self.options.base_rounds)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Of every home and span without gaps."""
        found = []
        for span in range(SPANS):
            for number, household in enumerate(self._households.homes):
                learner = self._learner(number, household, span)
                if learner is not None:
                    start, energy = household.history(60)
                    end = learner.plan.evaluation_start_hour - start
                    values = series(energy[end - learner.plan.train_hours : end])
                    update = _update(learner, self.master, span)
                    found.append(Sample(number, span, learner, own_spans(learner).standard.apply(values), update))
        return tuple(found)

    def _learner(self, number: int, household: Household, span: int) -> LocalLearner | None:
        plan = self.plan_of(span)
        learner = LocalLearner(device_of(number), plan, of_home(household.history), self.trainer)
        try:
            whole = len(learner.spans.train) == plan.train_hours - plan.spec.min_history_steps - plan.spec.horizon_steps + 1
        except LearnerNotReady:
            return None
        return learner if whole else None

    def views(self) -> Iterator[tuple[str, int, LearningPlan]]:
        """What is compared: each mode and number of homes."""
        yield "none", 1, self.plan
        for members in SUMS:
            yield "secagg", members, self.private(0)
        for multiplier in NOISE_MULTIPLIERS:
            for members in (SUMS[0], SUMS[-1]):
                yield f"secagg_dp, z = {multiplier:g}", members, self.private(multiplier)


def _update(learner: LocalLearner, master: I32, number: int) -> I16:
    return update_from_bytes(learner.plan.spec, learner.train(master, number).update_int16)


def _federated(plan: LearningPlan, homes: Sequence[Home], seed: int, rounds: int) -> I32:
    return Federation(Fleet(tuple(homes), ()), plan, BaseAttack(), 30, seed).run(rounds, lambda text: None)


def _noise_seed(*numbers: int) -> bytes:
    return keccak256(b"openmg.bench.leakage" + b"".join(word(number) for number in numbers))


def bench_learned(bench: Bench) -> list[dict[str, Any]]:
    """Ridge from what is revealed to a member's day and to all of its hours, homes of each fold held back in turn."""
    samples = bench.samples
    homes, values = np.array([s.home for s in samples]), np.stack([s.values for s in samples])
    updates = np.stack([s.update for s in samples]).astype(np.float64)
    fold = np.random.default_rng(0).permutation(homes.max() + 1)[homes] % FOLDS
    rows = []
    for mode, members, plan in bench.views():
        days, hours, days_wh = [], [], []
        for held in range(FOLDS):
            random, shadow = np.random.default_rng([1, held]), fold != held
            prior = Prior.of(values[shadow])
            noise = reveal(plan, [samples[0].update] * members)[0].noise_variance
            both = np.hstack([day_profile(values[shadow]), values[shadow]])
            attack = LearnedInversion(updates[shadow], both, homes[shadow], members, noise, random)
            for index in np.flatnonzero(~shadow)[:: 1 if noise == 0 else 4]:
                sample = samples[index]
                others = [s.update for s in samples if s.span == sample.span and s.home != sample.home]
                picked = [others[i] for i in random.permutation(len(others))[: members - 1]]
                seen = reveal(plan, [sample.update, *picked], _noise_seed(2, held, int(index)))[0]
                day, hour = np.split(attack.guess(seen), [24])
                day_truth, day_prior = day_profile(sample.values), day_profile(prior.mean)
                days.append(Recovery.of(day, day_truth, day_prior))
                hours.append(Recovery.of(hour, sample.values, prior.mean))
                scale = own_spans(sample.learner).standard.deviation_wh
                days_wh.append((days[-1].error * scale, days[-1].prior_error * scale))
        wh, prior_wh = np.median(np.array(days_wh), axis=0)
        day_said, hours_said = _said(days), _said(hours)
        rows.append({"mode": mode, "members": members, "homes": len(days), "day": day_said, "hours": hours_said})
        rows[-1] |= {"day_wh": float(wh), "day_prior_wh": float(prior_wh)}
        print(
            f"{mode:>20} {members:3d}  day {day_said['ratio']:.3f} of the prior's error (corr {day_said['correlation']:+.2f},"
            f" {wh:.0f} Wh against {prior_wh:.0f})  hours {hours_said['ratio']:.3f} (corr {hours_said['correlation']:+.2f})",
            flush=True,
        )
    return rows


def bench_rehearsed(bench: Bench) -> list[dict[str, Any]]:
    """Gauss and Newton through the rehearsed training: of one update, of a sum, and of one whose chance is not known."""
    members, homes = bench.options.members, bench.options.homes
    shadow = [s.values for s in bench.samples if s.home % SHADOWS_OF == 0]
    targets = [s for s in bench.samples if s.home % SHADOWS_OF and s.span == 0]
    attack, rows = RehearsedInversion(Prior.of(np.stack(shadow))), []
    for first in range(0, homes, members):
        group = targets[first : first + members]
        plan = bench.private(0) if members > 1 else bench.plan
        seen = reveal(plan, [s.update for s in group])[0]
        number = group[0].span + int(bench.options.other_chance)
        rehearsals = [Rehearsal(s.learner.plan, bench.master, number, s.learner.chance) for s in group]
        began = time.process_time()
        guesses = attack.guess(rehearsals, seen, np.random.default_rng(3))
        for sample, guess in zip(group, guesses, strict=True):
            hour = Recovery.of(guess, sample.values, attack.prior.mean)
            day = Recovery.of(day_profile(guess), day_profile(sample.values), day_profile(attack.prior.mean))
            scale = own_spans(sample.learner).standard.deviation_wh
            rows.append({"home": sample.home, "members": members, "hours": vars(hour), "day": vars(day), "deviation_wh": scale})
            print(
                f"  home {sample.home}: hours {hour.ratio:.3f} of the prior's error (corr {hour.correlation:+.2f},"
                f" {hour.error * scale:.0f} Wh against {hour.prior_error * scale:.0f}), day {day.ratio:.3f}"
                f" ({day.error * scale:.0f} Wh against {day.prior_error * scale:.0f})",
                flush=True,
            )
        print(f"  {time.process_time() - began:.0f} s of processor time", flush=True)
    return rows


def bench_homes(bench: Bench) -> list[dict[str, Any]]:
    """Was this home, whose readings the hub has, among the members?"""
    shadows = np.stack([s.update for s in bench.samples if s.home % SHADOWS_OF == 0]).astype(np.float64)
    attack, rows = HomePresence(shadows), []
    other = {id(s): s.under_other_chance(bench.master) for s in bench.samples if s.home % SHADOWS_OF and s.span % 3 == 0}
    for mode, members, plan in bench.views():
        inside, outside, inside_other, outside_other = [], [], [], []
        for span in range(SPANS):
            there = [s for s in bench.samples if s.span == span and s.home % SHADOWS_OF]
            for draw in range(DRAWS):
                order = np.random.default_rng([4, span, draw]).permutation(len(there))
                chosen = [there[i] for i in order[: members + 10]]
                seen = reveal(plan, [s.update for s in chosen[:members]], _noise_seed(5, span, draw, members))[0]
                scores = attack.scores(np.stack([s.update for s in chosen]).astype(np.float64), seen)
                inside.append(scores[:members])
                outside.append(scores[members:])
                if span % 3 == 0:
                    scores = attack.scores(np.stack([other[id(s)] for s in chosen]), seen)
                    inside_other.append(scores[:members])
                    outside_other.append(scores[members:])
        random = np.random.default_rng(6)
        found, blind = roc(inside, outside, random), roc(inside_other, outside_other, random)
        bound = best_area(plan.noise_multiplier_milli / 1000) if plan.noise_multiplier_milli else 1.0
        rows.append({"mode": mode, "members": members, "bound": bound, "rehearsed": vars(found), "other_chance": vars(blind)})
        print(f"{mode:>20} {members:3d}  {_curve(found)}  at most {bound:.3f}  other chance: {_curve(blind)}", flush=True)
    return rows


def bench_windows(bench: Bench) -> list[dict[str, Any]]:
    """Was this window of a home's readings in its training span, or in the week after?"""
    shadows = np.stack([s.update for s in bench.samples if s.home % SHADOWS_OF == 0 and s.span % 2 == 0])[::2].astype(
        np.float64
    )
    attack, rows = WindowPresence(bench.plan.spec, bench.master, shadows), []
    targets = [s for s in bench.samples if s.home % SHADOWS_OF and s.span % 4 == 1][::3]
    for mode, members, plan in bench.views():
        curves: dict[str, Any] = {}
        scored: dict[str, tuple[list[F64], list[F64]]] = {"gradient": ([], []), "loss": ([], [])}
        for number, sample in enumerate(targets):
            random = np.random.default_rng([7, number])
            others = [s.update for s in bench.samples if s.span == sample.span and s.home != sample.home]
            picked = [others[i] for i in random.permutation(len(others))[: members - 1]]
            seen = reveal(plan, [sample.update, *picked], _noise_seed(8, number, members))[0]
            spans = sample.learner.spans
            for windows, side in ((spans.train, 0), (spans.held_out, 1)):
                some = _some(windows, random)
                scored["gradient"][side].append(attack.by_gradient(some, seen))
                scored["loss"][side].append(attack.by_loss(some, seen))
        for name, (inside, outside) in scored.items():
            curves[name] = vars(roc(inside, outside, np.random.default_rng(9)))
        rows.append({"mode": mode, "members": members, "homes": len(targets), **curves})
        print(
            f"{mode:>20} {members:3d}  "
            + "  ".join(
                f"by {n}: {c['area']:.3f} ({c['low']:.3f}-{c['high']:.3f}), hits {c['hits']:.3f}" for n, c in curves.items()
            ),
            flush=True,
        )
    return rows


def bench_models(bench: Bench) -> dict[str, Any]:
    """Was this home among those that an agreed model was trained on? Each model in turn against all the others."""
    homes = [Home("", s.learner.chance, s.learner, own_spans(s.learner), False, 0.0) for s in bench.samples if s.span == 0]
    first = initial_master(bench.plan.spec, bench.plan.seed)
    inside = np.stack([np.random.default_rng([10, n // 2]).permutation(len(homes)) % 2 == n % 2 for n in range(MODELS)], 1)
    losses = np.empty((len(homes), MODELS))
    for model in range(MODELS):
        master = _federated(
            bench.plan, [home for home, member in zip(homes, inside[:, model], strict=True) if member], model, MODEL_ROUNDS
        )
        losses[:, model] = [_home_loss(bench, home, master) for home in homes]
    start = np.array([_home_loss(bench, home, first) for home in homes])
    scores: dict[str, tuple[list[F64], list[F64]]] = {"loss threshold": ([], []), "shadow models": ([], [])}
    for model in range(MODELS):
        rest = np.delete(np.arange(MODELS), [model, model ^ 1])
        shadow, member = losses[:, rest], inside[:, rest]
        usable = (member.sum(1) > 0) & (member.sum(1) < len(rest))
        attack = ModelPresence(np.where(member, shadow, np.nan)[usable], np.where(member, np.nan, shadow)[usable])
        for name, score in (
            ("loss threshold", -(losses[usable, model] / start[usable])),
            ("shadow models", attack.scores(losses[usable, model])),
        ):
            scores[name][0].append(score[inside[usable, model]])
            scores[name][1].append(score[~inside[usable, model]])
    found = {name: vars(roc(*sides, np.random.default_rng(11))) for name, sides in scores.items()}
    for name, curve in found.items():
        print(f"{name:>20}: {curve['area']:.3f} ({curve['low']:.3f}-{curve['high']:.3f}), hits {curve['hits']:.3f}", flush=True)
    return {"models": MODELS, "rounds": MODEL_ROUNDS, "homes": len(homes), **found}


def _home_loss(bench: Bench, home: Home, master: I32) -> float:
    return float(window_losses(bench.plan.spec, to_float(master), home.spans.train).mean())


def _some(windows: Windows, random: np.random.Generator) -> Windows:
    rows = np.sort(random.permutation(len(windows))[:WINDOWS])
    return Windows(windows.origins[rows], windows.inputs[rows], windows.base[rows], windows.residual[rows])


def _said(found: list[Recovery]) -> dict[str, float]:
    ratio = np.array([item.ratio for item in found])
    low, high = np.percentile(ratio, (10, 90))
    correlation = float(np.mean([item.correlation for item in found]))
    return {"ratio": float(np.median(ratio)), "low": float(low), "high": float(high), "correlation": correlation}


def _curve(found: Roc) -> str:
    return f"area {found.area:.3f} ({found.low:.3f}-{found.high:.3f}), hits {found.hits:.3f}"


PARTS: dict[str, Callable[[Bench], Any]] = {
    "learned": bench_learned,
    "homes": bench_homes,
    "windows": bench_windows,
    "models": bench_models,
    "rehearsed": bench_rehearsed,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OPENMG_SHARED_DATA", "")), help="folder of the file")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--base-rounds", type=int, default=0, help="rounds behind the model that the updates are made to")
    parser.add_argument("--homes", type=int, default=4, help="rehearsed: homes in all; two minutes of processor time each")
    parser.add_argument("--members", type=int, default=1, help="rehearsed: homes in each sum; the time grows with their number")
    parser.add_argument("--other-chance", action="store_true", help="rehearsed: the hub does not know order and noise")
    options = parser.parse_args()
    if not (options.data / LONDON).is_file():
        print(f"no {LONDON} in {options.data}: nothing measured; give --data the folder with the measured data")
        return
    bench = Bench(options)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    results["machine"] = {"cpus": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()}
    for name in options.parts.split(","):
        if name not in PARTS:
            parser.error(f"--parts {name} is unknown; use {', '.join(PARTS)}")
        print(f"\n{name}, model after {options.base_rounds} rounds", flush=True)
        key = (
            f"{name}.{options.base_rounds}.{options.members}.{options.other_chance}"
            if name == "rehearsed"
            else f"{name}.{options.base_rounds}"
        )
        results[key] = PARTS[name](bench)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
