"""The web server: who may ask, what is served with which headers, start and stop, a port in use."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from contextlib import suppress

import pytest
from console_http import open_stream, request, serving

from hub.console import ConsoleError, ConsoleServer, StatusBoard, create_app
from hub.console import server as server_module
from hub.console.assets import load_assets
from hub.console.guard import Guard, host_name, own_address


async def test_page_and_files_are_served_with_their_types_and_strict_headers():
    async with serving(StatusBoard()) as server:
        page = await request(server.port)
        assert page.status == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
        for path, asset in load_assets().items():
            answer = await request(server.port, f"/static/{path}")
            assert (answer.status, answer.body) == (200, asset.body)
            assert answer.headers["content-type"].startswith(("text/", "image/svg"))
            policy = answer.headers["content-security-policy"]
            assert (
                "default-src 'none'" in policy
                and "script-src 'self';" in policy
                and "style-src 'self';" in policy
            )
            assert "unsafe" not in policy and "http" not in policy and "*" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in answer.headers
            assert "server" not in answer.headers


async def test_an_unchanged_file_is_not_sent_again():
    async with serving(StatusBoard()) as server:
        host = f"Host: localhost:{server.port}\r\n"
        tag = (await request(server.port, "/static/js/app.js", headers=host)).headers["etag"]
        again = await request(server.port, "/static/js/app.js", headers=f"{host}If-None-Match: {tag}\r\n")
        assert (again.status, again.body) == (304, b"")


async def test_nothing_else_is_served():
    paths = (
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/js",
        "/static//etc/passwd",
        "/docs",
        "/redoc",
    )
    async with serving(StatusBoard()) as server:
        for path in (*paths, "/openapi.json", "/nothing"):
            answer = await request(server.port, path)
            assert answer.status == 404, path
            assert "content-security-policy" in answer.headers


async def test_nothing_can_be_written():
    async with serving(StatusBoard()) as server:
        for path in ("/", "/static/js/app.js", "/api/state", "/api/events", "/api/report", "/healthz"):
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                assert (await request(server.port, path, method=method)).status == 405, (method, path)


async def test_state_report_and_health():
    board = StatusBoard()
    board.put("ppdl", {"height": 7})
    async with serving(board, report=lambda: {"homes": 12, "energy_wh": {"minted": 3}}) as server:
        state = await request(server.port, "/api/state")
        assert json.loads(state.body)["sections"] == {"ppdl": {"height": 7}}
        assert state.headers["cache-control"] == "no-store"
        assert json.loads((await request(server.port, "/api/report")).body) == {
            "homes": 12,
            "energy_wh": {"minted": 3},
        }
        assert json.loads((await request(server.port, "/healthz")).body) == {
            "status": "ok",
            "revision": 1,
            "streams": 0,
        }


async def test_a_failing_report_is_one_sentence_and_the_console_lives(caplog: pytest.LogCaptureFixture):
    def report() -> dict[str, object]:
        raise KeyError("a secret detail")

    with caplog.at_level(logging.ERROR, "hub.console.server"):
        async with serving(StatusBoard(), report=report) as server:
            answer = await request(server.port, "/api/report")
            assert answer.status == 503 and b"secret" not in answer.body
            assert (await request(server.port, "/healthz")).status == 200
    assert "a secret detail" in caplog.text


async def test_known_hosts_are_answered():
    async with serving(StatusBoard(), allowed_hosts=["Hub.example"]) as server:
        for host in ("127.0.0.1", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "hub.example:{port}"):
            headers = f"Host: {host.format(port=server.port)}\r\n"
            assert (await request(server.port, "/api/state", headers=headers)).status == 200, host


async def test_unknown_hosts_are_refused_with_a_sentence():
    hosts = ("evil.example", "127.0.0.1.evil.example", "hub.example", "", "[::1", "localhost.", "127.0.0.2")
    async with serving(StatusBoard()) as server:
        for host in hosts:
            for path in ("/", "/api/state", "/api/events"):
                answer = await request(server.port, path, headers=f"Host: {host}\r\n")
                assert answer.status == 421, (host, path)
                assert answer.body.startswith(b"console: this host name is not known here; use")
                assert "content-security-policy" in answer.headers


async def test_refused_hosts_are_counted_and_each_logged_once(caplog: pytest.LogCaptureFixture):
    async def nothing(scope, receive, send) -> None:
        raise AssertionError("passed the guard")

    guard = Guard(nothing)
    sent = []

    async def send(message) -> None:
        sent.append(message)

    with caplog.at_level(logging.WARNING, "hub.console.guard"):
        for i in range(100):
            scope = {
                "type": "http",
                "method": "GET",
                "path": "/",
                "headers": [(b"host", b"evil%d.example" % (i % 50))],
            }
            await guard(scope, None, send)  # type: ignore[arg-type]
    assert guard.refused == 100
    assert len(caplog.records) == 32  # MAX_NAMED_REFUSALS: a flood of names does not flood the log
    assert {m["status"] for m in sent if m["type"] == "http.response.start"} == {421}


async def test_another_site_may_link_here_but_not_read():
    async with serving(StatusBoard()) as server:
        host = f"Host: 127.0.0.1:{server.port}\r\n"
        cross = f"{host}Sec-Fetch-Site: cross-site\r\n"
        assert (
            await request(server.port, "/api/events", headers=f"{cross}Sec-Fetch-Mode: cors\r\n")
        ).status == 403
        assert (
            await request(server.port, "/static/icon.svg", headers=f"{cross}Sec-Fetch-Mode: no-cors\r\n")
        ).status == 403
        assert (await request(server.port, "/", headers=f"{cross}Sec-Fetch-Mode: navigate\r\n")).status == 200
        another_port = f"{host}Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\n"
        assert (await request(server.port, "/api/events", headers=another_port)).status == 403
        same = f"{host}Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n"
        assert (await request(server.port, "/api/state", headers=same)).status == 200


@pytest.mark.parametrize(
    ("host", "name"),
    [("A:80", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a", "a"), ("", ""), ("[x", "")],
)
def test_host_name(host: str, name: str):
    assert host_name(host) == name


async def test_the_address_a_request_came_in_on_is_known_and_no_other_address_is():
    server = ConsoleServer(create_app(StatusBoard(), dict), "0.0.0.0")
    await server.start()
    try:
        for host, status in (("127.0.0.2", 200), ("127.0.0.3", 421), ("0.0.0.0", 421)):
            answer = await request(
                server.port, headers=f"Host: {host}:{server.port}\r\n", address="127.0.0.2"
            )
            assert answer.status == status, host
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("scope", "address"),
    [
        ({"server": ("192.0.2.7", 80)}, "192.0.2.7"),
        ({"server": ("2001:db8::7", 80)}, "[2001:db8::7]"),
        ({"server": None}, ""),
        ({}, ""),
    ],
)
def test_own_address(scope: dict[str, object], address: str):
    assert own_address(scope) == address


async def test_a_port_in_use_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = ConsoleServer(create_app(StatusBoard(), dict), "127.0.0.1", port)
        with pytest.raises(
            ConsoleError, match=f"port {port} on 127.0.0.1 is in use; stop the other program or choose"
        ):
            await server.start()
        await server.stop()


async def test_an_address_that_is_not_ours_is_one_sentence():
    with pytest.raises(ConsoleError, match="cannot listen on 192.0.2.1 port"):
        await ConsoleServer(create_app(StatusBoard(), dict), "192.0.2.1", 0).start()


async def test_it_takes_no_signal_handlers_and_frees_its_port():
    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    server = ConsoleServer(create_app(StatusBoard(), dict))
    await server.start()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with pytest.raises(ConsoleError, match="already running"):
        await server.start()
    port = server.port
    await server.stop()
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    again = ConsoleServer(create_app(StatusBoard(), dict), "127.0.0.1", port)
    await again.start()
    stream = await open_stream(port)
    await stream.until("snapshot")
    stream.close()
    await again.stop()


async def test_sockets_that_never_ask_do_not_keep_others_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.5)
    board = StatusBoard()
    async with serving(board) as server:
        stream = await open_stream(server.port)
        await stream.until("snapshot")
        sockets = [
            await asyncio.open_connection("127.0.0.1", server.port)
            for _ in range(server_module.MAX_CONNECTIONS + 10)
        ]
        for _, writer in sockets[::2]:
            writer.write(b"GET / HTTP/1.1\r\nHost: 127")  # and never the rest
        async with asyncio.timeout(30):
            for reader, writer in sockets:
                assert await reader.read() == b""  # closed without a word
                writer.close()
            while (await request(server.port)).status != 200:
                await asyncio.sleep(0.05)
        board.put("ppdl", {"height": 1})  # a stream waits too, but it is being answered
        await stream.until("delta")
        stream.close()


async def test_junk_on_the_socket_does_not_disturb_others():
    two_hosts = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
    async with serving(StatusBoard()) as server:
        for junk in (b"\x00\xff\x00\r\n\r\n", b"GET\r\n\r\n", two_hosts, b"A" * 200_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(junk)
            with suppress(ConnectionResetError):  # cut in the middle of what it still sends
                answer = await asyncio.wait_for(reader.read(), 10)
                assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
            writer.close()
            assert (await request(server.port)).status == 200
