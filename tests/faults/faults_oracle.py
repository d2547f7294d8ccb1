"""What must hold after every fault, judged from the files of the agents and of the hub alone.

1. A row that an agent had committed before the fault is there after it: readings, slots, counters; a report that waited still
   waits, or the hub has it.
2. Of each (device, seq) and each (device, slot) the hub has one report: none is missing, none is doubled.
3. The first reading after the recovery is what the meter's registers showed then to a client of its own.
4. The energies that the hub's reports commit to are those of the agent's slots, and add up to the meter's counters at the end
   less those at the start, to the Wh. Every group that all members reported, within its day, was opened to the sum of them.
Not here: how a fault is made (`faults_kit` and the tests).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_kit import CHAIN_ID
from faults_meters import Energy

from edge_agent.slots import IMPORTED
from openmg.identity import DeviceKey
from openmg.masking import threshold
from openmg.messages import base
from openmg.messages.feeder import FeederReport
from openmg.messages.slot_opening import SlotDelivery
from openmg.messages.telemetry import SlotReport
from openmg.zk.babyjub import compress
from openmg.zk.slot_openings import export_opening, import_opening


def rows(path: Path, sql: str) -> list[tuple]:
    """What a reader sees: everything that was committed and nothing else."""
    with contextlib.closing(sqlite3.connect(path, timeout=10.0)) as db:
        return db.execute(sql).fetchall()


@dataclass(frozen=True)
class Held:
    """All that an agent's store held at a moment: readings and slots by their keys, reports that waited by seq, counters."""

    readings: dict[int, tuple]
    slots: dict[int, tuple]
    outbox: dict[int, bytes]
    counters: dict[str, int]

    @property
    def reported(self) -> dict[int, int]:
        """Seq of the report by slot."""
        return {slot: row[3] for slot, row in self.slots.items() if row[3] is not None}


def held(store: Path) -> Held:
    """The store's rows, in one transaction."""
    with contextlib.closing(sqlite3.connect(store, timeout=10.0)) as db:
        db.execute("BEGIN")
        return Held(
            {row[0]: row[1:] for row in db.execute("SELECT * FROM readings")},
            {row[0]: row[1:] for row in db.execute("SELECT slot, import_wh, export_wh, flags, seq FROM slots")},
            dict(db.execute("SELECT seq, payload FROM outbox").fetchall()),
            dict(db.execute("SELECT name, value FROM counters").fetchall()),
        )


@dataclass(frozen=True)
class Recovery:
    """The first reading of `device` that ended after `from_ms` is to show `energy`, and to have ended before `to_ms` (wall)."""

    device: str
    from_ms: int
    to_ms: int
    energy: Energy


@dataclass(frozen=True)
class HubReport:
    """A report in the hub's database."""

    seq: int
    slot: int
    payload: bytes


def hub_reports(database: Path, device: str) -> list[HubReport]:
    sql = f"SELECT seq, slot, payload FROM reports WHERE device = '{device}' ORDER BY seq"
    return [HubReport(*row) for row in rows(database, sql)]


def hub_sums(database: Path) -> dict[int, Energy]:
    """The opened sums by slot."""
    return {slot: Energy(*sums) for slot, *sums in rows(database, "SELECT slot, import_wh, export_wh FROM groups")}


def require_kept(before: Held, after: Held, at_hub: Iterable[HubReport]) -> None:
    """Rule 1."""
    there = {report.seq: report.payload for report in at_hub}
    assert before.readings.items() <= after.readings.items(), "a committed reading is gone"
    for slot, row in before.slots.items():
        found = after.slots.get(slot)
        assert found is not None and found[:3] == row[:3], f"slot {slot} was {row} and is {found}"
        assert row[3] in (None, found[3]), f"slot {slot} was reported as {row[3]} and again as {found[3]}"
    for seq, payload in before.outbox.items():
        assert after.outbox.get(seq, there.get(seq)) == payload, f"report {seq} waited and is gone"
    for name, value in before.counters.items():
        assert after.counters[name] >= value, f"counter {name} went from {value} to {after.counters[name]}"


def require_once(after: Held, at_hub: list[HubReport]) -> None:
    """Rule 2."""
    seqs, slots = [report.seq for report in at_hub], [report.slot for report in at_hub]
    assert len(set(slots)) == len(slots), "a slot came twice"
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), "a number is missing"
    assert {report.slot: report.seq for report in at_hub} == after.reported, "store and hub tell different reports"
    assert not after.outbox and after.counters["lost"] == 0
    assert after.counters["stored"] == after.counters["acked"] == len(at_hub)


def require_first_reading(after: Held, recovery: Recovery) -> None:
    """Rule 3. A row of readings is: wall ms, simulated time, power, import, export."""
    later = [row for _id, row in sorted(after.readings.items()) if row[0] >= recovery.from_ms]
    assert later and later[0][0] <= recovery.to_ms, f"{recovery.device} read nothing in time"
    assert Energy(*later[0][3:]) == recovery.energy


def committed_wh(report: HubReport, slot: tuple, key: DeviceKey) -> Energy:
    """The energies of a report at the hub, which must be those that the store has of its slot."""
    stored = Energy(slot[0], slot[1])
    try:
        message = base.open_signed(SlotReport, base.decode(SlotDelivery, report.payload).report, CHAIN_ID).message
    except base.InvalidMessage:
        clear = base.open_signed(FeederReport, report.payload, CHAIN_ID).message
        assert stored == Energy(clear.import_wh, clear.export_wh)
        return stored
    points = export_opening(key, report.slot, slot[1]).point, import_opening(key, report.slot, slot[0]).point
    assert message.commitments == tuple(map(compress, points)), f"slot {report.slot} commits to another energy"
    return stored


def require_energy(after: Held, at_hub: list[HubReport], key: DeviceKey, metered: Energy) -> dict[int, Energy]:
    """Rule 4 for one meter; its energies by slot."""
    of_slot = {report.slot: committed_wh(report, after.slots[report.slot], key) for report in at_hub}
    assert sum(of_slot.values(), Energy(0, 0)) == metered
    unreported = [slot for slot, row in after.slots.items() if row[3] is None and not row[2] & IMPORTED]
    assert not unreported, f"slots {unreported} were metered and never reported"
    return of_slot


def require_sums(energies: Mapping[str, dict[int, Energy]], sums: dict[int, Energy]) -> None:
    """Rule 4 for the group."""
    whole = set.intersection(*(set(of_slot) for of_slot in energies.values()))
    assert whole <= set(sums), "a group that all members reported was not opened"
    for slot, total in sums.items():
        there = [of_slot[slot] for of_slot in energies.values() if slot in of_slot]
        assert total == sum(there, Energy(0, 0)) and len(there) >= threshold(len(energies)), f"sum of slot {slot} is wrong"
