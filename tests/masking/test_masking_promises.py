"""The file of promises: written once, bounded, and of no use to whoever asks after it is gone."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.masking import promises as module
from edge_agent.masking.promises import Promises
from edge_agent.store import StoreError
from openmg.masking.member import Promise

A, B = b"\x0a" * 32, b"\x0b" * 32


@pytest.fixture
def promises(tmp_path: Path) -> Promises:
    return Promises(tmp_path / "masking.sqlite")


def test_the_first_promise_of_a_slot_stays(promises: Promises) -> None:
    first = Promise(7, A, bytes(32))
    assert promises.report(first, b"roster a") == first
    assert promises.report(Promise(7, B, bytes([1]) * 32), b"roster b") == first
    assert promises.answer(replace(first, survivors=b"set")) and promises.answer(replace(first, survivors=b"set"))
    assert not promises.answer(replace(first, survivors=b"other")) and not promises.answer(replace(first, roster_id=B))
    assert promises.of(7) == replace(first, survivors=b"set") and promises.of(8) is None
    assert not promises.answer(Promise(8, A, bytes(32), b"set"))


def test_of_many_sets_at_once_one_is_promised(promises: Promises) -> None:
    first, taken = Promise(7, A, bytes(32)), []
    promises.report(first, b"roster")
    threads = [
        threading.Thread(target=lambda i=i: taken.append(promises.answer(replace(first, survivors=bytes([i])))))
        for i in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken.count(True) == 1


def test_slots_and_rosters_are_bounded(promises: Promises, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PROMISES", 3)
    for slot in range(10):
        promises.report(Promise(slot, bytes([slot // 4]) * 32, bytes(32)), b"roster %d" % (slot // 4))
    assert [promises.of(slot) is not None for slot in range(10)] == [False] * 7 + [True] * 3
    assert [promises.roster(bytes([i]) * 32) for i in range(3)] == [None, b"roster 1", b"roster 2"]


def test_refusals_are_counted_across_restarts(promises: Promises, tmp_path: Path) -> None:
    promises.refuse("second")
    promises.close()
    again = Promises(tmp_path / "masking.sqlite")
    again.refuse("second")
    again.refuse("small")
    assert again.refusals() == {"second": 2, "small": 1}


def test_a_disk_that_refuses_is_one_sentence(tmp_path: Path, promises: Promises) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Promises(tmp_path)
    promises.report(Promise(500, A, bytes(32)), b"roster")
    promises._db.execute("PRAGMA max_page_count = 1")  # as small as it is: the disk is full
    with pytest.raises(StoreError, match=r"cannot be used \(database or disk is full\)"):
        for slot in range(200):
            promises.report(Promise(slot, bytes([slot]) * 32, bytes(32)), bytes(4000))
    assert promises.of(500) is not None and promises.of(199) is None
    promises.close()
    with pytest.raises(StoreError, match="cannot be used"):
        promises.of(1)
