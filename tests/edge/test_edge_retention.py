"""What the store keeps for how long: thinning that leaves every slot's energy exact, and the disk budget."""

from __future__ import annotations

import dataclasses
import json
import random
import sqlite3
from pathlib import Path

import pytest
from edge_kit import agent_toml, run_agent_command

from edge_agent import doctor_host, retention
from edge_agent import store as store_module
from edge_agent.config import MAX_BUDGET_MB, AgentConfig, StoreSection
from edge_agent.doctor_finding import CheckFailed
from edge_agent.slots import Baseline, ClosedSlot, observe
from edge_agent.state_folder import folder_bytes
from edge_agent.store import RawReading, Store
from openmg.config import ConfigError, load_toml
from openmg.units import SLOT_SECONDS

FIRST = 1_000
MAX_W = 150_000


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of ten-second readings whole, twelve of minutes, and four days of quarters."""
    for name, rows in (("WHOLE_ROWS", 360), ("MINUTE_ROWS", 720), ("QUARTER_ROWS", 400), ("TIDY_ROWS", 900)):
        monkeypatch.setattr(retention, name, rows)


def meter(store: Store, slots: int, poll_s: int = 10, seed: int = 5) -> None:
    """What the poller does with a meter: readings in batches, each slot closed by the first reading behind it (committed
    together here, to spare the disk)."""
    chance, baseline = random.Random(seed), store.baseline()
    last = store.last_reading()
    imported, exported = (0, 0) if last is None else (last.import_total_wh, last.export_total_wh)
    begin = FIRST * SLOT_SECONDS if baseline is None else baseline.slot * SLOT_SECONDS + poll_s
    batch: list[RawReading] = []
    slots_closed: list[ClosedSlot] = []
    for time_s in range(begin, begin + slots * SLOT_SECONDS + 1, poll_s):
        imported, exported = imported + chance.randrange(9), exported + chance.randrange(3)
        batch.append(RawReading(time_s * 1000, time_s, 0, imported, exported))
        baseline, closed = observe(baseline, time_s, imported, exported, MAX_W)
        slots_closed += [closed] if closed else []
        if len(batch) == 900:
            store.add_readings(batch, len(batch), 0)
            batch = []
    store.add_readings(batch, len(batch), 0)
    with store._transaction() as db:
        rows = [(item.slot, item.import_wh, item.export_wh, item.flags) for item in slots_closed]
        db.executemany("INSERT INTO slots VALUES (?, ?, ?, ?, NULL)", rows)
    store.move_baseline(baseline, None)


def energies(store: Store) -> dict[int, tuple[int, int]]:
    """The energy of each slot, from the readings that are left: the first of a slot less the first of the one before."""
    rows = store._rows("SELECT sim_time, import_total_wh, export_total_wh FROM readings ORDER BY id")
    first: dict[int, tuple[int, int]] = {}
    for time_s, imported, exported in rows:
        first.setdefault(time_s // SLOT_SECONDS, (imported, exported))
    return {
        slot: (first[slot + 1][0] - counters[0], first[slot + 1][1] - counters[1])
        for slot, counters in first.items()
        if slot + 1 in first
    }


@pytest.mark.usefixtures("bounds")
def test_thinned_readings_still_give_the_energy_of_every_slot(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite", first_seq=1)
    meter(store, 200)
    stored = {row.slot: (row.import_wh, row.export_wh) for row in store.slots()}
    assert len(stored) == 200 and energies(store) == stored
    times = [row[0] for row in store._rows("SELECT sim_time FROM readings ORDER BY id")]
    steps = {after - before for before, after in zip(times, times[1:], strict=False)}
    assert steps == {10, 60, 900}
    assert len(times) < 360 + 720 + 200 + 900
    totals = store.totals()
    assert totals.polled == 200 * 90 + 1 and totals.thinned == totals.polled - len(times) and totals.dropped_readings == 0
    store.close()


@pytest.mark.usefixtures("bounds")
def test_the_file_of_a_meter_that_runs_on_stops_growing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite", first_seq=1)
    meter(store, 600, poll_s=30)
    (before,) = store._rows("SELECT max(id) FROM readings")
    pages = store._rows("PRAGMA page_count")[0][0]
    for _ in range(3):
        meter(store, 150, poll_s=30)
    assert store._rows("SELECT max(id) FROM readings") > [before]
    assert store._rows("PRAGMA page_count")[0][0] <= pages + 12  # the slots; rows of 30 s would take 60 pages more
    assert store.totals().dropped_readings > 0
    assert store._rows("SELECT count(*) FROM readings")[0][0] < 360 + 720 + 400 + 900
    store.close()


def pressed_store(path: Path, budget_bytes: int | None) -> Store:
    """Twelve hours of readings, a year of slots of which 300 wait for the hub and 50 have no report; 2 stores set aside."""
    store = Store(path, first_seq=1, budget_bytes=budget_bytes)
    with store._transaction() as db:
        rows = ((i * 1000, i, 5, i * 3, i) for i in range(1, 43_201))
        db.executemany("INSERT INTO readings VALUES (NULL, ?, ?, ?, ?, ?)", rows)
        db.executemany("INSERT INTO slots VALUES (?, 3, 1, 0, ?)", ((i, i) for i in range(1, 20_001)))
        db.executemany("INSERT INTO slots VALUES (?, 3, 1, 0, NULL)", ((i,) for i in range(20_001, 20_051)))
        db.executemany("INSERT INTO outbox VALUES (?, 'slot', randomblob(1200), 0)", ((i,) for i in range(19_701, 20_001)))
    for stamp in (7, 8):
        path.with_name(f"{path.name}.damaged-{stamp}").write_bytes(bytes(100_000))
    return store


def test_near_the_budget_readings_are_thinned_first_and_the_file_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = pressed_store(path, None)
    store.tidy()
    assert store.totals().thinned == 0  # nothing is pressed without a budget
    store._rows("PRAGMA wal_checkpoint(TRUNCATE)")
    before = folder_bytes(tmp_path)
    store.budget_bytes = before * 8 // 10
    store.tidy()
    totals = store.totals()
    assert totals.thinned > 38_000 and (totals.dropped_readings, totals.dropped_slots, totals.lost) == (0, 0, 0)
    assert [item.name for item in tmp_path.glob("*.damaged-*")] == ["store.sqlite.damaged-8"]
    for _ in range(10):
        store.tidy()
    assert folder_bytes(tmp_path) < store.budget_bytes
    assert store.totals() == totals  # there is room again, so nothing more goes
    store.close()


def test_what_is_dropped_goes_in_order_and_reports_go_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "FLOOR_BYTES", 0)
    monkeypatch.setattr(store_module, "MAX_RELIEFS", 1)
    store = pressed_store(tmp_path / "store.sqlite", 1)
    seen = []
    for _ in range(40):
        store.tidy()
        t = store.totals()
        seen.append((t.thinned > 0, t.dropped_readings > 0, t.dropped_slots > 0, t.lost > 0))
        if t.lost:
            break
    order = list(dict.fromkeys(seen))
    assert order == [tuple(step < gone for step in range(4)) for gone in range(5)]
    # Only what no report carries, and what still waits, is left when reports are touched; and the newest reading.
    assert [row.slot for row in store.slots()] == list(range(19_701, 20_051))
    assert len(store.unreported(0, 99)) == 50
    assert store.totals().lost == retention.DROP_REPORTS and store.totals().outbox_rows == 300 - retention.DROP_REPORTS
    assert store._rows("SELECT sim_time FROM readings") == [(43_200,)]
    assert caplog.text.count("nears its budget") == 1
    store.close()


def test_what_others_take_costs_no_history(tmp_path: Path) -> None:
    """Dropping the store's rows gives back nothing of a wallet that is too large for the budget."""
    store = pressed_store(tmp_path / "store.sqlite", 1_000_000)
    (tmp_path / "wallet.sqlite").write_bytes(bytes(5_000_000))
    for _ in range(20):
        store.tidy()
    totals = store.totals()
    assert totals.thinned > 38_000 and (totals.dropped_slots, totals.lost) == (0, 0)
    store.close()


async def test_budget_refusals_and_what_went_are_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = agent_toml(tmp_path, 9, "mqtt://127.0.0.1:1")
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}\n[store]\ndisk_budget_mb = 16\n", encoding="utf-8")
    config = load_toml(path, AgentConfig)
    store = Store(config.store_path, first_seq=7, budget_bytes=config.store.budget_bytes)
    meter(store, 2)
    store.report(FIRST, "slot", lambda seq, rows: b"")
    monkeypatch.setattr(store_module, "MAX_REFUSED", 1)
    assert store.set_aside(7, "comes from another age") and not store.set_aside(7, "twice")
    store.report(FIRST + 1, "slot", lambda seq, rows: b"")
    assert not store.set_aside(8, "and all others") and store.acknowledge(8) == 1  # a hub that refuses all takes nothing away
    store.close()
    assert "of 16 MB" in await doctor_host.disk(config)
    with pytest.raises(CheckFailed, match="hub refused 1 reports.*store retry"):
        await doctor_host.store(config)
    (config.device.state_dir / "wallet.sqlite").write_bytes(bytes(15_000_000))
    with pytest.raises(CheckFailed, match="takes 15 of 16 MB.*disk_budget_mb"):
        await doctor_host.disk(config)
    huge = dataclasses.replace(config, store=StoreSection(MAX_BUDGET_MB))
    with pytest.raises(CheckFailed, match="may still grow by"):
        await doctor_host.disk(huge)
    status = json.loads(run_agent_command("status", path, "--json").stdout)
    assert status["store"]["refused_rows"] == 1 and status["disk"]["budget"] == 16_000_000 < status["disk"]["free"]
    info = json.loads(run_agent_command("store", path, "--json", before=("info",)).stdout)
    assert info["refused_reports"][0]["reason"] == "comes from another age" and info["disk_bytes"]["used"] > 15_000_000
    assert info["readings"] == {"whole": 181, "minutes": 0, "quarters": 0} and info["thinned"] == 0
    again = run_agent_command("store", path, before=("retry",))
    assert again.stdout == "1 slots will be reported anew\n"
    assert "1 slots" not in await doctor_host.store(config)
    path.write_text(f"{text}\n[store]\ndisk_budget_mb = 15\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="must be 16 to"):
        load_toml(path, AgentConfig)


def test_a_store_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    from edge_agent.store_file import _SCHEMA_1, COUNTERS_1, _counters

    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(f"{_SCHEMA_1}{_counters(COUNTERS_1, 77)}PRAGMA user_version=1;")
        db.execute("INSERT INTO readings VALUES (NULL, 1, 2, 3, 4, 5)")
        db.execute("INSERT INTO baseline VALUES (1, 9, 4, 5, 0)")
    db.close()
    store = Store(path)
    assert store._rows("PRAGMA auto_vacuum") == [(2,)] and store._rows("PRAGMA user_version") == [(2,)]
    assert store.last_reading() == RawReading(1, 2, 3, 4, 5) and store.baseline() == Baseline(9, 4, 5)
    store.move_baseline(Baseline(10, 5, 5), ClosedSlot(9, 1, 0, 0))
    assert store.report(9, "slot", lambda seq, rows: b"") == 77
    assert (tmp_path / "store.start").read_text(encoding="ascii") == "77\n"
    store.close()
