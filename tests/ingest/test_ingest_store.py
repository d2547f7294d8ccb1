"""The hub's database: once per (device, seq), and what may be acknowledged."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.ingest.store import _SCHEMA_1, _SCHEMA_2, KEEP_GROUPINGS, KEEP_SLOTS, IncomingReport, IngestStore, IngestStoreError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[IngestStore]:
    made = IngestStore(tmp_path / "ingest.sqlite")
    yield made
    made.close()


def report(seq: int, waiting: int = 1, device: str = "home-1", payload: bytes = b"") -> IncomingReport:
    return IncomingReport(device, seq, "slot", seq, payload or b"%d" % seq, waiting)


def test_the_high_water_stops_before_a_hole(store: IngestStore) -> None:
    assert store.add([report(1)], 0, 10**6).high_water == {"home-1": 1}
    assert store.add([report(3, waiting=2)], 0, 10**6).high_water == {"home-1": 1}
    assert store.lost() == 1
    assert store.add([report(2)], 0, 10**6).high_water == {"home-1": 3}
    assert store.lost() == 0


def test_a_duplicate_is_ignored_and_acknowledged_again(store: IngestStore) -> None:
    store.add([report(1), report(2)], 0, 10**6)
    again = store.add([report(1), report(2)], 0, 10**6)
    assert (again.new, again.duplicates, again.high_water) == ((), 2, {"home-1": 2})
    assert store.stored() == 2


def test_the_same_number_with_other_bytes_is_a_conflict(store: IngestStore) -> None:
    store.add([report(1, payload=b"first")], 0, 10**6)
    result = store.add([report(1, payload=b"second")], 0, 10**6)
    assert [item.payload for item in result.conflicts] == [b"second"]
    assert store.reports("slot", 0) == (("home-1", 1, b"first"),)


def test_a_new_database_goes_on_where_the_meter_stands(store: IngestStore) -> None:
    # Reports 1..499 were acknowledged by a database that is gone; 500 and 501 wait at the meter.
    assert store.add([report(501, waiting=2)], 0, 10**6).high_water == {"home-1": 499}
    assert store.add([report(500, waiting=1)], 0, 10**6).high_water == {"home-1": 501}
    assert store.lost() == 0


def test_a_first_report_out_of_order_is_not_taken_for_the_beginning(store: IngestStore) -> None:
    # 5 was made while 1 to 4 were waiting: acknowledging 5 would make the meter forget them.
    assert store.add([report(5, waiting=5)], 0, 10**6).high_water == {"home-1": 0}
    assert store.add([report(i, waiting=i) for i in (1, 2, 3, 4)], 0, 10**6).high_water == {"home-1": 5}


def test_a_report_from_the_future_wipes_nothing(store: IngestStore) -> None:
    store.add([report(1), report(2)], 0, 100)
    store.add([IncomingReport("home-9", 1, "slot", 2**40, b"a wrong clock", 1)], 0, 100)
    assert store.stored() == 3


def test_what_is_forgotten_with_age_is_not_lost(store: IngestStore) -> None:
    store.add([report(seq, device=name) for seq in (1, 2, 3) for name in ("home-1", "home-2")], 0, 3)
    late = KEEP_SLOTS + 3
    store.add([IncomingReport("home-1", 4, "slot", late, b"late", 1)], 0, late)
    assert store.counts() == {"home-1": 2, "home-2": 1} and store.lost() == 0
    assert store.add([report(4, device="home-2")], 0, late).high_water == {"home-2": 4} and store.lost() == 0


def test_a_meter_that_began_anew_has_lost_nothing_at_the_hub(store: IngestStore) -> None:
    store.add([report(1_700_000_000), report(1_700_000_001)], 0, 2 * 10**9)
    anew = store.add([report(1_781_485_200, waiting=1)], 0, 2 * 10**9)  # its store was damaged: numbers begin at the time
    assert anew.high_water == {"home-1": 1_781_485_200} and store.lost() == 0
    store.add([report(1_781_485_203, waiting=3)], 0, 2 * 10**9)
    assert store.lost() == 2


def test_a_failed_write_leaves_the_database_usable(store: IngestStore) -> None:
    store._db.execute(f"PRAGMA max_page_count={store._db.execute('PRAGMA page_count').fetchone()[0]}")
    big = [IncomingReport("home-1", seq, "slot", seq, bytes(3000), seq) for seq in range(1, 20)]
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.add(big, 0, 100)
    assert store.stored() == 0
    store._db.execute("PRAGMA max_page_count=100000")
    assert store.add(big, 0, 100).high_water == {"home-1": 19}


@pytest.mark.parametrize("content", [b"no database" * 500, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_database_is_told_in_one_sentence_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ingest.sqlite"
    path.write_bytes(content)
    with pytest.raises(IngestStoreError, match="restore a damaged file from backup"):
        IngestStore(path)
    assert path.read_bytes() == content


def test_everything_survives_reopening(store: IngestStore) -> None:
    store.add([report(1), report(2), report(1, device="home-2")], 0, 10**6)
    store.save_grouping(1, 100, [b"roster", b"other"])
    store.save_delivered(1, 100, 5, 6)
    store.close()
    again = IngestStore(store.path)
    assert again.groupings() == ((1, 100, (b"roster", b"other")),)
    assert again.stored() == 3 and again.delivered(0) == frozenset({(1, 100)})
    assert again.add([report(3)], 0, 10**6).high_water == {"home-1": 3}
    again.close()


def test_a_grouping_that_was_replaced_before_it_began_is_gone(store: IngestStore) -> None:
    for from_slot, payloads in ((100, [b"a"]), (121, [b"b", b"b2"]), (121, [b"c"])):
        store.save_grouping(1, from_slot, payloads)
    assert store.groupings() == ((1, 100, (b"a",)), (1, 121, (b"c",)))
    for from_slot in range(200, 400):
        store.save_grouping(1, from_slot, [b"r", b"s"])
        store.save_grouping(2, 7, [b"other"])
    assert len(store.groupings()) == KEEP_GROUPINGS + 1


def test_rosters_of_a_database_from_before_there_were_groups_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "ingest.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(f"{_SCHEMA_1}{_SCHEMA_2}PRAGMA user_version=2;")
        old.executemany("INSERT INTO rosters VALUES (?, ?, ?)", [(1, 100, b"a"), (2, 90, b"b"), (1, 120, b"c")])
        old.commit()
    store = IngestStore(path)
    assert store.groupings() == ((2, 90, (b"b",)), (1, 100, (b"a",)), (1, 120, (b"c",)))
    store.close()


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(1, 13)), st.integers(1, 5))
def test_any_order_of_arrival_ends_complete(order: list[int], batch: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = IngestStore(Path(folder) / "i.sqlite")
        seen: set[int] = set()
        for start in range(0, 12, batch):
            part = order[start : start + batch]
            seen |= set(part)
            water = store.add([report(seq, waiting=seq) for seq in part], 0, 10**6).high_water["home-1"]
            assert set(range(1, water + 1)) <= seen and water + 1 not in seen
        assert store.lost() == 0 and water == 12
        store.close()
