"""Fixtures of the market tests: one node with all plasma contracts, and for each test a PPDL application of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

for folder in ("contracts", "hub_chain", "ppdl"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / folder))

import app_world  # noqa: E402
from evm_world import PPDL_CHAIN_ID, Chain  # noqa: E402
from market_world import MarketWorld, deploy  # noqa: E402

from hub.chain.anvil import AnvilError, AnvilNode, AnvilOptions, anvil_binary, start_anvil  # noqa: E402
from hub.chain.deploy import PlasmaContracts  # noqa: E402


@pytest.fixture(scope="session")
def market_node(free_port: Callable[[], int]) -> Iterator[AnvilNode]:
    """A node that mines at every transaction."""
    try:
        anvil_binary()
    except AnvilError as error:
        pytest.skip(str(error))
    with start_anvil(AnvilOptions(7_090, free_port(), 0)) as node:
        yield node


@pytest.fixture(scope="session")
def contracts(market_node: AnvilNode) -> PlasmaContracts:
    """All plasma contracts of two microgrids, deployed once."""
    return deploy(Chain(market_node.url))


@pytest.fixture
def world(
    market_node: AnvilNode, contracts: PlasmaContracts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MarketWorld]:
    """The contracts as if no other test had run, and a new PPDL application beside them."""
    monkeypatch.setattr(app_world, "CHAIN_ID", PPDL_CHAIN_ID)  # the chain that the relay contract follows
    chain = Chain(market_node.url)
    with chain.undone():
        world = MarketWorld(market_node, chain, contracts, app_world.started(tmp_path / "application.sqlite"))
        yield world
        world.app.close()
