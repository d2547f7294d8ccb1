"""A validator update of block h names the set that decides block h + 2, under every engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from comet_support import need_cometbft
from engine_nets import TIMING, WAIT_S, Net, verify

from hub.ppdl.consensus.certs import CertError
from hub.ppdl.engine import PbftEngine
from hub.ppdl.engines.registry import make_engine
from hub.ppdl.engines.solo import solo_engine
from hub.ppdl.sim.keys import validator_keys
from openmg.signing import address_of


def height_of(net: Net, tx: bytes) -> int:
    return next(block[0] for block in net.app().blocks if tx.hex() in block[4])


@pytest.mark.parametrize("name", ["pbft", "cometbft"])
async def test_a_new_validator_decides_from_the_second_block_on(
    name: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    if name == "cometbft":
        need_cometbft()
    net = Net(name, tmp_path, 4 if name == "pbft" else 1, free_port, spare=1)
    newcomer = address_of(net.keys[-1])
    larger = tuple(sorted((*net.members, newcomer)))
    await net.start()
    try:
        join, noise = b"+" + newcomer, b"-" + bytes(20)  # who is no validator cannot be removed: no effect
        await net.engines[0].submit(noise)
        await net.engines[0].submit(join)
        await net.executed([join, noise])
        h = height_of(net, join)
        await net.engines[0].wait_height(h + 3, WAIT_S)
        for height in range(1, h + 2):
            net.verified(0, height)
            with pytest.raises(CertError if name == "cometbft" else (CertError, AssertionError)):
                net.verified(0, height, larger)
        assert [net.verified(0, height, larger).height for height in (h + 2, h + 3)] == [h + 2, h + 3]
        assert net.engines[0].status().validators == len(larger)
        await net.until(lambda: newcomer.hex() in {block[2] for block in net.app().blocks})  # it proposes, too
        leave = b"-" + newcomer
        await net.engines[0].submit(leave)
        await net.executed([leave])
        left = height_of(net, leave)
        await net.engines[0].wait_height(left + 3, WAIT_S)
        assert net.verified(0, left + 1, larger).height == left + 1
        assert net.verified(0, left + 2).height == left + 2
        assert all(block[2] != newcomer.hex() for block in net.app().blocks if block[0] >= left + 2)
    finally:
        await net.stop()


async def test_a_solo_chain_grows_into_a_network(tmp_path: Path, free_port: Callable[[], int]) -> None:
    net = Net("solo", tmp_path, 1, free_port)
    (newcomer_key,) = set(validator_keys(2)) - set(net.keys)
    newcomer = address_of(newcomer_key)
    await net.start()
    join = b"+" + newcomer
    try:
        await net.engines[0].submit(join)
        await net.executed([join])
        h = height_of(net, join)
        await net.engines[0].wait_height(h + 1, WAIT_S)
        with pytest.raises(TimeoutError):
            await net.engines[0].wait_height(h + 2, 3 * TIMING["heartbeat_s"])  # the other's vote is needed now
        assert net.verified(0, h + 1).height == h + 1
    finally:
        await net.stop()
    pair = tuple(sorted((*net.members, newcomer)))
    net.become("pbft", newcomer_key, free_port())
    await net.start()
    try:
        await net.engines[1].wait_height(h + 3, WAIT_S)
        (signed,) = net.engines[1].headers_after(h + 1, 1)
        assert verify("pbft", net.genesis, signed, pair, {}).height == h + 2
        assert net.app(1).blocks[:h] == net.app(0).blocks[:h]
    finally:
        await net.stop()


def test_solo_refuses_a_genesis_of_others(tmp_path: Path, free_port: Callable[[], int]) -> None:
    net = Net("pbft", tmp_path, 4, free_port)
    with pytest.raises(ValueError, match="names 4"):
        solo_engine(net.genesis, net.keys[0], net.apps[0], tmp_path / "x.sqlite")
    assert isinstance(net.engines[0], PbftEngine)


def test_an_unknown_engine_is_named(tmp_path: Path, free_port: Callable[[], int]) -> None:
    net = Net("pbft", tmp_path, 1, free_port)
    with pytest.raises(ValueError, match="choose one of pbft, solo, cometbft"):
        make_engine("raft", net.setup(0))
