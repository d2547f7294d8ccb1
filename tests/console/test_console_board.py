"""The board: revisions, merged deltas, bounds, ages, and readers in other threads."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from typing import Any

import pytest

from hub.console import BoardError, StatusBoard, TooManyWatchers
from hub.console import board as board_module
from hub.console.board import (
    MAX_EVENT_CHARS,
    MAX_EVENTS,
    MAX_POINTS,
    MAX_SECTIONS,
    MAX_SERIES,
    MAX_WATCHERS,
    Delta,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_change_takes_one_revision_and_no_change_takes_none():
    board = StatusBoard()
    board.put("grid", {"a": 1})
    board.append("s", 900, 5)
    board.event("ppdl", "text", "글")
    assert board.revision == 3
    board.put("grid", {"a": 1})
    board.append("s", 900, 5)
    assert board.revision == 3
    board.put("grid", {"a": 2})
    board.append("s", 900, 6)
    assert board.revision == 5


def test_delta_holds_exactly_what_is_newer():
    board = StatusBoard()
    board.put("a", 1)
    board.append("s", 0, 1)
    board.append("s", 900, 2)
    mark = board.revision
    board.put("b", 2)
    board.append("s", 1800, 3)
    board.append("s", 0, 9)
    delta = board.delta(mark)
    assert delta.sections == {"b": "2"}
    assert delta.series == {"s": ((0, 9), (1800, 3))}
    assert delta.events == ()
    assert board.delta(board.revision).empty


def test_a_value_put_is_a_copy():
    board, value = StatusBoard(), {"list": [1]}
    board.put("a", value)
    value["list"].append(2)
    assert board.snapshot()["sections"] == {"a": {"list": [1]}}


def test_a_refused_value_changes_nothing():
    board = StatusBoard()
    board.put("a", 1)
    with pytest.raises(BoardError):
        board.put("a", float("nan"))
    with pytest.raises(BoardError):
        board.append("s", 0, 2**60)
    with pytest.raises(BoardError):
        board.event("e", "a", "b", "loud")
    assert board.revision == 1
    assert board.snapshot()["sections"] == {"a": 1}


def test_series_are_sorted_unique_and_keep_the_newest():
    board = StatusBoard()
    order = list(range(MAX_POINTS + 50))
    random.Random(7).shuffle(order)
    for t in order:
        board.append("s", t, t * 2)
    points = board.snapshot()["series"]["s"]
    # The oldest kept is never older than what a full, sorted series would keep.
    assert points == [[t, t * 2] for t in range(50, MAX_POINTS + 50)]
    revision = board.revision
    board.append("s", 3, 1)
    assert board.revision == revision


def test_everything_is_bounded():
    board = StatusBoard()
    for i in range(MAX_SECTIONS):
        board.put(f"s{i}", i)
    with pytest.raises(BoardError, match="no more"):
        board.put("one-too-many", 1)
    board.put("s0", "still replaceable")
    for i in range(MAX_SERIES):
        board.append(f"t{i}", 0, 0)
    with pytest.raises(BoardError, match="no more"):
        board.append("one-too-many", 0, 0)
    for i in range(MAX_EVENTS + 10):
        board.event("e", f"{i}" + "x" * 1000, "가" * 1000)
    events = board.snapshot()["events"]
    assert len(events) == MAX_EVENTS
    assert events[0]["en"].startswith("10x")
    assert len(events[0]["en"]) == len(events[0]["ko"]) == MAX_EVENT_CHARS


def test_age_is_renewed_by_an_unchanged_put():
    clock = Clock()
    board = StatusBoard(wall_clock=clock)
    board.put("a", 1)
    clock.now += 12.7
    board.put("b", 1)
    assert board.ages() == {"a": 12, "b": 0}
    board.put("a", 1)
    assert board.ages() == {"a": 0, "b": 0}
    assert board.delta(2).empty
    board.event("e", "now", "지금")
    assert board.snapshot()["events"][0]["wall"] == 1012


def test_to_json_is_one_line_of_json():
    board = StatusBoard()
    board.put("a", {"text": "line\nbreak\r\u2028"})
    board.event("e", "two\nlines", "두\n줄", "alarm")
    text = board.delta().to_json()
    assert "\n" not in text and "\r" not in text
    assert json.loads(text)["sections"]["a"]["text"] == "line\nbreak\r\u2028"


def apply(state: dict[str, Any], delta: Delta) -> None:
    """An independent reader: what a client that merges deltas believes."""
    state["sections"].update({name: json.loads(text) for name, text in delta.sections.items()})
    for name, points in delta.series.items():
        state["series"].setdefault(name, {}).update(dict(points))
    state["events"].extend(event.en for event in delta.events)


async def test_a_reader_of_deltas_ends_with_the_boards_state_whatever_the_threads_do():
    board = StatusBoard()
    state: dict[str, Any] = {"sections": {}, "series": {}, "events": []}

    def publish(seed: int) -> None:
        rng = random.Random(seed)
        for i in range(300):
            board.put(f"section{rng.randrange(4)}", rng.randrange(1000))
            board.append(f"series{seed}", rng.randrange(200), rng.randrange(1000))
            if i % 10 == 0:
                board.event("e", f"{seed}-{i}", "")
        board.put(f"done{seed}", True)

    threads = [threading.Thread(target=publish, args=(seed,)) for seed in range(3)]

    async def read() -> None:
        async for delta in board.changes():
            apply(state, delta)
            await asyncio.sleep(random.random() * 0.003)  # a slow reader merges, it never misses
            if (
                all(state["sections"].get(f"done{seed}") for seed in range(3))
                and delta.revision == board.revision
            ):
                return

    reader = asyncio.create_task(read())
    for thread in threads:
        thread.start()
    await asyncio.wait_for(reader, 20)
    for thread in threads:
        thread.join()
    final = board.snapshot()
    assert state["sections"] == final["sections"]
    assert {
        name: [[t, v] for t, v in sorted(points.items())] for name, points in state["series"].items()
    } == final["series"]
    assert state["events"] == [event["en"] for event in final["events"]]


async def test_idle_ticks_are_empty_and_do_not_end_the_iterator():
    board = StatusBoard()
    board.put("a", 1)
    changes = board.changes(1, idle_seconds=0.02)
    assert (await anext(changes)).empty
    assert (await anext(changes)).empty
    board.put("a", 2)
    assert (await anext(changes)).sections == {"a": "2"}
    await changes.aclose()
    assert board.watchers == 0


async def test_watchers_are_bounded_and_leave_when_closed():
    board = StatusBoard()
    open_ones = [board.changes(idle_seconds=0.001) for _ in range(MAX_WATCHERS)]
    for changes in open_ones:
        await anext(changes)
    assert board.watchers == MAX_WATCHERS
    with pytest.raises(TooManyWatchers):
        await anext(board.changes(idle_seconds=0.001))
    await open_ones.pop().aclose()
    late = board.changes(idle_seconds=0.001)
    await anext(late)
    for changes in (*open_ones, late):
        await changes.aclose()
    assert board.watchers == 0


def test_a_reader_whose_loop_has_closed_is_forgotten():
    board = StatusBoard()
    loop = asyncio.new_event_loop()
    board._wakers.add(board_module._Waker(loop, asyncio.Event()))
    loop.close()
    board.put("a", 1)
    assert board.watchers == 0
