"""The control socket of a hub: what it answers, and that nothing that comes over it hurts the hub."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from solo_hub import SoloHub, solo_hub

from hub.control import server as control_server
from hub.control.client import ask
from hub.control.place import (
    MAX_NAME_BYTES,
    SOCKET_NAME,
    ControlError,
    HubNotRunning,
    connect,
    listen,
    may_control,
    remove,
)
from hub.control.protocol import CONTROL_PATH, Answer, ControlCounts, Query, Submit, encode_request
from hub.control.server import MAX_CLIENTS, ControlServer
from hub.ppdl.app.membership import ValidatorsAnswer
from hub.ppdl.app.set_change import SetChange, change_hash, propose_tx, sign_consent, sign_vote
from hub.ppdl.application import QueryResult
from openmg.hashing import keccak256
from openmg.messages.base import decode
from openmg.signing import address_of

BOUND_S = 20.0
OTHER_KEY = bytes([7]) * 32


CLIENTS = ThreadPoolExecutor(MAX_CLIENTS)


async def asked(folder: Path, request: Query | Submit) -> Answer:
    return await asyncio.get_running_loop().run_in_executor(CLIENTS, ask, folder, request)


def answers_of(path: str) -> QueryResult:
    return QueryResult(True, path.encode(), 3)


async def never(tx: bytes) -> bytes:
    raise AssertionError("no transaction is sent here")


@contextlib.asynccontextmanager
async def served(folder: Path, query: control_server.QueryCall = answers_of, own_uid: int | None = None):
    """A server without a hub behind it, for what is about the socket alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = ControlServer(folder, query, never, own_uid)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def admission(hub: SoloHub) -> bytes:
    """A transaction that adds a second validator."""
    chain = hub.genesis.chain_id, hub.genesis.hash
    change = SetChange(0, address_of(OTHER_KEY), b"", False, 1000)
    hash_ = change_hash(change, *chain)
    return propose_tx(change, sign_consent(hash_, *chain, OTHER_KEY), sign_vote(hash_, *chain, hub.keys.validator_key))


async def test_it_answers_as_the_application_does_and_takes_transactions(tmp_path: Path) -> None:
    async with solo_hub(tmp_path) as hub:
        await hub.engine.wait_height(1, BOUND_S)
        said = await asked(hub.state, Query("validators"))
        assert (
            decode(ValidatorsAnswer, said.value).sets == decode(ValidatorsAnswer, hub.app.query("validators", b"").value).sets
        )
        unknown = await asked(hub.state, Query("nothing/7"))
        assert (unknown.ok, unknown.reason) == (False, hub.app.query("nothing/7", b"").reason)
        tx = admission(hub)
        taken = await asked(hub.state, Submit(tx))
        assert (taken.ok, taken.value) == (True, keccak256(tx))
        refused = await asked(hub.state, Submit(b"no transaction"))
        assert not refused.ok and "not canonical CBOR" in refused.reason
        counts = decode(ControlCounts, (await asked(hub.state, Query(CONTROL_PATH))).value)
        assert counts == ControlCounts(answered=4, refused=2)
        async with asyncio.timeout(BOUND_S):
            while len(decode(ValidatorsAnswer, hub.app.query("validators", b"").value).sets) == 1:
                await asyncio.sleep(0.01)


async def test_only_its_user_can_reach_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with served(tmp_path / "state") as server:
            status = (server.folder / SOCKET_NAME).stat()
    finally:
        os.umask(before)
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600 and status.st_uid == os.geteuid()
    assert [may_control(uid, 1000) for uid in (1000, 0, 1001)] == [True, True, False]


STRANGER = """
import os, socket, sys
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
try:
    connection.sendall(bytes.fromhex(sys.argv[2]))
    print(len(connection.recv(100)))
except OSError:
    print(0)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


async def test_another_user_gets_no_answer_even_if_it_can_connect(open_folder: Path) -> None:
    own_uid = 0 if os.geteuid() == 0 else os.geteuid() + 1
    async with served(open_folder, own_uid=own_uid) as server:
        place = open_folder / SOCKET_NAME
        place.chmod(0o666)
        command = [sys.executable, "-c", STRANGER, str(place), encode_request(Query("validators")).hex()]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=BOUND_S)
        assert done.stdout.strip() == "0", done.stderr
        assert server.counts == ControlCounts(strangers=1)


def exchange(folder: Path, data: bytes, end: bool = False) -> bytes:
    """All that comes back for these bytes."""
    with connect(folder, BOUND_S) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65_536):
                received += chunk
        return received


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", b"a frame of 1195725856 bytes"),
        (b"\xff" * 70_000, b"a frame of 4294967295 bytes"),
        (bytes(4), b"a frame of 0 bytes"),
        ((300 * 1024).to_bytes(4, "big"), b"a frame of 307200 bytes"),
        ((5).to_bytes(4, "big") + b"\xfa\x00\x00\x00\x00", b"not canonical CBOR"),
        ((1).to_bytes(4, "big") + b"\x80", b"does not begin with"),
    ],
)
async def test_garbage_is_answered_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes, sentence: bytes
) -> None:
    async with solo_hub(tmp_path) as hub:
        with caplog.at_level(logging.WARNING, "hub.control.server"):
            for _ in range(3):
                assert sentence in await asyncio.to_thread(exchange, hub.state, data)
        assert hub.control.counts == ControlCounts(malformed=3)
        assert len([record for record in caplog.records if record.name == "hub.control.server"]) == 1
        height = hub.engine.status().height
        await hub.engine.wait_height(height + 2, BOUND_S)
        assert (await asked(hub.state, Query("validators"))).ok


async def test_half_a_request_is_counted(tmp_path: Path) -> None:
    async with served(tmp_path / "state") as server:
        for data in (b"", b"\x00\x00", encode_request(Query("validators"))[:-1]):
            assert await asyncio.to_thread(exchange, server.folder, data, True) == b""
        assert server.counts == ControlCounts(slow=3)


async def test_a_client_that_never_sends_blocks_nobody_and_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "REQUEST_S", 0.5)
    async with served(tmp_path / "state") as server:
        with connect(server.folder, BOUND_S) as slow:
            slow.sendall(b"\x00")
            assert (await asked(server.folder, Query("one"))).value == b"one"
            assert await asyncio.to_thread(slow.recv, 1) == b""
        assert server.counts == ControlCounts(answered=1, slow=1)


async def test_a_client_that_never_reads_blocks_nobody_and_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "ANSWER_S", 0.5)
    async with served(tmp_path / "state", lambda path: QueryResult(True, bytes(3 << 20) if path == "large" else b"")) as server:
        with connect(server.folder, BOUND_S) as deaf:
            deaf.sendall(encode_request(Query("large")))
            assert (await asked(server.folder, Query("small"))).ok
            async with asyncio.timeout(BOUND_S):
                while not server.counts.slow:
                    await asyncio.sleep(0.01)
        assert len((await asked(server.folder, Query("large"))).value) == 3 << 20


async def test_many_clients_at_once_get_each_its_own_answer(tmp_path: Path) -> None:
    async with served(tmp_path / "state") as server:
        paths = [f"path-{i}" for i in range(MAX_CLIENTS // 2)]
        said = await asyncio.gather(*(asked(server.folder, Query(path)) for path in paths))
        assert [answer.value.decode() for answer in said] == paths


async def test_a_client_too_many_is_told(tmp_path: Path) -> None:
    async with served(tmp_path / "state") as server:
        with contextlib.ExitStack() as held:
            for _ in range(MAX_CLIENTS):
                held.enter_context(connect(server.folder, BOUND_S))
            said = await asked(server.folder, Query("one"))
            assert not said.ok and f"serves {MAX_CLIENTS} commands already" in said.reason
        async with asyncio.timeout(BOUND_S):
            while not (await asked(server.folder, Query("one"))).ok:
                await asyncio.sleep(0.01)
        assert server.counts.busy >= 1 and server.counts.slow <= MAX_CLIENTS


async def test_a_failing_hub_says_so_and_goes_on(tmp_path: Path) -> None:
    def query(path: str) -> QueryResult:
        if path == "broken":
            raise RuntimeError("a fault of the hub")
        return QueryResult(True)

    async with served(tmp_path / "state", query) as server:
        said = await asked(server.folder, Query("broken"))
        assert (said.ok, said.reason) == (False, "the hub failed at this request; see its log")
        assert (await asked(server.folder, Query("whole"))).ok
        assert server.counts == ControlCounts(answered=1, failed=1)


def deep(root: Path, total: int) -> Path:
    """A folder whose socket has a path of so many bytes."""
    missing, folder = total - len(os.fsencode(root / SOCKET_NAME)), root
    while missing > 0:
        part = missing - 1 if missing <= 61 else min(60, missing - 3)
        folder, missing = folder / ("d" * part), missing - 1 - part
    assert len(os.fsencode(folder / SOCKET_NAME)) == total
    return folder


@pytest.mark.parametrize("total", [MAX_NAME_BYTES - 1, MAX_NAME_BYTES, MAX_NAME_BYTES + 1, 400, 900])
async def test_a_path_of_any_length_works(open_folder: Path, total: int) -> None:
    async with served(deep(open_folder, total)) as server:
        assert (await asked(server.folder, Query("far"))).value == b"far"
        assert [path.name for path in server.folder.iterdir()] == [SOCKET_NAME]
    assert not list(server.folder.iterdir())


async def test_a_korean_path_and_a_relative_one_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("마을 전력 허브 " * 6) / "상태"
    async with served(folder):
        assert (await asked(folder, Query("먼 곳"))).value == "먼 곳".encode()
        monkeypatch.chdir(folder.parent)
        assert (await asked(Path("상태"), Query("one"))).ok


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    left = listen(tmp_path)
    left.listening.close()
    os.close(left.folder)
    assert (tmp_path / SOCKET_NAME).exists()
    with pytest.raises(HubNotRunning, match="no hub is running at"):
        ask(tmp_path, Query("one"))
    async with served(tmp_path):
        assert (await asked(tmp_path, Query("one"))).ok
    assert not (tmp_path / SOCKET_NAME).exists()


async def test_a_socket_in_use_is_not_taken_over(tmp_path: Path) -> None:
    async with served(tmp_path):
        with pytest.raises(ControlError, match="is in use by another hub"):
            listen(tmp_path)
        assert (await asked(tmp_path, Query("one"))).ok


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    (tmp_path / SOCKET_NAME).write_text("somebody's notes")
    with pytest.raises(ControlError, match="is no socket: move it away"):
        listen(tmp_path)
    assert (tmp_path / SOCKET_NAME).read_text() == "somebody's notes"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o730])
def test_a_folder_that_others_may_write_gets_no_socket(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(ControlError, match="run chmod 700 on it"):
        listen(tmp_path)
    tmp_path.chmod(0o755)
    remove(listen(tmp_path))


def test_only_its_own_socket_is_removed(tmp_path: Path) -> None:
    first = listen(tmp_path)
    (tmp_path / SOCKET_NAME).unlink()
    second = listen(tmp_path)
    remove(first)
    assert (tmp_path / SOCKET_NAME).exists()
    remove(second)
    assert not (tmp_path / SOCKET_NAME).exists()


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_without_a_hub_it_says_so(tmp_path: Path, folder: str) -> None:
    with pytest.raises(HubNotRunning, match=f"no hub is running at .*{SOCKET_NAME}"):
        ask(tmp_path / folder, Query("one"))


def test_a_hub_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    silent = listen(tmp_path)
    with pytest.raises(ControlError, match="did not answer within 0.2 s"):
        ask(tmp_path, Query("one"), timeout_s=0.2)
    remove(silent)
