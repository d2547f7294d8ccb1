"""Secure aggregation: milliseconds and bytes of each step, with drop-outs; what a robust rule across groups is worth.

Every member runs the steps a meter runs, every step is timed for each member and the medians are shown; the opened sum is
compared with the plain one. A fifth of the members leaves half-way when DROP_OUT says so: half before the masked update, half
after it. `groups` shows the distance of the aggregate from the honest mean over the norm of that mean, for liars that send the
negative of three times their update: per-update rule, plain mean, and a rule across groups of five.
Medians; writes `benchmarks/results/secagg.json`.

    python benchmarks/bench_secagg.py [--members 12 30 100] [--parameters 14208] [--runs 1]
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy reads it when it is loaded

import argparse
import json
import platform
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from openmg.hashing import keccak256, word
from openmg.identity import DeviceKey
from openmg.learning import rules
from openmg.learning.aggregate import aggregate
from openmg.learning.plan import LearningPlan
from openmg.learning.rules.outcome import Settings
from openmg.learning.secure import device
from openmg.learning.secure.groups import across_groups, groups
from openmg.learning.secure.hub import OpenedSum, SecureHub
from openmg.learning.secure.noise import member_noise, member_variance
from openmg.learning.secure.terms import RoundTerms, make_terms
from openmg.messages.base import encode

RESULTS = Path(__file__).with_name("results") / "secagg.json"
CLIP_UNITS = 78_643
"""0.3 in units of 2^-18."""
NOISE_MULTIPLIER_MILLI = 1000
DROP_OUT = (0.0, 0.2)
GROUP_SIZE = 5
DRAWS = 20
T = TypeVar("T")


class Clock:
    """Milliseconds and bytes by name."""

    def __init__(self) -> None:
        self.times_ms: dict[str, list[float]] = defaultdict(list)
        self.sizes: dict[str, list[int]] = defaultdict(list)

    def timed(self, name: str, step: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = step()
        self.times_ms[name].append(1000 * (time.perf_counter() - began))
        return result

    def row(self) -> dict[str, Any]:
        times = {f"{name}_ms": round(median(values), 2) for name, values in self.times_ms.items()}
        return {**times, **{f"{name}_bytes": int(median(values)) for name, values in self.sizes.items()}}


def private_round(keys: dict[bytes, DeviceKey], parameters: int, drop_out: float, clock: Clock) -> None:
    """One round, timed; raises AssertionError when the sum is wrong."""
    publics = {address: key.mask_public for address, key in keys.items()}
    terms = make_terms(1, 1, bytes(32), secrets.token_bytes(32), publics, parameters, CLIP_UNITS)
    random = np.random.default_rng(1)
    updates = {address: random.integers(-300, 301, parameters).astype(np.int16) for address in keys}
    leaving = sorted(keys)[: int(drop_out * len(keys))]
    before, after = set(leaving[::2]), set(leaving[1::2])
    hub, memories = SecureHub(terms), {}
    for address, key in keys.items():
        deal = lambda key=key: device.deal(key, terms, secrets.token_bytes(32))  # noqa: E731  # one argument a loop
        memories[address], dealing = clock.timed("device_deal", deal)
        clock.sizes["device_deal"].append(len(encode(dealing)))
        hub.take_dealing(address, dealing)
    deliveries = clock.timed("hub_deliver", hub.close_dealing)
    for address in deliveries.keys() - before:
        mask = lambda a=address: device.mask(keys[a], terms, memories[a], deliveries[a], updates[a])  # noqa: E731
        memories[address], masked = clock.timed("device_mask", mask)
        clock.sizes["device_receive"].append(sum(len(encode(item)) for item in deliveries[address]))
        clock.sizes["device_mask"].append(len(encode(masked)))
        hub.take_masked(address, masked)
    opened = finish(hub, keys, memories, after, clock)
    expected = np.sum([updates[address].astype(np.int64) for address in opened.survivors], axis=0)
    assert opened.total.tolist() == expected.tolist(), "the opened sum is not the plain sum"
    assert len(opened.survivors) == len(keys) - len(before)
    clock.times_ms["device_noise"].append(noise_ms(terms))


def finish(
    hub: SecureHub, keys: dict[bytes, DeviceKey], memories: dict[bytes, device.DeviceMemory], after: set[bytes], clock: Clock
) -> OpenedSum:
    """Signing, unmasking and opening."""
    survivors = hub.close_masking()
    for address in set(survivors.survivors) - after:
        sign = lambda a=address: device.sign(keys[a], hub.terms, memories[a], survivors)  # noqa: E731
        memories[address], signature = clock.timed("device_sign", sign)
        hub.take_signature(address, signature)
    signatures = hub.close_signing()
    for address in signatures:
        unmask = lambda a=address: device.unmask(keys[a], hub.terms, memories[a], survivors, signatures)  # noqa: E731
        unmasking = clock.timed("device_unmask", unmask)
        clock.sizes["device_unmask"].append(len(encode(unmasking)))
        hub.take_unmasking(address, unmasking)
    return clock.timed("hub_open", hub.open)


def noise_ms(terms: RoundTerms) -> float:
    variance = member_variance(NOISE_MULTIPLIER_MILLI, terms.clip_units, terms.threshold)
    began = time.perf_counter()
    member_noise(variance, terms.parameters, secrets.token_bytes(32))
    return 1000 * (time.perf_counter() - began)


def group_errors(devices: int, liars: float, parameters: int = 2000) -> dict[str, float]:
    """Median over DRAWS of the aggregate's distance from the honest mean, as a share of that mean's norm."""
    errors = defaultdict(list)
    for draw in range(DRAWS):
        random = np.random.default_rng([devices, draw])
        rows = random.normal(size=parameters) * 300 + random.normal(size=(devices, parameters)) * 300
        hostile = int(liars * devices)
        honest = rows[hostile:].mean(axis=0)
        rows[:hostile] *= -3
        names = [keccak256(word(place))[:20] for place in range(devices)]
        updates = dict(zip(names, rows.round().astype(np.int16), strict=True))
        drawn = groups(names, word(draw), 1, GROUP_SIZE)
        sums = {n: (np.sum([updates[name].astype(np.int64) for name in g], axis=0), len(g)) for n, g in enumerate(drawn)}
        plan = LearningPlan(evaluation_start_hour=495_000, norm_cap_num=1000)
        steps = {
            "per_update_nnm_trimmed": aggregate(updates, plan, devices).step,
            "plain_mean": rules.BY_NAME["mean"](np.stack(list(updates.values())).astype(np.int64), 0, Settings(8, 1, 1)).step,
            "across_groups_median": across_groups(sums, "median", hostile, Settings(8, 1, 1)).step,
            "across_groups_nnm_trimmed": across_groups(sums, "nnm_trimmed_mean", hostile, Settings(8, 1, 1)).step,
        }
        for name, step in steps.items():
            errors[name].append(float(np.linalg.norm(step - honest) / np.linalg.norm(honest)))
    return {name: round(median(values), 3) for name, values in errors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, nargs="+", default=[12, 30, 100])
    parser.add_argument("--parameters", type=int, default=14_208)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for members in options.members:
        keys = {key.address: key for key in (DeviceKey(keccak256(word(place))) for place in range(members))}
        for drop_out in DROP_OUT:
            clock = Clock()
            for _ in range(options.runs):
                private_round(keys, options.parameters, drop_out, clock)
            rows.append({"members": members, "drop_out": drop_out, **clock.row()})
            print(json.dumps(rows[-1]), flush=True)
    robust = [
        {"devices": devices, "liars": liars, **group_errors(devices, liars)}
        for devices in (30, 100)
        for liars in (0.0, 0.03, 0.1, 0.2, 0.3)
    ]
    for row in robust:
        print(json.dumps(row))
    result = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 1),
        "parameters": options.parameters,
        "rounds": rows,
        "groups": robust,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
