"""Who is let in: codes over real HTTP, and what strangers get."""

from __future__ import annotations

import re
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from page_kit import PageProcess, write_config

from edge_agent.page.codes import LIFE_SECONDS, MAX_CODES, CodeFile
from edge_agent.page.http import MAX_BODY_BYTES, MAX_HEAD_BYTES, SECURITY_HEADERS

BOUND_SECONDS = 20


def codes_of(page: PageProcess) -> CodeFile:
    return CodeFile(page.config.parent / "state" / "page")


def raw(page: PageProcess, data: bytes) -> bytes:
    """What comes back for these bytes."""
    place = urlsplit(page.url)
    with socket.create_connection((place.hostname, place.port), timeout=BOUND_SECONDS) as connection:
        connection.sendall(data)
        found = b""
        while chunk := connection.recv(65_536):
            found += chunk
    return found


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def test_a_code_opens_the_page_once_and_logging_out_shuts_it(tmp_path: Path, start_page) -> None:
    page = start_page(write_config(tmp_path))
    assert page.ask("/").headers["location"] == "/login?lang=en" and page.ask("/api/now").status == 401
    code = page.code()
    kept = tmp_path / "state/page/codes.json"
    assert code.replace("-", "") not in kept.read_text() and stat.S_IMODE(kept.stat().st_mode) == 0o600

    answer = page.try_code(code.lower().replace("-", " "))
    assert (answer.status, answer.headers["location"]) == (303, "/?lang=en")
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={12 * 3600}"))
    again = page.try_code(code)
    assert again.status == 403 and "set-cookie" not in again.headers, "a code opens once"

    page.cookie = answer.cookie
    assert page.ask("/").status == 200 and page.ask("/api/now").status == 200
    assert page.ask("/logout").status == 404 and page.ask("/api/now").status == 200, "a GET changes nothing"
    left = page.ask("/logout", "POST")
    assert left.status == 303 and "Max-Age=0" in left.headers["set-cookie"]
    assert page.ask("/api/now").status == 401, "the token itself is worth nothing any more"
    log = page.log.read_text()
    assert code not in log and code.replace("-", "") not in log and answer.cookie.partition("=")[2] not in log


def test_wrong_codes_are_counted_delayed_and_shown(tmp_path: Path, start_page) -> None:
    page = start_page(write_config(tmp_path))
    good = codes_of(page).issue("home-1", time.time())
    assert page.try_code("0000-0000-0000").status == 403
    waiting = page.try_code(good)
    assert waiting.status == 429 and int(waiting.headers["retry-after"]) == 1 and "Wait 1 seconds" in waiting.text
    deadline = time.monotonic() + BOUND_SECONDS
    while (answer := page.try_code(good)).status == 429:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer.status == 303, "who waited may use the code"
    page.cookie = answer.cookie
    shown = page.ask("/").text
    assert "1 wrong codes since" in shown and "from 127.0.0.1." in shown
    assert "a wrong code from 127.0.0.1 (1 so far)" in page.log.read_text()


def test_another_sites_posts_and_names_are_refused(tmp_path: Path, start_page) -> None:
    page = start_page(write_config(tmp_path, '[page]\nnames = ["meter.home"]\n'))
    good = codes_of(page).issue("home-1", time.time())
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}):
        assert page.try_code(good, **headers).status == 403
    assert page.try_code(good, Host="evil.example").status == 421 and page.ask("/", Host="evil.example").status == 421
    port = urlsplit(page.url).port
    own = {"Host": f"meter.home:{port}", "Origin": f"http://meter.home:{port}", "Sec_Fetch_Site": "same-origin"}
    assert page.try_code(good, **own).status == 303, "none of the refused ones took the code"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../pages.py",
        "/static/..%2fpages.py",
        "/static/%2e%2e/%2e%2e/config.py",
        "/static//etc/passwd",
        "/static/page.css%00.py",
        "/static/..\\pages.py",
        "/../../../etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_page(full_page: PageProcess, path: str) -> None:
    answer = full_page.ask(path)
    assert answer.status == 404 and b"import" not in answer.body and b"root:" not in answer.body


def test_every_answer_carries_the_security_headers(full_page: PageProcess) -> None:
    paths = ("/", "/login", "/api/energy", "/energy.csv", "/static/page.js", "/nothing", "/healthz")
    answers = [full_page.ask(path) for path in paths] + [full_page.ask("/", "HEAD"), full_page.ask("/", Host="x")]
    for answer in answers:
        assert all(answer.headers[name.lower()] == value for name, value in SECURITY_HEADERS.items())
    policy, page = SECURITY_HEADERS["Content-Security-Policy"], answers[0].text
    assert "default-src 'none'" in policy and "unsafe" not in policy and SECURITY_HEADERS["Cache-Control"] == "no-store"
    assert " style=" not in page and "<style" not in page and "onclick" not in page
    assert not re.findall(r"(?:src|href|action)=\"(?:[a-z]+:|//)", page), "nothing comes from elsewhere"
    assert page.count("<script") == 1 and '<script src="/static/page.js"' in page
    head = answers[-2]
    assert head.status == 200 and head.body == b"" and int(head.headers["content-length"]) > 10_000


def test_what_is_no_plain_request_is_refused(full_page: PageProcess) -> None:
    host = b"Host: 127.0.0.1\r\n"
    assert status(raw(full_page, b"NONSENSE\r\n\r\n")) == 400
    assert status(raw(full_page, b"DELETE / HTTP/1.1\r\n" + host + b"\r\n")) == 405
    assert status(raw(full_page, b"GET / HTTP/1.1\r\n" + host * 2 + b"\r\n")) == 400
    assert status(raw(full_page, b"POST /login HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n")) == 400
    long = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n"
    assert status(raw(full_page, long.encode())) == 413
    assert full_page.ask("/login", X_Long="x" * (MAX_HEAD_BYTES + 100)).status == 431
    assert full_page.ask("/api/now").status == 200, "and it goes on"


def test_codes_end_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    codes = CodeFile(tmp_path / "page")
    late = codes.issue("home-1", 1000)
    assert codes.take(late, 1000 + LIFE_SECONDS) is None
    other = codes.issue("home-2", 2000)
    many = [codes.issue("home-1", 2000) for _ in range(MAX_CODES + 1)]
    assert [codes.take(code, 2001) for code in many] == [None] + ["home-1"] * MAX_CODES
    assert codes.take(other, 2001) == "home-2", "another meter's codes take nobody's place"
    good = codes.issue("home-1", 3000)
    assert not any(codes.take(text, 3001) for text in ("", "x" * 5000, "ÄÖ", good[:-1], "0" * 12))
    (tmp_path / "page/codes.json").write_text('{"no": "list"}')
    assert codes.take(good, 3001) is None, "a broken file holds no code"
    assert codes.take(codes.issue("home-1", 3001), 3002) == "home-1"


def test_a_code_that_many_try_at_once_lets_one_in(tmp_path: Path) -> None:
    """Each with a lock file of its own opening, as processes have."""
    good, together = CodeFile(tmp_path).issue("home-1", 1000), threading.Barrier(8)

    def attempt(_: int) -> bool:
        codes = CodeFile(tmp_path)
        together.wait(BOUND_SECONDS)
        return codes.take(good, 1001) is not None

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(attempt, range(8))) == [False] * 7 + [True]


def test_the_command_tells_a_person(tmp_path: Path, repo_root: Path) -> None:
    command = [sys.executable, "-m", "edge_agent", "page", "code", "--config", str(write_config(tmp_path))]
    plain = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=True, timeout=60)
    code, _, rest = plain.stdout.partition(" ")
    assert rest.strip() == "opens the page of home-1 once, within 10 minutes" and plain.stderr == ""
    assert len(code) == 14 and CodeFile(tmp_path / "state/page").take(code, time.time()) == "home-1"
