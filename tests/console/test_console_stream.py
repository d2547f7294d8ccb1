"""The event stream over a raw socket: snapshot, deltas, coming back, bounds, clients that do not read."""

from __future__ import annotations

import asyncio
import socket

import pytest
from console_http import open_stream, request, serving

from hub.console import StatusBoard
from hub.console import server as server_module
from hub.console import stream as stream_module


async def until(condition, timeout: float = 10) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_client_gets_everything_and_then_what_changes():
    board = StatusBoard()
    board.put("grid", {"homes": 12})
    board.append("grid.mg1.import_wh", 900, 40)
    board.event("ppdl", "four validators", "검증자 네 대", "success")
    async with serving(board) as server:
        stream = await open_stream(server.port)
        assert stream.status == 200
        _, snapshot = await stream.until("snapshot")
        assert snapshot["sections"] == {"grid": {"homes": 12}}
        assert snapshot["series"] == {"grid.mg1.import_wh": [[900, 40]]}
        assert snapshot["events"][0]["ko"] == "검증자 네 대"
        assert stream.retry == str(stream_module.RETRY_MILLISECONDS)
        _, beat = await stream.until("beat")
        assert set(beat["ages"]) == {"grid"}
        board.put("grid", {"homes": 13})
        event_id, delta = await stream.until("delta")
        assert delta["sections"] == {"grid": {"homes": 13}}
        assert delta["series"] == {} and delta["events"] == []
        assert event_id.endswith(f"-{board.revision}")
        stream.close()


async def test_a_burst_arrives_merged_and_no_faster_than_the_interval():
    board = StatusBoard()
    async with serving(board) as server:
        stream = await open_stream(server.port)
        await stream.until("snapshot")
        messages = []

        async def publish() -> None:
            for i in range(200):
                board.put("counter", i)
                await asyncio.sleep(0.005)

        clock = asyncio.get_running_loop().time
        started = clock()
        publisher = asyncio.create_task(publish())
        while not messages or messages[-1]["sections"]["counter"] != 199:
            messages.append((await stream.until("delta"))[1])
        await publisher
        # However long 200 changes took here: the first at once, then one each interval.
        assert len(messages) <= 1 + (clock() - started) / stream_module.MIN_INTERVAL_SECONDS
        stream.close()


async def test_a_returning_client_gets_only_what_it_missed():
    board = StatusBoard()
    board.put("old", 1)
    async with serving(board) as server:
        stream = await open_stream(server.port)
        event_id, _ = await stream.until("snapshot")
        stream.close()
        board.put("new", 2)
        again = await open_stream(server.port, event_id)
        event, _, delta = await again.next()
        assert event == "delta"
        assert delta["sections"] == {"new": 2}
        again.close()


async def test_an_id_of_another_boot_gets_a_fresh_snapshot():
    board = StatusBoard()
    board.put("a", 1)
    async with serving(board) as server:
        boot = server._app.state.stream._boot
        for event_id in (
            "deadbeef0000-1",
            "garbage",
            "-",
            f"{boot}-",
            f"{boot}-{'9' * 20}",
            f"{boot}-²",
            f"{boot}-1x",
        ):
            stream = await open_stream(server.port, event_id)
            assert (await stream.next())[0] == "snapshot", event_id
            stream.close()
        stream = await open_stream(server.port, f"{boot}-1")
        assert (await stream.next())[0] == "delta"
        stream.close()


async def test_an_empty_board_answers_at_once():
    async with serving(StatusBoard()) as server:
        stream = await open_stream(server.port)
        _, snapshot = await stream.until("snapshot")
        assert snapshot == {"revision": 0, "sections": {}, "series": {}, "events": []}
        stream.close()


async def test_beats_continue_while_nothing_changes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream_module, "BEAT_SECONDS", 0.1)
    async with serving(StatusBoard()) as server:
        stream = await open_stream(server.port)
        for _ in range(3):
            await stream.until("beat")
        stream.close()


async def test_streams_are_bounded_and_a_place_frees_when_one_leaves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream_module, "MAX_CLIENTS", 3)
    board = StatusBoard()
    async with serving(board) as server:
        events = server._app.state.stream
        streams = [await open_stream(server.port) for _ in range(3)]
        for stream in streams:
            await stream.until("snapshot")
        refused = await request(server.port, "/api/events")
        assert refused.status == 503 and b"close a browser tab" in refused.body
        assert refused.headers["retry-after"] == "10"
        assert events.refused == 1
        streams.pop().close()
        await until(lambda: events.clients == 2 and board.watchers == 2)
        late = await open_stream(server.port)
        await late.until("snapshot")
        for stream in (*streams, late):
            stream.close()
        await until(lambda: events.clients == 0 and board.watchers == 0)


async def test_a_client_that_never_reads_is_buffered_within_bounds_and_then_cut(
    monkeypatch: pytest.MonkeyPatch,
):
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("this system has no TCP_USER_TIMEOUT")
    monkeypatch.setattr(server_module, "STALLED_CLIENT_MS", 1500)
    monkeypatch.setattr(stream_module, "MIN_INTERVAL_SECONDS", 0.005)
    board = StatusBoard()
    async with serving(board) as server:
        events = server._app.state.stream
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        await until(lambda: events.clients == 1)
        reader = await open_stream(server.port)
        await reader.until("snapshot")
        block = 100_000
        largest, seen = 0, -1
        async with asyncio.timeout(30):
            for i in range(100_000):
                board.put("big", {"i": i, "text": "x" * block})
                seen = (await reader.until("delta"))[1]["sections"]["big"]["i"]
                sizes = [c.transport.get_write_buffer_size() for c in server._server.server_state.connections]
                largest = max(largest, *sizes)
                if events.clients == 1:
                    break
        assert events.clients == 1  # the reader; the other was cut
        assert 0 < largest < 4 * block  # one message and the transport's own 64 kB, whatever was published
        assert seen > 0
        reader.close()
        client.close()


async def test_stopping_ends_open_streams_and_does_not_wait_for_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_module, "STOP_SECONDS", 3600)
    board = StatusBoard()
    async with serving(board) as server:
        stream = await open_stream(server.port)
        await stream.until("snapshot")
        await asyncio.wait_for(server.stop(), 30)
        with pytest.raises((EOFError, asyncio.IncompleteReadError)):
            while True:
                await stream.next(2)
        stream.close()
    assert board.watchers == 0
