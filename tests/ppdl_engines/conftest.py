"""The conformance suite runs the same tests over every engine; CometBFT's need its program."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ppdl"))  # the application's test world
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comet_support import need_cometbft
from engine_nets import Net


@pytest.fixture(params=["solo", "pbft", "cometbft"])
def engine_name(request: pytest.FixtureRequest) -> str:
    if request.param == "cometbft":
        need_cometbft()
    return str(request.param)


@pytest.fixture
async def net(engine_name: str, tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Net]:
    """A started network of the engine: four validators of PBFT, one of the others."""
    made = Net(engine_name, tmp_path, 4 if engine_name == "pbft" else 1, free_port)
    await made.start()
    yield made
    await made.stop()
