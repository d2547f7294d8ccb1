"""Relayers against a real node and a real PPDL chain: the helpers of the contract tests and of the PBFT tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

for folder in ("contracts", "ppdl"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / folder))

from evm_world import Chain  # noqa: E402

from hub.chain.anvil import AnvilError, AnvilOptions, anvil_binary, start_anvil  # noqa: E402


@pytest.fixture(scope="session")
def relay_node(free_port: Callable[[], int]) -> Iterator[Chain]:
    """A node for the session that mines at every transaction."""
    try:
        anvil_binary()
    except AnvilError as error:
        pytest.skip(str(error))
    with start_anvil(AnvilOptions(7_009, free_port(), 0)) as node:
        yield Chain(node.url)


@pytest.fixture
def chain(relay_node: Chain) -> Iterator[Chain]:
    """The node, as if no other test had run."""
    with relay_node.undone():
        yield relay_node
