"""What a flood from one peer costs the others: blocks a second, processor time, and each replica's memory, with and without.

Validators, each a process of its own, loopback TCP with TLS, SQLite with synchronous=FULL, mempools kept filled; one more hub
that floods. In one run phases without and with its flood take turns (quiet, flood, quiet, ... quiet); a flooded one is compared
with the mean of the quiet ones before and after it, so that neither a busy machine nor a growing chain counts for the flood. Of
each phase the first SETTLE_S are left out of the speed, but not of the memory: until the first burst is through, or what was
under way is gone.

Without `--as-validator` there are four validators, and the flooder is a fifth hub with a valid key, whose card all of them
hold. It is connected to each and floods as fast as it is read. With it, the flooder is one of the four: it votes and proposes
like the others, and sends as much junk beside on the same connections as their limits take (`--pace`). If it sent more, its own
votes would wait behind its junk, as if it were silent.

The honest validators share one core and the flooder has another, in every phase: counted is what the flood makes them do, and
not what making it costs its sender, who would be on a machine of its own. All on one core is the hard case: what a flood takes
of each of them, it takes three or four times of that core.

    garbage       malformed frames on every channel, and unknown channels
    transactions  well-formed transactions that the application refuses
    votes         PREPAREs under the flooder's valid signature, for the height under way, another each time
    statuses      valid messages that say nothing new
    gossip        the largest well-formed messages beside consensus
    large         4 MiB of noise in each frame
    proposals     well-formed PRE-PREPAREs with the largest block, for heights long decided
    turns         such PRE-PREPAREs for the height at which it is the flooder's turn next, another block each time
    views         VIEW-CHANGEs under its valid signature, for a later view each time (a validator only)
    newviews      NEW-VIEWs under its valid signature with the largest block and no quorum (a validator only)
    connections   a new connection with a valid proof as often as it is let in (no validator: its own link would end)

A validator that floods may delay itself, too, and the chain waits for it as for a slow validator. So the speed is also given of
the others' turns alone, from one proposal to the next where neither is the flooder's.

On a machine that is busy with other things blocks a second say little. What a flood takes of a validator's processor each
second, beyond what its blocks take in the quiet phases beside, does not depend on that: it is what a validator with a core of
its own loses of its speed.

Memory is the peak of the resident memory: in each phase, against the quiet phases beside it, and over the whole run, against a
run in which nobody floods. Prints a table and writes `benchmarks/results/ppdl_flood.json`, or `ppdl_flood_validator.json`.

    python benchmarks/bench_ppdl_flood.py [--kinds garbage,votes] [--seconds 6] [--floods 4] [--runs 1] [--as-validator]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ppdl_flood_hubs import flooder, honest, provision, validator, voting_flooder
from benchmarks.ppdl_flood_junk import STRANGERS_KINDS, VALIDATORS_KINDS
from hub.operators.folder import HubFolder, load_card
from hub.ppdl.genesis import load_genesis

RESULTS = Path(__file__).with_name("results")
BEGIN_AFTER_S = 1.0  # from the word to begin: long enough to reach every process


async def one_run(kind: str, seconds: float, floods: int, voter: bool, pace: float) -> dict[str, float]:
    """Start the processes, let them begin together; figures of the honest validators."""
    phases = 2 * floods + 1
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        provision(root, voter)
        processes = []
        for me in range(honest(voter) + 1):
            command = [
                sys.executable,
                __file__,
                "--child",
                str(me),
                directory,
                kind,
                str(seconds),
                str(phases),
                str(int(voter)),
                str(pace),
            ]
            pipes: dict[str, Any] = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
            processes.append(await asyncio.create_subprocess_exec(*command, **pipes))
        for process in processes:
            assert process.stdout is not None
            if not await process.stdout.readline():
                raise SystemExit("bench_ppdl_flood: a process did not begin; its error stands above")
        begin = f"{time.monotonic() + BEGIN_AFTER_S}\n".encode()
        outputs = await asyncio.gather(*(process.communicate(begin) for process in processes))
    if any(process.returncode for process in processes):
        raise SystemExit("bench_ppdl_flood: a process failed; its error stands above")
    said: list[dict[str, Any]] = [json.loads(output) for output, _ in outputs]
    return figures(said[:-1], said[-1])


def figures(validators: list[dict[str, Any]], flooder: dict[str, Any]) -> dict[str, float]:
    """Medians over phases and validators. A flooded phase stands between two quiet ones, and is compared with their mean."""
    count = len(validators[0]["phases"])
    rates = [statistics.median(v["phases"][i]["blocks"] / v["phases"][i]["s"] for v in validators) for i in range(count)]
    costs = [
        statistics.median(1000 * v["phases"][i]["cpu_s"] / max(1, v["phases"][i]["blocks"]) for v in validators)
        for i in range(count)
    ]
    taken = [
        1000 * (v["phases"][i]["cpu_s"] - v["phases"][i]["blocks"] * quiet_cost(v["phases"], i)) / v["phases"][i]["s"]
        for v in validators
        for i in range(1, count, 2)
    ]
    peaks = [[v["phases"][i]["peak_mib"] for i in range(count)] for v in validators]
    beside = [(i, i - 1, i + 1) for i in range(1, count, 2)]
    turns = [statistics.median(v["phases"][i]["turn_ms"] for v in validators) for i in range(count)]
    return {
        "quiet_blocks_per_s": statistics.median(rates[::2]),
        "flood_blocks_per_s": statistics.median(rates[1::2]),
        "blocks_ratio": statistics.median(2 * rates[i] / (rates[before] + rates[after]) for i, before, after in beside),
        "quiet_turn_ms": statistics.median(turns[::2]),
        "flood_turn_ms": statistics.median(turns[1::2]),
        "turns_ratio": statistics.median((turns[before] + turns[after]) / (2 * turns[i]) for i, before, after in beside),
        "quiet_cpu_ms_per_block": statistics.median(costs[::2]),
        "flood_cpu_ms_per_block": statistics.median(costs[1::2]),
        "cpu_ratio": statistics.median(2 * costs[i] / (costs[before] + costs[after]) for i, before, after in beside),
        "taken_cpu_ms_per_s": statistics.median(taken),
        "phase_peak_ratio": max(
            statistics.median(2 * peak[i] / (peak[before] + peak[after]) for i, before, after in beside) for peak in peaks
        ),
        "peak_mib": max(v["peak_mib"] for v in validators),
        "view_changes": max(v["view_changes"] for v in validators),
        "throttled": sum(v["throttled"] for v in validators),
        "frames_sent": flooder["sent"],
        "flooder_cpu_s": flooder["cpu_s"],
    }


def quiet_cost(phases: list[dict[str, float]], flooded: int) -> float:
    """Seconds of processor that a block takes in the quiet phases beside a flooded one."""
    beside = (phases[flooded - 1], phases[flooded + 1])
    return sum(phase["cpu_s"] for phase in beside) / max(1, sum(phase["blocks"] for phase in beside))


HEAD = f"{'kind':>13} {'blocks/s quiet':>14} {'flood':>7} {'ratio':>6} {'CPU ms/block quiet':>18} {'flood':>7} {'ratio':>6}" + (
    f" {'peak MiB':>9} {'ratio':>6} {'views':>6} {'sent':>9} {'CPU s':>6}"
)


def show(name: str, run: dict[str, float]) -> None:
    speed = f"{run['quiet_blocks_per_s']:14.1f} {run['flood_blocks_per_s']:7.1f} {run['blocks_ratio']:6.2f}"
    cost = f"{run['quiet_cpu_ms_per_block']:18.2f} {run['flood_cpu_ms_per_block']:7.2f} {run['cpu_ratio']:6.2f}"
    memory = f"{run['peak_mib']:9.1f} {run['phase_peak_ratio']:6.3f}"
    rest = f"{run['view_changes']:6.0f} {run['frames_sent']:9.0f} {run['flooder_cpu_s']:6.1f}"
    print(f"{name:>13} {speed} {cost} {memory} {rest}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kinds", help="some of the kinds above, with commas between; all unless given")
    parser.add_argument("--seconds", type=float, default=6.0, help="measured of each phase")
    parser.add_argument("--floods", type=int, default=4, help="phases with a flood in each run")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument(
        "--as-validator", action="store_true", help="the flooder is one of the four validators, and does its part beside"
    )
    parser.add_argument("--pace", type=float, default=0.9, help="a validator's junk, as a share of what the limits take")
    options = parser.parse_args()
    known = VALIDATORS_KINDS if options.as_validator else STRANGERS_KINDS
    kinds = options.kinds.split(",") if options.kinds else list(known)
    if set(kinds) - set(known):
        raise SystemExit(f"bench_ppdl_flood: --kinds is {options.kinds}; use some of {', '.join(known)}")
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in ("quiet", *kinds)}
    load_before = os.getloadavg()
    print(HEAD)
    for _ in range(options.runs):
        for kind in runs:
            runs[kind].append(asyncio.run(one_run(kind, options.seconds, options.floods, options.as_validator, options.pace)))
            show(kind, runs[kind][-1])
    median = {kind: {key: statistics.median(run[key] for run in of) for key in of[0]} for kind, of in runs.items()}
    print(f"medians of {options.runs}, load before {load_before[0]:.1f}; memory against quiet:")
    for kind in kinds:
        memory = median[kind]["peak_mib"] / median["quiet"]["peak_mib"] - 1
        beside = median[kind]["phase_peak_ratio"] - 1
        print(
            f"{kind:>13} blocks/s x {median[kind]['blocks_ratio']:.2f}, "
            f"of the others' turns x {median[kind]['turns_ratio']:.2f}, CPU/block x {median[kind]['cpu_ratio']:.2f}, "
            f"{median[kind]['taken_cpu_ms_per_s']:.1f} ms of CPU a second taken of each, "
            f"peak memory {100 * memory:+.1f} % of the run, {100 * beside:+.1f} % of the phase"
        )
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine()}
    report = {"bench": "ppdl_flood", "options": vars(options), "machine": machine, "load_before": load_before}
    RESULTS.mkdir(exist_ok=True)
    name = "ppdl_flood_validator.json" if options.as_validator else "ppdl_flood.json"
    (RESULTS / name).write_text(json.dumps(report | {"runs": runs, "median": median}, indent=1) + "\n")


def child(arguments: list[str]) -> None:
    number, where, kind = int(arguments[0]), Path(arguments[1]), arguments[2]
    seconds, phases, voter, pace = float(arguments[3]), int(arguments[4]), arguments[5] == "1", float(arguments[6])
    genesis = load_genesis(where / "genesis.cbor")
    if number < honest(voter):
        flooding = load_card(HubFolder(where / f"hub-{honest(voter)}").own_card).address
        asyncio.run(validator(HubFolder(where / f"hub-{number}"), genesis, seconds, phases, flooding))
    elif voter:
        asyncio.run(voting_flooder(where, genesis, kind, seconds, phases, pace))
    else:
        asyncio.run(flooder(where, genesis, kind, seconds, phases))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
