"""Fixtures of the contract tests: one node for the session, every test on its own snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from evm_world import Chain

from hub.chain.anvil import AnvilError, AnvilOptions, anvil_binary, start_anvil


@pytest.fixture(scope="session")
def node(free_port: Callable[[], int]) -> Iterator[Chain]:
    """An anvil that mines at every transaction, with the accounts and fees of the plasma chain."""
    try:
        anvil_binary()
    except AnvilError as error:
        pytest.skip(str(error))
    with start_anvil(AnvilOptions(chain_id=7_001, port=free_port(), block_seconds=0)) as running:
        yield Chain(running.url)


@pytest.fixture
def chain(node: Chain) -> Iterator[Chain]:
    """The node, as if no other test had run."""
    with node.undone():
        yield node
