"""Accuracy of the agreed price model against "as yesterday", on prices that the market's own rules make of real homes' energy.

The 17 homes of CityLearn 2022 (hourly load and PV of a year) trade on their microgrids' pools slot by slot
(`workbench.pool_past`: the homes' own orders, the exchange's arithmetic); an hour counts as four equal slots. From several
places of the year five weeks are taken as a genesis would record them: four to train on, the last one nobody trains on. Four
hubs train in rounds of production (training, clip, int16, aggregation in integers), with a liar among them where it says so.
Prints tables and writes them to `--json`.

    python benchmarks/bench_price.py --data FOLDER [--rounds 32] [--weeks 13,27,41] [--liar]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from hub.learning.price_past import PoolPast, PoolSpans, pool_past, pool_spans
from openmg.forecast.features import Windows
from openmg.forecast.loss import heads, ordered
from openmg.forecast.model import initial_master, to_float
from openmg.forecast.spec import HOURS_PER_WEEK
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.learning.aggregate import ServerState, aggregate, apply_step
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import update_from_bytes
from openmg.member.learner import LocalLearner
from openmg.units import SLOTS_PER_DAY, SLOTS_PER_HOUR
from workbench.demo.genesis import price_plan
from workbench.demo.site import FEED_IN_WEI_PER_WH, RETAIL_WEI_PER_WH
from workbench.pool_past import NO_PRICE, pool_prices

F64 = NDArray[np.float64]

HOMES = "citylearn2022_17_homes_hourly_load_pv.csv.gz"
HOME_NUMBERS = range(1, 18)
PV_KW = {number: 5 if number == 4 or number >= 10 else 4 for number in HOME_NUMBERS}
MICROGRIDS = (tuple(range(1, 10)), tuple(range(10, 18)))
FIRST_HOUR = 494_016
"""Of the file, which has no year; a Monday begins with its second hour, and so it does here (UTC+9)."""
RECORD_WEEKS = 5
HUBS = 4
CHECKPOINTS = (0, 2, 4, 8, 16, 32, 48, 64, 96)


def homes_of(path: Path) -> dict[int, list[tuple[int, int]]]:
    """By home (import, export) in Wh of each hour."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for number in HOME_NUMBERS:
        load, sun = f"load_kWh_Building_{number}", f"pv_W_per_kW_Building_{number}"
        net = [round(1000 * float(row[load]) - PV_KW[number] * float(row[sun])) for row in rows]
        found[number] = [(max(0, wh), max(0, -wh)) for wh in net]
    return found


def pasts_of(homes: dict[int, list[tuple[int, int]]]) -> list[tuple[list[int], list[int]]]:
    """Of each microgrid the price of every slot and the net energy of every hour."""
    found = []
    for members in MICROGRIDS:
        slots = [[(i // 4 + (q < i % 4), e // 4 + (q < e % 4)) for i, e in homes[n] for q in range(4)] for n in members]
        net = [sum(homes[n][hour][0] - homes[n][hour][1] for n in members) for hour in range(len(homes[members[0]]))]
        found.append((pool_prices(slots, FEED_IN_WEI_PER_WH, RETAIL_WEI_PER_WH), net))
    return found


def windows_of(
    pasts: list[tuple[list[int], list[int]]], first_hour: int, plan: LearningPlan
) -> tuple[PoolSpans, list[PoolPast]]:
    """The spans of a record that begins with this hour of the file."""
    hours, records = RECORD_WEEKS * HOURS_PER_WEEK, []
    for prices, net in pasts:
        part = prices[first_hour * SLOTS_PER_HOUR : (first_hour + hours) * SLOTS_PER_HOUR]
        start = FIRST_HOUR + first_hour
        known = [None if price == NO_PRICE else price for price in part]
        records.append(pool_past(start * SLOTS_PER_HOUR, known, start, net[first_hour : first_hour + hours]))
    return pool_spans(plan, records), records


def rounds(plan: LearningPlan, spans: PoolSpans, count: int, liar: bool) -> dict[int, Any]:
    """The master model after so many rounds, as the chain would agree on it."""
    trainer = NumpyTrainer(plan.spec)
    hubs = [LocalLearner(bytes([number + 1]) * 32, plan, lambda _: spans, trainer) for number in range(HUBS)]
    state = ServerState(initial_master(plan.spec, plan.seed), np.zeros(plan.spec.parameters, np.int32))
    kept = {0: state.master}
    for number in range(count):
        updates = {
            bytes([i]) * 20: update_from_bytes(plan.spec, hub.train(state.master, number).update_int16)
            for i, hub in enumerate(hubs)
        }
        if liar:
            updates[bytes(20)] = (-3 * updates[bytes(20)].astype(np.int32)).clip(-32767, 32767).astype(np.int16)
        state = apply_step(state, aggregate(updates, plan, HUBS).step, plan)
        if number + 1 in CHECKPOINTS or number + 1 == count:
            kept[number + 1] = state.master
    return kept


def scores(plan: LearningPlan, master: Any, held: Windows) -> dict[str, float]:
    """Errors in deviations: MAE of the median, pinball loss, share of truths within P10..P90."""
    mean, quantiles = heads(NumpyTrainer(plan.spec).predict(to_float(master), held.inputs))
    shown, truth = ordered(quantiles), held.residual
    off = truth[:, None, :] - shown
    levels = np.array([0.1, 0.5, 0.9])[None, :, None]
    return {
        "mae": float(np.abs(off[:, 1]).mean()),
        "mean_mae": float(np.abs(truth - mean).mean()),
        "pinball": float(np.maximum(levels * off, (levels - 1) * off).mean()),
        "covered": float(((truth >= shown[:, 0]) & (truth <= shown[:, 2])).mean()),
    }


def as_yesterday(plan: LearningPlan, held: Windows) -> float:
    """The same MAE when each slot is forecast as a day before: the lags are the latest day, less the week's mean."""
    lags, level = held.inputs[:, : plan.spec.lag_steps], held.inputs[:, -1:]
    assert plan.spec.lag_steps == SLOTS_PER_DAY
    return float(np.abs(held.base + held.residual - (lags + level)).mean())


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    pasts, found = pasts_of(homes_of(options.data / HOMES)), []
    for week in options.weeks:
        first = week * HOURS_PER_WEEK
        end = FIRST_HOUR + first + RECORD_WEEKS * HOURS_PER_WEEK
        plan = replace(price_plan(HUBS, end, ()), **options.changes)
        spans, records = windows_of(pasts, first, plan)
        prices = [price for past in records for price in past.prices if price is not None]
        row: dict[str, Any] = {
            "week": week,
            "mean_gwei": round(statistics.mean(prices) / 1e9, 2),
            "deviation_gwei": round(statistics.pstdev(prices) / 1e9, 2),
            "as_yesterday": as_yesterday(plan, spans.held_out),
        }
        began = time.process_time()
        for number, master in rounds(plan, spans, options.rounds, options.liar).items():
            row[f"round_{number}"] = scores(plan, master, spans.held_out)
        row["cpu_s"] = round(time.process_time() - began, 1)
        found.append(row)
        print(json.dumps(row), file=sys.stderr)
    return found


def table(rows: list[dict[str, Any]]) -> None:
    numbers = [int(name.removeprefix("round_")) for name in rows[0] if name.startswith("round_")]
    naive = statistics.mean(row["as_yesterday"] for row in rows)
    print(f"{len(rows)} records of {RECORD_WEEKS} weeks; MAE in deviations of the record's price; as yesterday {naive:.4f}")
    print(f"{'rounds':>7} {'MAE':>7} {'less than as yesterday':>23} {'pinball':>8} {'P10-P90':>8}")
    for number in numbers:
        mean = {key: statistics.mean(row[f"round_{number}"][key] for row in rows) for key in ("mae", "pinball", "covered")}
        print(f"{number:>7} {mean['mae']:7.4f} {1 - mean['mae'] / naive:23.1%} {mean['pinball']:8.4f} {mean['covered']:8.1%}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OPENMG_SHARED_DATA", "")), help="folder of the file")
    parser.add_argument("--rounds", type=int, default=32)
    parser.add_argument("--weeks", type=lambda text: [int(part) for part in text.split(",")], default=[13, 27, 41])
    parser.add_argument("--liar", action="store_true", help="one of the four hubs sends three times the negative of its update")
    parser.add_argument("--set", dest="changes", type=json.loads, default={}, help="fields of the plan to change, as JSON")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    if not (options.data / HOMES).is_file():
        parser.error(f"--data {options.data} holds no {HOMES}; give the folder with the measured data")
    rows = run(options)
    table(rows)
    if options.json is not None:
        options.json.write_text(json.dumps({"rounds": options.rounds, "liar": options.liar, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
