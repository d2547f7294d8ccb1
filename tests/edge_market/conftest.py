"""Kits of the contracts' tests, which the trade is tried against, and a node for this folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

for folder in ("edge", "contracts"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / folder))

from evm_world import Chain  # noqa: E402

from hub.chain.anvil import AnvilError, AnvilOptions, anvil_binary, start_anvil  # noqa: E402


@pytest.fixture(scope="session")
def market_node(free_port: Callable[[], int]) -> Iterator[Chain]:
    """A node that mines at every transaction."""
    try:
        anvil_binary()
    except AnvilError as error:
        pytest.skip(str(error))
    with start_anvil(AnvilOptions(chain_id=7_001, port=free_port(), block_seconds=0)) as running:
        yield Chain(running.url)
