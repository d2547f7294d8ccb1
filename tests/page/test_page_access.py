"""Sessions and waits on a clock of the test's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import pytest
from page_kit import write_config

from edge_agent.config import AgentConfig
from edge_agent.page.access import (
    LONGEST_WAIT_SECONDS,
    MAX_ADDRESSES,
    MAX_SESSIONS,
    WINDOW_SECONDS,
    WRONG_IN_WINDOW,
    Attempts,
    Sessions,
)
from edge_agent.page.codes import CodeFile
from edge_agent.page.http import Request, Response
from edge_agent.page.pages import Pages
from edge_agent.page.served import one_meter
from openmg.config import load_toml


@dataclass
class Clock:
    now: float = 5000.0

    def __call__(self) -> float:
        return self.now


def ask(pages: Pages, method: str, path: str, cookie: str = "", body: bytes = b"") -> Response:
    request = Request(method, path, {}, {"host": "127.0.0.1", "cookie": cookie}, "192.0.2.7", "127.0.0.1")
    return asyncio.run(pages.answer(request, body))


def test_a_session_ends_after_its_hours_whatever_is_done_with_it(tmp_path: Path) -> None:
    config = load_toml(write_config(tmp_path, "[page]\nsession_hours = 2\n"), AgentConfig)
    clock, wall = Clock(), Clock(1_800_000_000.0)
    pages = Pages(one_meter(config), clock, wall)
    code = CodeFile(config.page_dir).issue("home-1", wall.now)
    cookie = ask(pages, "POST", "/login", body=f"code={code}".encode()).headers["Set-Cookie"].partition(";")[0]
    for _ in range(4):
        assert ask(pages, "GET", "/api/now", cookie).status is HTTPStatus.OK
        clock.now += 1799
    clock.now = 5000.0 + 2 * 3600 - 1
    assert ask(pages, "GET", "/api/now", cookie).status is HTTPStatus.OK
    clock.now += 1
    assert ask(pages, "GET", "/api/now", cookie).status is HTTPStatus.UNAUTHORIZED


def test_a_wall_clock_that_is_set_changes_no_session_and_ends_no_wait(tmp_path: Path) -> None:
    config = load_toml(write_config(tmp_path), AgentConfig)
    clock, wall = Clock(), Clock(1_800_000_000.0)
    pages = Pages(one_meter(config), clock, wall)
    assert ask(pages, "POST", "/login", body=b"code=0").status is HTTPStatus.FORBIDDEN
    wall.now += 10**6
    code = CodeFile(config.page_dir).issue("home-1", wall.now)
    assert ask(pages, "POST", "/login", body=f"code={code}".encode()).status is HTTPStatus.TOO_MANY_REQUESTS
    clock.now += 1
    assert ask(pages, "POST", "/login", body=f"code={code}".encode()).status is HTTPStatus.SEE_OTHER


def test_a_meter_has_so_many_sessions_and_ends_no_other_meters() -> None:
    sessions = Sessions(100)
    other = sessions.open("home-2", 0)
    tokens = [sessions.open("home-1", number) for number in range(MAX_SESSIONS + 1)]
    assert [sessions.meter_of(token, 50) for token in tokens] == [None] + ["home-1"] * MAX_SESSIONS
    assert sessions.meter_of(other, 50) == "home-2" and sessions.count(50) == MAX_SESSIONS + 1
    assert sessions.meter_of("", 50) is None and sessions.meter_of("\udcff", 50) is None
    sessions.close(tokens[-1])
    assert sessions.meter_of(tokens[-1], 50) is None and sessions.meter_of(other, 50) == "home-2"
    assert sessions.meter_of(other, 100) is None and sessions.count(101 + MAX_SESSIONS) == 0


def test_waits_double_for_an_address_and_a_right_code_ends_them() -> None:
    attempts, waits = Attempts(), []
    for number in range(12):
        now = 10_000.0 * number
        attempts.note_wrong("a", now, now)
        waits.append(attempts.wait_seconds("a", now))
    assert waits[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256] and set(waits[9:]) == {LONGEST_WAIT_SECONDS}
    assert attempts.wait_seconds("b", now) == 0 and attempts.wrong.count == 12
    attempts.note_right("a")
    assert attempts.wait_seconds("a", now) == 0


@pytest.mark.parametrize("addresses", [WRONG_IN_WINDOW, 3 * MAX_ADDRESSES])
def test_many_addresses_have_a_bound_together(addresses: int) -> None:
    attempts = Attempts()
    for number in range(addresses):
        attempts.note_wrong(f"a{number}", 100.0 + number / 1000, 0.0)
    wait = attempts.wait_seconds("another", 101.0)
    assert WINDOW_SECONDS - 1 <= wait <= WINDOW_SECONDS
    assert attempts.wait_seconds("another", 101.0 + WINDOW_SECONDS) == 0 and attempts.wrong.count == addresses
