"""Slots from counters, the store's promises, the importer."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from edge_kit import Processes
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import retention
from edge_agent import store as store_module
from edge_agent.importer import ImportFileError, import_file
from edge_agent.slots import CARRIED, IMPORTED, PARTIAL, RESET, Baseline, ClosedSlot, carry, observe
from edge_agent.store import RawReading, SlotRow, Store, StoreError
from openmg.units import SLOT_SECONDS

SEOUL = ZoneInfo("Asia/Seoul")
MAX_W = 150_000


def net_wh(row: SlotRow) -> int:
    return row.import_wh - row.export_wh


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s" / "store.sqlite", first_seq=1)


# Slots


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=60))
def test_slots_add_up_to_the_counters_whatever_is_missed(polls: list[tuple[int, int, int]]) -> None:
    baseline, time_s, imported, exported = Baseline(10, 1000, 2000), 10 * SLOT_SECONDS, 1000, 2000
    slots: list[ClosedSlot] = []
    for pause, more_in, more_out in polls:
        time_s, imported, exported = time_s + pause, imported + more_in, exported + more_out
        baseline, closed = observe(baseline, time_s, imported, exported, MAX_W)
        slots += [closed] if closed else []
    assert sum(s.import_wh for s in slots) == baseline.import_total_wh - 1000
    assert sum(s.export_wh for s in slots) == baseline.export_total_wh - 2000
    assert [s.slot for s in slots] == sorted({s.slot for s in slots})
    assert all(s.flags in (0, CARRIED) for s in slots)


def test_a_missed_slot_falls_into_the_next_and_a_first_one_is_partial() -> None:
    first, closed = observe(None, 10.5 * SLOT_SECONDS, 100, 0, MAX_W)
    assert closed is None and first == Baseline(10, 100, 0, partial=True)
    second, closed = observe(first, 11 * SLOT_SECONDS, 150, 7, MAX_W)
    assert closed == ClosedSlot(10, 50, 7, PARTIAL)
    third, closed = observe(second, 14 * SLOT_SECONDS + 1, 450, 8, MAX_W)
    assert closed == ClosedSlot(13, 300, 1, CARRIED)
    assert observe(third, 14 * SLOT_SECONDS + 800, 500, 9, MAX_W) == (third, None)
    assert observe(third, 14 * SLOT_SECONDS - 2, 500, 9, MAX_W) == (third, None)  # the time service stepped the clock


def test_counters_that_went_back_begin_anew() -> None:
    following, closed = observe(Baseline(10, 1000, 5), 11 * SLOT_SECONDS, 3, 5, MAX_W)
    assert closed == ClosedSlot(10, 0, 0, RESET) and following == Baseline(11, 3, 5)


def test_counters_that_jump_further_than_any_power_carries_begin_anew() -> None:
    # A meter that shows zeros while it starts, and then its 50 MWh of a lifetime again.
    low, closed = observe(Baseline(10, 50_000_000, 5), 11 * SLOT_SECONDS, 0, 0, MAX_W)
    assert closed == ClosedSlot(10, 0, 0, RESET)
    _, closed = observe(low, 12 * SLOT_SECONDS, 50_000_900, 5, MAX_W)
    assert closed == ClosedSlot(11, 0, 0, RESET)
    most = MAX_W // 2  # a slot, and the slack of another
    assert observe(Baseline(10, 0, 0), 11 * SLOT_SECONDS, most, 0, MAX_W)[1] == ClosedSlot(10, most, 0, 0)
    assert observe(Baseline(10, 0, 0), 11 * SLOT_SECONDS, most + 1, 0, MAX_W)[1] == ClosedSlot(10, 0, 0, RESET)


@given(st.lists(st.tuples(st.integers(-20_000, 20_000), st.integers(0, 400)), min_size=1, max_size=60))
def test_no_energy_is_lost_or_doubled_whatever_the_clock_does(polls: list[tuple[int, int]]) -> None:
    baseline, time_s, imported = Baseline(1000, 7000, 0), 1000 * SLOT_SECONDS, 7000
    slots: dict[int, int] = {}
    for step, energy in polls:
        time_s, imported = max(0, time_s + step), imported + energy
        following, closed = observe(baseline, time_s, imported, 0, MAX_W)
        if closed is not None and closed.slot in slots:
            following, closed = carry(baseline, following), None
        if closed is not None:
            slots[closed.slot] = closed.import_wh
        baseline = following
    assert sum(slots.values()) == baseline.import_total_wh - 7000


# Store


def test_what_was_committed_is_there_after_reopening(store: Store) -> None:
    store.add_readings([RawReading(1, 2, 3, 4, 5)], polled=1, poll_errors=2)
    store.move_baseline(Baseline(8, 50, 60), ClosedSlot(7, 10, 20, 0))
    assert store.report(7, "slot", lambda seq, rows: b"%d of %d" % (seq, rows)) == 1
    store.close()
    again = Store(store.path, first_seq=99)
    totals = again.totals()
    assert (totals.polled, totals.poll_errors, totals.stored, totals.acked, totals.lost) == (1, 2, 1, 0, 0)
    assert again.baseline() == Baseline(8, 50, 60)
    assert [(row.slot, row.import_wh, row.export_wh, row.seq) for row in again.slots()] == [(7, 10, 20, 1)]
    assert [row.payload for row in again.pending(0, 10)] == [b"1 of 1"]
    assert again._rows("PRAGMA synchronous") == [(2,)] and again._rows("PRAGMA journal_mode") == [("wal",)]
    again.close()


def test_a_slot_is_reported_once_and_a_row_leaves_only_when_acknowledged(store: Store) -> None:
    for slot in (5, 6, 7):
        store.move_baseline(Baseline(slot + 1, 0, 0), ClosedSlot(slot, 1, 1, 0))
    assert [row.slot for row in store.unreported(6, 10)] == [6, 7]
    for slot in (5, 6, 7):
        store.report(slot, "slot", lambda seq, rows: f"{seq}/{rows}".encode())
    assert store.unreported(0, 10) == ()
    with pytest.raises(ValueError, match="reported before"):
        store.report(6, "slot", lambda seq, rows: b"")
    assert store.acknowledge(2) == 2 and store.acknowledge(2) == 0
    assert [(row.seq, row.payload) for row in store.pending(0, 10)] == [(3, b"3/3")]
    assert store.totals().acked == 2


def test_a_report_that_cannot_be_built_changes_nothing(store: Store) -> None:
    store.move_baseline(Baseline(6, 0, 0), ClosedSlot(5, 1, 1, 0))

    def fail(_seq: int, _rows: int) -> bytes:
        raise RuntimeError("no mask")

    with pytest.raises(RuntimeError):
        store.report(5, "slot", fail)
    assert store.totals().stored == 0 and [row.slot for row in store.unreported(0, 9)] == [5]
    assert store.report(5, "slot", lambda seq, rows: b"") == 1


def test_a_new_store_never_repeats_a_number(tmp_path: Path) -> None:
    fresh = Store(tmp_path / "a.sqlite")
    fresh.move_baseline(Baseline(6, 0, 0), ClosedSlot(5, 1, 1, 0))
    assert abs(fresh.report(5, "slot", lambda seq, rows: b"") - time.time()) < 5
    fresh.close()


def test_every_table_is_bounded_and_losses_are_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rows in (("WHOLE_ROWS", 3), ("MINUTE_ROWS", 1), ("QUARTER_ROWS", 1), ("TIDY_ROWS", 1)):
        monkeypatch.setattr(retention, name, rows)
    monkeypatch.setattr(store_module, "MAX_OUTBOX", 3)
    monkeypatch.setattr(store_module, "MAX_SLOTS", 8)
    for i in range(12):
        store.add_readings([RawReading(i, i * SLOT_SECONDS, 0, 0, 0)], 1, 0)
        store.move_baseline(Baseline(i + 1, 0, 0), ClosedSlot(i, 1, 1, 0))
        store.report(i, "slot", lambda seq, rows: b"")
    assert store._rows("SELECT count(*) FROM readings") == [(5,)]
    assert [row.seq for row in store.pending(0, 99)] == [10, 11, 12]
    totals = store.totals()
    assert (totals.lost, totals.slots, totals.dropped_readings, totals.dropped_slots) == (9, 8, 7, 4)


def test_a_slot_that_was_metered_is_never_replaced(store: Store) -> None:
    store.move_baseline(Baseline(6, 10, 0), ClosedSlot(5, 10, 0, 0))
    store.report(5, "slot", lambda seq, rows: b"")
    assert not store.move_baseline(Baseline(6, 99, 0), ClosedSlot(5, 89, 0, 0))  # the clock was set back
    assert store.baseline() == Baseline(6, 10, 0) and store.slots()[0].seq == 1
    carried = Baseline(6, 10, 0, partial=True, carried=True)
    assert store.move_baseline(carried, None) and store.baseline() == carried
    store.import_slots([ClosedSlot(8, 1, 1, 0)], None)
    assert store.move_baseline(Baseline(9, 20, 0), ClosedSlot(8, 5, 0, 0))  # but the past of a file is


def test_a_clock_that_jumps_ahead_wipes_nothing(store: Store) -> None:
    for slot in (*range(100, 120), 10**7, 120):
        store.move_baseline(Baseline(slot + 1, 0, 0), ClosedSlot(slot, 4, 0, 0))
    assert [row.slot for row in store.slots()] == [*range(100, 121), 10**7]
    first_hour, hours = store.energy_wh(60, net_wh)  # nor does it make a list of a thousand years
    assert (first_hour, hours) == (25, [16] * 5 + [None])


def test_a_full_disk_changes_nothing_and_is_over_when_there_is_room(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    pages = store._rows("PRAGMA page_count")[0][0]
    store._rows(f"PRAGMA max_page_count={pages}")
    refused = 0
    for i in range(400):
        try:
            store.add_readings([RawReading(i, i, 0, 0, 0)] * 20, 20, 0)
        except StoreError as error:
            assert "check free space" in str(error)
            refused += 1
    assert refused > 300 and caplog.text.count("trying again") == 1
    kept = store._rows("SELECT count(*) FROM readings")[0][0]
    assert kept == store.totals().polled == 20 * (400 - refused)
    with pytest.raises(StoreError):
        store.import_slots([ClosedSlot(i, 1, 2, 0) for i in range(3000)], None)
    assert store.slots() == ()
    store._rows("PRAGMA max_page_count=1000000")
    store.move_baseline(Baseline(6, 0, 0), ClosedSlot(5, 1, 1, 0))
    assert store.report(5, "slot", lambda seq, rows: b"") == 1


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    store = Store(path)
    assert store.totals().stored == 0
    assert len(list(tmp_path.glob("store.sqlite.damaged-*"))) == 1
    store.close()


def test_a_store_of_a_newer_version_is_refused(store: Store) -> None:
    store.close()
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="newer version"):
        Store(store.path)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="ascii")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path / "file" / "store.sqlite")


def test_threads_share_a_store(store: Store) -> None:
    def work(start: int) -> None:
        for slot in range(start, start + 20):
            store.import_slots([ClosedSlot(slot, 1, 2, 0)], None)

    threads = [threading.Thread(target=work, args=(n * 20,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.slots()) == 80


def test_hours_are_net_and_incomplete_ones_are_unknown(store: Store) -> None:
    slots = [ClosedSlot(8 + i, 10 * i, 1, 0) for i in range(4)]  # hour 2
    slots += [ClosedSlot(12 + i, 5, 0, 0) for i in range(3)]  # hour 3: one slot missing
    slots += [ClosedSlot(20 + i, 5, 9, CARRIED if i == 0 else 0) for i in range(4)]  # hour 5: holds other hours' energy
    store.import_slots(slots, None)
    assert store.energy_wh(60, net_wh) == (2, [60 - 4, None, None, None])
    assert store.energy_wh(30, net_wh) == (4, [8, 48, 10, None, None, None, None, -8])
    assert store.energy_wh(15, net_wh) == (8, [-1, 9, 19, 29, 5, 5, 5, None, None, None, None, None, None, -4, -4, -4])


@pytest.mark.parametrize("resolution_minutes", [15, 30, 60])
def test_steps_begin_at_whole_multiples_of_their_length_since_1970(store: Store, resolution_minutes: int) -> None:
    slots_per_step = resolution_minutes // 15
    store.import_slots([ClosedSlot(slot, slot, 0, 0) for slot in range(101, 125)], None)
    first, energies = store.energy_wh(resolution_minutes, net_wh)
    assert first == 101 // slots_per_step and len(energies) == 124 // slots_per_step - first + 1
    for step, energy in enumerate(energies, first):
        slots = range(step * slots_per_step, (step + 1) * slots_per_step)
        whole = slots.start >= 101 and slots.stop <= 125
        assert energy == (sum(slots) if whole else None)


def test_an_empty_store_has_no_steps(store: Store) -> None:
    assert store.energy_wh(30, net_wh) == (0, [])


@pytest.mark.parametrize("resolution_minutes", [5, 10, 20, 0])
def test_a_step_that_is_not_made_of_whole_slots_is_refused(store: Store, resolution_minutes: int) -> None:
    with pytest.raises(ValueError, match=f"kept in slots of 15 minutes, not of {resolution_minutes}"):
        store.energy_wh(resolution_minutes, net_wh)


# Importer

HEAD = "time,import_wh,export_wh,import_total_wh,export_total_wh\n"


def write(path: Path, *lines: str, head: str = HEAD) -> Path:
    path.write_text(head + "".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_an_import_is_idempotent_and_the_first_live_slot_continues_it(store: Store, tmp_path: Path) -> None:
    file = write(
        tmp_path / "p.csv",
        "2026-06-15T09:30:00+09:00,100,0,5100,70",
        "2026-06-15T09:45:00+09:00,50,7,5150,77",
    )
    result = import_file(store, file, SEOUL)
    assert (result.new, result.known, result.different) == (2, 0, 0)
    again = import_file(store, file, SEOUL)
    assert (again.new, again.known, again.different) == (0, 2, 0)
    baseline = store.baseline()
    t0 = 1_781_485_200
    assert baseline == Baseline(t0 // 900, 5150, 77)
    assert [row.flags for row in store.slots()] == [IMPORTED, IMPORTED]
    _, closed = observe(baseline, t0 + 905, 5170, 100, MAX_W)
    assert closed == ClosedSlot(t0 // 900, 20, 23, 0)
    assert store.unreported(0, 10) == ()  # the past is never reported


def test_an_import_neither_changes_stored_slots_nor_a_live_baseline(store: Store, tmp_path: Path) -> None:
    t0 = 1_781_485_200
    store.move_baseline(Baseline(t0 // 900 + 1, 9, 9), ClosedSlot(t0 // 900, 1, 2, 0))
    file = write(tmp_path / "p.csv", "2026-06-15T10:00:00+09:00,500,0,5100,70")
    assert import_file(store, file, SEOUL).different == 1
    assert store.baseline() == Baseline(t0 // 900 + 1, 9, 9)
    assert [(row.import_wh, row.export_wh) for row in store.slots()] == [(1, 2)]


def test_times_without_offset_are_the_homes(store: Store, tmp_path: Path) -> None:
    file = write(tmp_path / "p.csv", "2026-06-15 10:00,1,2", head="time,import_wh,export_wh\n")
    import_file(store, file, SEOUL)
    assert store.slots()[0].slot == 1_781_485_200 // 900 and store.baseline() is None


def test_days_of_23_and_25_hours_have_all_their_slots(store: Store, tmp_path: Path) -> None:
    """Slots count from 1970 without a break; only what people write follows summer time."""
    berlin, times = ZoneInfo("Europe/Berlin"), []
    for hours in ([0, 1, 3, 4], [0, 1, 2, 2, 3]):  # 29 March 2026 leaves out an hour, 25 October repeats one
        day = "2026-03-29" if len(hours) == 4 else "2026-10-25"
        times += [f"{day} {hour:02}:{minute:02}" for hour in hours for minute in (0, 15, 30, 45)]
    lines = [f"{time},{energy},0" for energy, time in enumerate(times, 1)]
    result = import_file(store, write(tmp_path / "p.csv", *lines, head="time,import_wh,export_wh\n"), berlin)
    assert (result.new, result.known) == (36, 0)
    rows = store.slots()
    spring, autumn = rows[:16], rows[16:]
    assert [row.slot for row in spring] == list(range(spring[0].slot, spring[0].slot + 16))
    assert [row.slot for row in autumn] == list(range(autumn[0].slot, autumn[0].slot + 20))
    assert [row.import_wh for row in rows] == list(range(1, 37))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2026-06-15T10:00:00+09:00,-1,0,0,0", "import_wh is '-1'"),
        ("2026-06-15T10:00:00+09:00,1.5,0,0,0", "import_wh is '1.5'"),
        ("2026-06-15T10:07:00+09:00,1,0,0,0", "not the start of a 15-minute slot"),
        ("yesterday,1,0,0,0", "yesterday"),
        ("2026-06-15T09:45:00+09:00,1,0,0,0", "twice"),
        ("2026-06-15T10:00:00+09:00,5000000000,0,0,0", "import_wh is '5000000000'"),
        ("2026-06-15T10:00:00+09:00", "import_wh is None"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(store: Store, tmp_path: Path, line: str, words: str) -> None:
    file = write(tmp_path / "p.csv", "2026-06-15T09:45:00+09:00,50,7,5150,77", line)
    with pytest.raises(ImportFileError) as caught:
        import_file(store, file, SEOUL)
    assert str(caught.value).startswith(f"{file}:3: ") and words in str(caught.value)
    assert store.slots() == ()


def test_a_missing_column_or_file_is_one_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="column export_wh is missing"):
        import_file(store, write(tmp_path / "p.csv", head="time,import_wh\n"), SEOUL)
    with pytest.raises(ImportFileError, match="cannot be read"):
        import_file(store, tmp_path / "none.csv", SEOUL)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImportFileError, match="is not CSV text"):
        import_file(store, tmp_path / "b.csv", SEOUL)


def test_a_killed_writer_loses_no_committed_row(tmp_path: Path, processes: Processes) -> None:
    program = (
        "from pathlib import Path\nfrom edge_agent.store import *\nfrom edge_agent.slots import *\n"
        f"s = Store(Path({str(tmp_path / 'k.sqlite')!r}), first_seq=1)\n"
        "for i in range(100000):\n"
        "    s.move_baseline(Baseline(i + 1, i, i), ClosedSlot(i, 1, 1, 0))\n"
        "    print(s.report(i, 'slot', lambda seq, rows: b'x'), flush=True)\n"
    )
    child = processes.start(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert child.stdout is not None
    said = [int(child.stdout.readline()) for _ in range(50)]
    child.kill()
    said += [int(line) for line in child.stdout.read().split()]
    child.wait()
    store = Store(tmp_path / "k.sqlite")
    kept = [row.seq for row in store.pending(0, 10**6)]
    assert kept[: len(said)] == said == list(range(1, len(said) + 1)) and len(kept) - len(said) <= 1
    store.close()
