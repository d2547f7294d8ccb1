"""Seconds from the end of a round's commits to the agreed model: four validators over TCP, all in one process.

Scripted meters commit, and show their blobs (random updates of honest length) to one hub in the moment that the commit phase
ends. From there everything is as on a chain: blobs go to the other hubs by gossip, each hub checks them and votes for those it
holds, the leader proposes the aggregate by the default rule, each of the others computes it again, the committee's ballots come
as soon as there is a candidate, and the round is closed by its record. Training is not part of it: meters train at home while
the commit phase lasts. Prints a table and writes `benchmarks/results/round.json`; a phase is medians over runs.

    python benchmarks/bench_round.py [--devices 12 30 100] [--runs 3]
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy reads it when it is loaded

import argparse
import asyncio
import contextlib
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from hub.learning.attendant import LearningAttendant
from hub.learning.attendants import LearningAttendants
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.genesis_state import Device, Feeder, make_app_genesis
from hub.ppdl.app.learning_view import LearningView, model_at
from hub.ppdl.app.transactions import ballot_tx, commit_tx
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.net.transport import PeerAddress
from hub.ppdl.sim.keys import validator_keys
from hub.ppdl.store import initialise_store
from openmg.forecast.quantities import METERED
from openmg.hashing import keccak256, word
from openmg.identity import DeviceKey
from openmg.learning.blobs import SALT_BYTES, blob_hash, commitment_of, make_blob
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import update_bytes
from openmg.messages import base
from openmg.messages.learning import Ballot, UpdateCommit
from openmg.signing import address_of
from openmg.zk.keys import ensure_keys
from openmg.zk.meters import meter_id
from workbench.ports import PortReservation

RESULTS = Path(__file__).with_name("results") / "round.json"
VALIDATORS = 4
CHAIN_ID, GENESIS_MS = 41, 1_781_485_200_000
START_HOUR, HISTORY_HOURS = 494_017, 840
PHASES = ("reveal", "aggregate", "committee")
TIMING: dict[str, Any] = {"block_interval_s": 0.1, "heartbeat_s": 0.4, "view_timeout_s": 5.0}
LONG_BLOCKS = 600
"""Phases end as soon as everybody has spoken; none is to end by its length here."""
PATIENCE_S = 300.0
UPDATE_SCALE = 400.0
"""Deviation of an update's values in units of 2^-18: a norm below the clip."""


def plan_of(devices: int) -> LearningPlan:
    """The chain's plan, with phases that wait for everybody and a commit phase that ends when nobody is missing any more."""
    return LearningPlan(
        evaluation_start_hour=START_HOUR + 672,
        min_participants=4,
        commit_blocks=2 + devices // 25,
        reveal_blocks=LONG_BLOCKS,
        aggregate_blocks=LONG_BLOCKS,
        committee_blocks=LONG_BLOCKS,
        max_round_blocks=LONG_BLOCKS,
    )


def genesis_of(plan: LearningPlan, meters: Iterable[DeviceKey], addresses: list[bytes]) -> Genesis:
    """A chain on which these meters are registered."""
    devices = [
        Device(meter.address, meter.mask_public, 1, f"home-{number}", meter_id(meter.meter_secret), METERED)
        for number, meter in enumerate(meters, 1)
    ]
    feeder = Feeder(1, START_HOUR, tuple(3000 + hour % 24 for hour in range(HISTORY_HOURS)))
    state = make_app_genesis(devices, [feeder], (plan,), ensure_keys("commit").verifying_key.to_bytes())
    return make_genesis(CHAIN_ID, addresses, state.encode(), GENESIS_MS)


class Hub:
    """One validator with its part in rounds."""

    def __init__(self, folder: Path, key: bytes, genesis: Genesis, plan: LearningPlan, peers: list[PeerAddress]) -> None:
        folder.mkdir()
        store, here = folder / "ppdl.sqlite", next(peer for peer in peers if peer.address == address_of(key))
        initialise_store(store, genesis)
        self.app = PpdlApplication(folder / "app.sqlite")
        others = [peer for peer in peers if peer is not here]
        self.engine = PbftEngine(genesis, key, self.app, store, (here.host, here.port), others, **TIMING)
        self.name, self.parameters = plan.spec.short_name, plan.spec.parameters
        self.attendants = LearningAttendants(
            [self.name], self.app.duties, self.engine, CHAIN_ID, key, folder, LearningAttendant
        )  # fmt: skip
        self.engine.on_gossip(self.attendants.on_gossip)
        self.engine.on_decided(self.attendants.on_block)

    @property
    def view(self) -> LearningView:
        """What the chain says of the model now."""
        shown = self.app._view()
        return model_at(shown.state, 0, shown.env).view

    def reveal(self, device: bytes, number: int, blob: bytes) -> None:
        """A meter shows its blob to this hub."""
        self.attendants[self.name].on_reveal(device, number, blob)

    def close(self) -> None:
        """Close the files."""
        self.app.close()
        self.attendants.close()


async def until(hub: Hub, phase: str) -> float:
    """Wait for a phase of a round, block by block; the time at which it was seen."""
    async with asyncio.timeout(PATIENCE_S):
        while hub.view.round.phase != phase:
            await hub.engine.wait_height(hub.app.info().last_height + 1)
    return time.perf_counter()


async def one_round(hub: Hub, meters: list[DeviceKey], seed: int) -> dict[str, float]:
    """Seconds of each phase after the commits of the open round, and how many updates the aggregate is of."""
    now = hub.view
    idle = {*now.round.committee, *now.round.left_out}
    trainers = [meter for meter in meters if meter.address not in idle]
    random = np.random.default_rng(seed)
    blobs, model = {}, now.model.model_hash
    for meter in trainers:
        update = np.rint(random.normal(scale=UPDATE_SCALE, size=hub.parameters)).astype(np.int16)
        blob = blobs[meter.address] = make_blob(random.bytes(SALT_BYTES), update_bytes(update))
        commitment = commitment_of(meter.address, now.round.number, model, blob_hash(blob))
        message = UpdateCommit(hub.name, now.round.number, model, commitment)
        await hub.engine.submit(commit_tx(base.sign(message, CHAIN_ID, meter.signing_key)))
    began = await until(hub, "reveal")
    for device, blob in blobs.items():
        hub.reveal(device, now.round.number, blob)
    aggregating = await until(hub, "aggregate")
    judging = await until(hub, "committee")
    judged = hub.view
    for meter in meters:
        if meter.address in judged.round.committee:
            candidate = judged.candidates[0].model.model_hash
            ballot = Ballot(hub.name, judged.round.number, candidate, 500_000, 400_000)
            await hub.engine.submit(ballot_tx(base.sign(ballot, CHAIN_ID, meter.signing_key)))
    ended = await until(hub, "commit")
    record = hub.view.records[-2]  # the last is the round that has opened
    if record.outcome != "learnt" or len(record.included) != len(trainers):
        raise RuntimeError(f"a round ended as {record.outcome} with {len(record.included)} of {len(trainers)} updates")
    return {
        "reveal": aggregating - began, "aggregate": judging - aggregating, "committee": ended - judging,
        "whole": ended - began, "updates": float(len(trainers)),
    }  # fmt: skip


async def measure(devices: int, runs: int, folder: Path) -> list[dict[str, float]]:
    """Rounds of one chain, one after the other."""
    meters = [DeviceKey(keccak256(b"openmg.bench.round" + word(number))) for number in range(devices)]
    keys = sorted(validator_keys(VALIDATORS), key=address_of)
    plan, ports = plan_of(devices), PortReservation(VALIDATORS)
    genesis = genesis_of(plan, meters, [address_of(key) for key in keys])
    peers = [PeerAddress(address_of(key), "127.0.0.1", port) for key, port in zip(keys, ports.ports, strict=True)]
    hubs = [Hub(folder / f"hub-{number}", key, genesis, plan, peers) for number, key in enumerate(keys)]
    stop, found = asyncio.Event(), []
    await asyncio.gather(*(hub.engine.start() for hub in hubs))
    running = [asyncio.create_task(hub.attendants.run(stop)) for hub in hubs]
    try:
        for run in range(runs):
            print(f"\r{devices} meters: round {run + 1} of {runs} ", end="", file=sys.stderr, flush=True)
            found.append(await one_round(hubs[0], meters, run))
    finally:
        stop.set()
        for hub in hubs:
            hub.attendants.wake()
        await asyncio.gather(*running)
        await asyncio.gather(*(hub.engine.stop() for hub in hubs))
        for hub in hubs:
            hub.close()
        ports.close()
        print(file=sys.stderr)
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[12, 30, 100])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    load, rows = os.getloadavg()[0], []
    print(f"{'meters':>7} {'updates':>8} {'reveal s':>9} {'aggregate s':>12} {'committee s':>12} {'whole s':>8}")
    for devices in options.devices:
        with tempfile.TemporaryDirectory() as folder:
            runs = asyncio.run(measure(devices, options.runs, Path(folder)))
        row = {name: statistics.median(run[name] for run in runs) for name in runs[0]} | {"meters": devices}
        rows.append(row | {"runs": runs})
        print(
            f"{devices:>7} {row['updates']:>8.0f} {row['reveal']:>9.2f} {row['aggregate']:>12.2f} {row['committee']:>12.2f}"
            f" {row['whole']:>8.2f}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": platform.machine(), "load_before": load, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
