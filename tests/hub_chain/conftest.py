"""Fixtures of the chain roles: the helpers of the contract tests, and a mining node for each test that asks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contracts"))

from evm_world import Chain  # noqa: E402

from hub.chain.anvil import AnvilError, AnvilNode, AnvilOptions, anvil_binary, start_anvil  # noqa: E402

StartNode = Callable[..., AbstractContextManager[AnvilNode]]


@pytest.fixture(scope="session")
def start_node(free_port: Callable[[], int]) -> StartNode:
    """Starts a node on a free port: `start_node(chain_id, block_seconds=0, ...)`."""
    try:
        anvil_binary()
    except AnvilError as error:
        pytest.skip(str(error))

    def start(chain_id: int, block_seconds: float = 0, **options: object) -> AnvilNode:
        return start_anvil(AnvilOptions(chain_id, free_port(), block_seconds, **options))  # type: ignore[arg-type]

    return start


@pytest.fixture(scope="session")
def quick_node(start_node: StartNode) -> Iterator[Chain]:
    """A node for the session that mines at every transaction."""
    with start_node(7_003) as node:
        yield Chain(node.url)


@pytest.fixture
def chain(quick_node: Chain) -> Iterator[Chain]:
    """The session's node, as if no other test had run."""
    with quick_node.undone():
        yield quick_node
