"""Accuracy and cost of learning: day-ahead forecasts of London homes with and without liars, of Jeju's demand, a training step.

Chronological splits. London: trained to 2013-10-31, tested on November and December; medians and spans over seeds, every
attack with 30 % of the homes hostile as the loss of nMAE against the same honest homes without any. Jeju: trained to 2016,
tested 2017-01 to 2018-06. Prints tables and writes them to `--json`, part by part.

    python benchmarks/bench_learning.py --data FOLDER [--parts london,attacks,jeju,step] [--seeds 3] [--attacks sign-flip,...]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from hub.inference.hub_model import hub_spec, train_hub_model
from openmg.forecast.calendar import KOREA_UTC_OFFSET_HOURS, korean_holidays
from openmg.forecast.features import Almanac
from openmg.forecast.metrics import Forecast
from openmg.forecast.model import initial_master, to_float
from openmg.forecast.spec import NET_ENERGY
from openmg.forecast.trainer import BATCH_ROWS, AdamState, TrainerUnavailable, get_trainer
from workbench.attacks.catalogue import ATTACKS
from workbench.ppdl_train.options import TrainOptions
from workbench.ppdl_train.results import TrainResult
from workbench.ppdl_train.run import train

RESULTS = Path(__file__).with_name("results") / "learning.json"
LONDON = "lcl_2013_80_households_30min.csv.gz"
JEJU = "jeju_power_2010_2019_hourly_MW.csv"
SPLIT = date(2013, 11, 1)
CLIENTS = 70
"""All homes with enough data, as on the chain, where every member trains that does not judge. Attacks are measured with the
command's 30, of which more may be hostile than of all."""
HOSTILE = 0.3
ATTACKED_ROUNDS, ATTACKED_STEPS = 30, 100
"""A quarter of the training of the table above: twenty attacks are many, and what they cost shows early."""
JEJU_FIRST, JEJU_SPLIT = date(2010, 1, 1), date(2017, 1, 1)
EPOCH = date(1970, 1, 1)
WH_PER_MWH = 1e6
STEP_BATCHES = 500
F64 = NDArray[np.float64]


def london(options: argparse.Namespace, **changes: Any) -> TrainResult:
    """One run; progress on standard error."""
    asked = TrainOptions(options.data / LONDON, SPLIT, country="GB-ENG", **changes)
    return train(asked, lambda text: None).result


def bench_london(options: argparse.Namespace) -> dict[str, Any]:
    """All models, over seeds."""
    rows = []
    for seed in range(1, options.seeds + 1):
        rows.append(_said(f"London, seed {seed}", london(options, seed=seed, clients_per_round=CLIENTS)).row())
    names = [name for name, value in rows[0].items() if isinstance(value, dict) and "nmae" in value]
    table: dict[str, Any] = {}
    for name in names:
        table[name] = {
            key: _spread([row[name][key] for row in rows]) for key in rows[0][name] if rows[0][name][key] is not None
        }
    print(f"\n{f'London, {options.seeds} seeds':>16} {'nMAE':>22} {'MASE':>7} {'P10-P90':>8} {'nRMSE':>7} {'sum MAPE':>9}")
    for name, scores in table.items():
        nmae = scores["nmae"]
        covered = f"{scores['coverage_p10_p90']['median']:.1%}" if "coverage_p10_p90" in scores else ""
        print(
            f"{name:>16} {nmae['median']:.4f} ({nmae['low']:.4f}-{nmae['high']:.4f}) {scores['mase']['median']:7.3f}"
            f" {covered:>8} {scores['nrmse']['median']:7.4f} {scores['aggregate_mape']['median']:9.2%}"
        )
    return {"models": table, "runs": rows}


def bench_attacks(options: argparse.Namespace) -> dict[str, Any]:
    """Each attack's nMAE on honest homes against the same hostile homes behaving (`none`)."""
    names = options.attacks.split(",") if options.attacks else [name for name in ATTACKS if name != "none"]
    table: dict[str, Any] = {}
    clean: dict[int, float] = {}
    print(f"\n{'30 % hostile':>22} {'nMAE':>22} {'loss':>7}  rejected")
    for name in ["none", *names]:
        runs = {
            seed: london(
                options,
                seed=seed,
                byzantine=HOSTILE,
                attack=name,
                rivals=False,
                rule=options.rule,
                rounds=ATTACKED_ROUNDS,
                local_steps=ATTACKED_STEPS,
            )
            for seed in range(1, options.seeds + 1)
        }
        nmae = {seed: run.models["federated"].score.nmae for seed, run in runs.items()}
        clean = clean or nmae
        loss = _spread([nmae[seed] / clean[seed] - 1 for seed in runs])
        last = runs[options.seeds]
        table[name] = {
            "nmae": _spread(list(nmae.values())),
            "loss": loss,
            "rejected": dict(last.rejected),
            "backdoor_success": last.backdoor_success,
        }
        spread = table[name]["nmae"]
        extra = "" if last.backdoor_success is None else f", trigger works in {last.backdoor_success:.1%} of windows"
        print(
            f"{name:>22} {spread['median']:.4f} ({spread['low']:.4f}-{spread['high']:.4f}) {loss['median']:7.2%}"
            f"  {sum(last.rejected.values())}{extra}",
            flush=True,
        )
    return {"rule": options.rule, "share": HOSTILE, "attacks": table}


def bench_jeju(options: argparse.Namespace) -> dict[str, Any]:
    """The hub's model on the island's demand."""
    with (options.data / JEJU).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    energy_wh = np.array([[float(row[f"{hour}h"]) for hour in range(1, 25)] for row in rows]).ravel() * WH_PER_MWH
    start = (JEJU_FIRST - EPOCH).days * 24 - KOREA_UTC_OFFSET_HOURS
    split = (JEJU_SPLIT - JEJU_FIRST).days * 24
    almanac = Almanac(frozenset(korean_holidays(2010, 2018)), KOREA_UTC_OFFSET_HOURS)
    spec = hub_spec("demand", split)
    began = time.process_time()
    model = train_hub_model(spec, energy_wh[:split], start, almanac)
    seconds = time.process_time() - began
    truth, forecast = model.backtest(energy_wh, start, almanac, split)
    midnight = (start + split + np.arange(len(truth)) + KOREA_UTC_OFFSET_HOURS) % 24 == 0
    naive = float(np.mean(np.abs(energy_wh[split:] - energy_wh[split - 24 : -24]) / energy_wh[split:]))
    row = {
        "mape": _mape(truth, forecast.mean),
        "mape_midnight_origins": _mape(truth[midnight], forecast.mean[midnight]),
        "coverage_p10_p90": _coverage(truth, forecast),
        "naive_24h_mape": naive,
        "windows": len(truth),
        "parameters": spec.parameters,
        "cpu_seconds": seconds,
    }
    print(
        f"\nJeju, {row['windows']} windows: MAPE {row['mape']:.2%}, from midnight {row['mape_midnight_origins']:.2%},"
        f" as a day ago {naive:.2%}; P10-P90 covers {row['coverage_p10_p90']:.1%}; trained in {seconds:.0f} s of processor time"
    )
    return row


def _mape(truth: F64, mean: F64) -> float:
    return float(np.mean(np.abs(mean - truth) / truth))


def _coverage(truth: F64, forecast: Forecast) -> float:
    assert forecast.quantiles is not None
    return float(np.mean((truth >= forecast.quantiles[:, 0]) & (truth <= forecast.quantiles[:, 2])))


def bench_step(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of one Adam step of 32 windows, each back end, processor time."""
    del options
    table: dict[str, Any] = {}
    random = np.random.default_rng(0)
    inputs = random.standard_normal((BATCH_ROWS, NET_ENERGY.features), dtype=np.float32)
    residual = random.standard_normal((BATCH_ROWS, NET_ENERGY.horizon_steps), dtype=np.float32)
    for name in ("tflite", "numpy"):
        try:
            trainer = get_trainer(NET_ENERGY, name)
        except TrainerUnavailable as error:
            print(f"{name}: {error}")
            continue
        state = AdamState.start(to_float(initial_master(NET_ENERGY, b"bench")))
        times = []
        for _ in range(STEP_BATCHES):
            began = time.process_time()
            state, _ = trainer.step(state, inputs, residual, anchor=state.weights, learning_rate=1e-3, prox=0.0)
            times.append((time.process_time() - began) * 1000)
        table[name] = _spread(times)
        print(f"\na training step, {name}: median {table[name]['median']:.3f} ms, best {table[name]['low']:.3f}")
    return table


def _said(text: str, result: TrainResult) -> TrainResult:
    print(f"{text}: nMAE {result.models['federated'].score.nmae:.4f}, {result.seconds:.0f} s", file=sys.stderr, flush=True)
    return result


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "london": bench_london,
    "attacks": bench_attacks,
    "jeju": bench_jeju,
    "step": bench_step,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OPENMG_SHARED_DATA", "")), help="folder of the files")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--attacks", default="", help="only these, by their names")
    parser.add_argument("--rule", default="nnm-trimmed")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file of the results")
    options = parser.parse_args()
    parts = options.parts.split(",")
    for name in parts:
        if name not in PARTS:
            parser.error(f"--parts {name} is unknown; use {', '.join(PARTS)}")
    if parts != ["step"] and not (options.data / LONDON).is_file():
        parser.error(f"--data {options.data} holds no {LONDON}; give the folder with the measured data, or take --parts step")
    path: Path = options.json
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    results["machine"] = {"cpus": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()}
    for name in parts:
        results[name] = PARTS[name](options)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
