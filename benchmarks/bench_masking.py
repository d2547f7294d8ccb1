"""Masked slots: what one slot costs a meter and its hub, in milliseconds and bytes, with and without members missing.

The meter's steps run as an agent runs them, with its file of promises on this disk (synchronous=FULL); times are CPU
milliseconds, which do not grow while others use the machine, and wall milliseconds where a disk is waited for. The peer is
pairwise masks alone: a scheme without self masks, which opens nothing when a member is missing. The opened sums are compared
with the plain ones.
Medians; writes `benchmarks/results/masking.json`.

    python benchmarks/bench_masking.py [--members 5 10 20 50] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_agent.masking.promises import Promises
from openmg.hashing import keccak256
from openmg.identity import DeviceKey
from openmg.masking import MaskedSlot, Masker, make_roster, require_committed, roster_id, threshold
from openmg.masking.masks import Words, add, pair_mask
from openmg.masking.member import Promise, answer
from openmg.masking.opening import MaskedReport, open_sums
from openmg.messages import base
from openmg.messages.slot_opening import OpeningNotice, SlotDelivery, SlotOpening
from openmg.messages.telemetry import Health, Roster, RosterMember, SlotReport
from openmg.pairwise import mask_sign
from openmg.zk.slot_openings import export_opening, import_opening

RESULTS = Path(__file__).with_name("results") / "masking.json"
CHAIN_ID = 7
SLOT = 1_979_000
VALUES_WH = (420, 17)
"""Import and export of every meter."""
GOAL_MS = 20.0
"""Of a meter's own work for a slot in a group of ten."""
T = TypeVar("T")


class Clock:
    """CPU and wall milliseconds, and bytes, by name."""

    def __init__(self) -> None:
        self.cpu_ms: dict[str, list[float]] = defaultdict(list)
        self.wall_ms: dict[str, list[float]] = defaultdict(list)
        self.sizes: dict[str, int] = {}

    def timed(self, name: str, step: Callable[[], T]) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        result = step()
        self.cpu_ms[name].append(1000 * (time.process_time() - cpu))
        self.wall_ms[name].append(1000 * (time.perf_counter() - wall))
        return result

    def row(self) -> dict[str, Any]:
        cpu = {f"{name}_cpu_ms": round(median(values), 3) for name, values in self.cpu_ms.items()}
        wall = {f"{name}_wall_ms": round(median(values), 3) for name, values in self.wall_ms.items()}
        return {**cpu, **wall, **{f"{name}_bytes": size for name, size in self.sizes.items()}}


def pairwise_alone(masker: Masker, values: tuple[int, ...]) -> Words:
    """The peer: values under the pairwise masks only."""
    masked = values
    for member in masker.roster.members:
        if member.address != masker.address:
            key = masker.pair_key(member.address, SLOT)
            masked = add(masked, pair_mask(key), mask_sign(masker.address, member.address))
    return masked


class World:
    """A group, its reports of one slot and the meters' promises."""

    def __init__(self, members: int, folder: Path, clock: Clock) -> None:
        keys = [DeviceKey(keccak256(b"openmg.bench.masking" + bytes([i]))) for i in range(members)]
        self.clock, self.keys = clock, {key.address: key for key in keys}
        rows = [RosterMember(f"home-{i}", k.address, k.mask_public, 1, bytes(32), bytes(65)) for i, k in enumerate(keys)]
        self.roster: Roster = make_roster(1, SLOT - 1, rows)
        self.id = roster_id(self.roster)
        self.maskers = {a: clock.timed("meter_roster", lambda k=k: Masker(k, self.roster)) for a, k in self.keys.items()}
        self.openings = {
            a: (export_opening(k, SLOT, VALUES_WH[1]), import_opening(k, SLOT, VALUES_WH[0])) for a, k in self.keys.items()
        }
        self.promises = {a: Promises(folder / f"{a.hex()}.sqlite") for a in self.keys}
        self.reports: dict[bytes, MaskedSlot] = {}

    def close(self) -> None:
        for promises in self.promises.values():
            promises.close()

    def report(self) -> None:
        for address, masker in self.maskers.items():
            exported, imported = self.openings[address]
            values = (*VALUES_WH, exported.blinding, imported.blinding)
            self.clock.timed("peer_mask", lambda m=masker, v=values: pairwise_alone(m, v))
            masked = self.clock.timed("meter_mask", lambda m=masker, v=values: m.mask(SLOT, v))
            self.reports[address] = masked
            promise = Promise(SLOT, self.id, masked.self_commitment)
            self.clock.timed("meter_promise", lambda a=address, p=promise: self.promises[a].report(p, bytes(2000)))
        bound = masked.self_commitment, keccak256(masked.shares)
        health, proof = Health(1, 1, 0, 1), bytes(256)
        message = SlotReport("home-1", 9, SLOT, self.id, masked.masked, *bound, (bytes(32), bytes(32)), proof, health)
        signed = base.sign(message, CHAIN_ID, next(iter(self.keys.values())).signing_key)
        self.clock.sizes["report"] = len(signed)
        self.clock.sizes["delivery"] = len(base.encode(SlotDelivery(signed, masked.shares)))

    def answers(self, name: str, notice: OpeningNotice) -> dict[bytes, SlotOpening]:
        """Every survivor's answer, its promise durable."""
        found: dict[bytes, SlotOpening] = {}
        for address in notice.survivors:
            found[address] = self.clock.timed(f"meter_{name}", lambda a=address: self._answer(a, notice))
            key = self.keys[address]
            self.clock.sizes["opening"] = len(base.sign(found[address], CHAIN_ID, key.signing_key))
        self.clock.sizes[f"notice_{name}"] = len(base.sign(notice, CHAIN_ID, key.signing_key))
        return found

    def _answer(self, address: bytes, notice: OpeningNotice) -> SlotOpening:
        promises, signing_key = self.promises[address], self.keys[address].signing_key
        before = promises.of(SLOT)
        assert before is not None
        after, opening = answer(self.maskers[address], before, notice, CHAIN_ID, signing_key)
        assert promises.answer(after)
        return opening

    def open(self, gone: int) -> None:
        """Opens the slot without so many members; AssertionError when the sum is not theirs."""
        alive = sorted(self.reports)[gone:]
        notice = OpeningNotice(self.id, SLOT, tuple(alive), tuple(self.reports[a].self_commitment for a in alive))
        found, name = self.answers("sign" if gone else "answer_whole", notice), "open_without" if gone else "open_whole"
        if gone:
            signed = tuple(found[a].signature for a in alive)
            found = self.answers("answer_without", OpeningNotice(*_fields(notice), tuple(alive), signed))
        held = {a: MaskedReport(*self.reports[a]) for a in alive}
        keys = {a: opening.keys for a, opening in found.items()}
        sums = self.clock.timed(f"hub_{name}", lambda: open_sums(self.roster, SLOT, held, keys))
        assert sums[:2] == tuple(len(alive) * value for value in VALUES_WH)
        points = [(exported.point, imported.point) for exported, imported in (self.openings[a] for a in alive)]
        self.clock.timed("hub_commitments", lambda: require_committed(sums, points))


def _fields(notice: OpeningNotice) -> tuple[bytes, int, tuple[bytes, ...], tuple[bytes, ...]]:
    return notice.roster_id, notice.slot, notice.survivors, notice.commitments


def measure(members: int, runs: int) -> dict[str, Any]:
    """One row: a group of so many, whole and with as many missing as may be."""
    clock, gone = Clock(), members - threshold(members)
    for _ in range(runs):
        for missing in {0, gone}:
            with tempfile.TemporaryDirectory() as folder:
                world = World(members, Path(folder), clock)
                world.report()
                world.open(missing)
                world.close()
    row = {"members": members, "threshold": threshold(members), "missing": gone, **clock.row()}
    row["meter_slot_cpu_ms"] = round(sum(row[f"meter_{step}_cpu_ms"] for step in ("mask", "promise", "answer_whole")), 3)
    row["meter_slot_wall_ms"] = round(sum(row[f"meter_{step}_wall_ms"] for step in ("mask", "promise", "answer_whole")), 3)
    row["mask_over_peer"] = round(row["meter_mask_cpu_ms"] / row["peer_mask_cpu_ms"], 2)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    print("members missing | mask  peer | slot cpu  wall | with missing | opens whole  without | delivery notice opening bytes")
    for members in arguments.members:
        row = measure(members, arguments.runs)
        rows.append(row)
        repaired = row["meter_sign_cpu_ms"] + row["meter_answer_without_cpu_ms"] if row["missing"] else 0.0
        print(
            f"{members:7d} {row['missing']:7d} | {row['meter_mask_cpu_ms']:4.2f} {row['peer_mask_cpu_ms']:5.2f}"
            f" | {row['meter_slot_cpu_ms']:8.2f} {row['meter_slot_wall_ms']:5.1f} | {repaired:12.2f}"
            f" | {row['hub_open_whole_cpu_ms']:11.2f} {row.get('hub_open_without_cpu_ms', 0):8.2f}"
            f" | {row['delivery_bytes']:8d} {row['notice_answer_whole_bytes']:6d} {row['opening_bytes']:7d}"
        )
    ten = next((row for row in rows if row["members"] == 10), None)
    RESULTS.parent.mkdir(exist_ok=True)
    result = {"machine": platform.machine(), "python": platform.python_version(), "goal_ms_at_10": GOAL_MS, "rows": rows}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if ten is not None:
        print(f"a meter's slot in a group of ten: {ten['meter_slot_cpu_ms']:.2f} ms of CPU (goal {GOAL_MS:g} ms); {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
