"""The CometBFT child process: what the operator is told when it cannot run, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from comet_support import need_cometbft
from engine_nets import WAIT_S, Net

from hub.ppdl.application import BlockCtx, BlockResult
from hub.ppdl.engine import EngineFailed
from hub.ppdl.engines.base import Engine
from hub.ppdl.engines.cometbft import binary
from hub.ppdl.engines.cometbft.engine import CometEngine
from hub.ppdl.engines.cometbft.home import genesis_document, key_file
from hub.ppdl.engines.cometbft.process import CometProcess, ProcessError
from hub.ppdl.store import StoreError


@pytest.fixture
def net(tmp_path: Path, free_port: Callable[[], int]) -> Net:
    return Net("cometbft", tmp_path, 1, free_port)


def comet(engine: Engine) -> CometEngine:
    assert isinstance(engine, CometEngine)
    return engine


def child(engine: Engine) -> int:
    run = comet(engine)._run
    assert run is not None and run.process.pid is not None
    return run.process.pid


def test_without_a_program_the_operator_is_told_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENMG_CACHE", str(tmp_path))
    monkeypatch.delenv(binary.ENVIRONMENT, raising=False)
    with pytest.raises(binary.BinaryError, match="the cache folder has no .*build_cometbft"):
        binary.find_binary()
    monkeypatch.setenv(binary.ENVIRONMENT, str(tmp_path / "none"))
    with pytest.raises(binary.BinaryError, match="OPENMG_COMETBFT names .*none"):
        binary.find_binary()
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv(binary.ENVIRONMENT, str(program))
    assert binary.find_binary() == program


def test_a_build_that_fails_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENMG_CACHE", str(tmp_path / "cache"))
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "go").write_text("#!/bin/sh\necho module not found >&2\nexit 1\n")
    (tools / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(binary.BinaryError, match="module not found"):
        binary.build(lambda line: None)
    assert list((tmp_path / "cache" / "cometbft").iterdir()) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(binary.BinaryError, match="install the Go toolchain"):
        binary.build(lambda line: None)


async def test_a_node_that_forgot_its_votes_does_not_start(net: Net) -> None:
    (net._place(0) / "cometbft" / "data" / "priv_validator_state.json").unlink()
    with pytest.raises(StoreError, match="must not vote"):
        await net.start()


def test_a_validator_without_a_public_key_is_named(net: Net) -> None:
    with pytest.raises(ValueError, match=net.members[0].hex()):
        genesis_document(net.genesis, {})


async def test_a_program_that_ends_at_once_is_reported_with_its_words(net: Net, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'ERROR: no room on the disk'\nexit 3\n")
    program.chmod(0o755)
    comet(net.engines[0])._binary = program
    with pytest.raises(EngineFailed, match="no room on the disk"):
        await net.start()
    assert not key_file(net._place(0) / "cometbft").exists()


async def test_one_process_runs_a_home_and_the_key_is_not_left_in_it(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    need_cometbft()
    monkeypatch.setattr("hub.ppdl.engines.cometbft.process.LOCK_S", 0.2)
    home = net._place(0) / "cometbft"
    await net.start()
    try:
        await net.engines[0].wait_height(1, WAIT_S)
        assert not key_file(home).exists()
        with pytest.raises(ProcessError, match="another process runs"):
            await CometProcess(binary.find_binary(), home).start()
    finally:
        await net.stop()
    assert not key_file(home).exists()


async def test_a_node_that_dies_is_a_failure_that_everybody_hears_of(net: Net) -> None:
    need_cometbft()
    await net.start()
    try:
        await net.engines[0].wait_height(1, WAIT_S)
        waiting = asyncio.create_task(net.engines[0].wait_height(10**6, WAIT_S))
        os.kill(child(net.engines[0]), signal.SIGKILL)
        with pytest.raises(EngineFailed, match="CometBFT ended by itself"):
            await waiting
        assert "ended by itself" in str(net.engines[0].status().failure)
    finally:
        await net.stop()


async def test_an_application_that_cannot_execute_a_block_stops_the_node(net: Net) -> None:
    need_cometbft()

    def broken(ctx: BlockCtx, txs: object) -> BlockResult:
        raise RuntimeError("the state is damaged")

    await net.start()
    try:
        await net.engines[0].wait_height(1, WAIT_S)
        pid = child(net.engines[0])
        net.app().finalize_block = broken  # type: ignore[method-assign, assignment]
        with contextlib.suppress(Exception):
            await net.engines[0].submit(b"inc:a")
        with pytest.raises(EngineFailed, match="the state is damaged"):
            await net.engines[0].wait_height(10**6, WAIT_S)
        async with asyncio.timeout(WAIT_S):
            while Path(f"/proc/{pid}/exe").exists():
                await asyncio.sleep(0.05)
    finally:
        await net.stop()
