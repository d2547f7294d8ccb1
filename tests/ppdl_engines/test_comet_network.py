"""Four CometBFT nodes with our application: one order, one of them killed and caught up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from comet_support import need_cometbft
from engine_nets import WAIT_S, Net
from test_comet_node import child

from hub.ppdl.engines.cometbft import binary


@pytest.mark.slow
async def test_four_nodes_agree_and_one_that_was_killed_catches_up(tmp_path: Path, free_port: Callable[[], int]) -> None:
    need_cometbft()
    net = Net("cometbft", tmp_path, 4, free_port)
    await net.start()
    try:
        for engine in net.engines:
            await engine.wait_height(1, WAIT_S)  # before, a node looks for blocks and refuses transactions
        txs = [f"inc:{i}".encode() for i in range(8)]
        for i, tx in enumerate(txs):
            await net.engines[i % 4].submit(tx)
        await net.executed(txs, range(4))
        os.kill(child(net.engines[3]), signal.SIGKILL)
        more = [f"inc:more-{i}".encode() for i in range(4)]
        for tx in more:
            await net.engines[0].submit(tx)
        await net.executed(more, range(3))
        await net.engines[3].stop()
        net.apps[3] = net._make_app(3)
        net.engines[3] = net._make(3)
        await net.engines[3].start()
        await net.executed(more, [3])
        orders = [net.app(i).txs() for i in range(4)]
        shortest = min(map(len, orders))
        assert shortest >= len(txs) + len(more) and all(order[:shortest] == orders[0][:shortest] for order in orders)
        height = min(engine.status().height for engine in net.engines)
        for i in range(4):
            await net.engines[i].wait_height(height, WAIT_S)
            assert [net.verified(i, h).hash for h in range(1, height + 1)] == [
                net.verified(0, h).hash for h in range(1, height + 1)
            ]
    finally:
        await net.stop()


@pytest.mark.slow
@pytest.mark.timeout(binary.BUILD_TIMEOUT_S + 60)
def test_the_pinned_version_is_built_from_go_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("go") is None:
        pytest.skip("no Go toolchain here: install Go to build CometBFT")
    monkeypatch.setenv("OPENMG_CACHE", str(tmp_path))
    lines: list[str] = []
    built = binary.build(lines.append)
    assert built == binary.cached_path()
    assert lines[0] == f"building CometBFT {binary.VERSION} with Go", "said at once, however warm Go's cache is"
    said = subprocess.run(["go", "version", "-m", str(built)], capture_output=True, text=True, check=True).stdout
    assert f"github.com/cometbft/cometbft\t{binary.VERSION}\t" in said
    lines.clear()
    assert binary.build(lines.append) == built and not lines
