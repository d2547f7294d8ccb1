"""The real PPDL application under the engines of one node: sums of slots are agreed on, refused and told alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from app_world import CHAIN_ID, FIRST_SLOT, PLAN, app_genesis, slot_tx
from engine_nets import WAIT_S, Net

from hub.ppdl.app.answers import SlotsAnswer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.mempool import TxRefused
from openmg.hashing import keccak256, words
from openmg.messages import base


async def test_slot_sums_of_the_real_application(engine_name: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    n = 4 if engine_name == "pbft" else 1
    net = Net(
        engine_name, tmp_path, n, free_port, chain_id=CHAIN_ID, app_state=app_genesis(PLAN).encode(),
        make_app=lambda i: PpdlApplication(tmp_path / f"app{i}.sqlite"),
    )  # fmt: skip
    good, rival = slot_tx(FIRST_SLOT), slot_tx(FIRST_SLOT, values=[(1, 1)] * 6)

    async def slots() -> list[tuple[int, int, int, int]]:
        answer = base.decode(SlotsAnswer, (await net.engines[0].query("slots/1")).value)
        return [(record.slot, record.members, record.import_wh, record.export_wh) for record in answer.slots]

    await net.start()
    try:
        await net.engines[0].submit(good)
        with pytest.raises(TxRefused):
            await net.engines[0].submit(b"no transaction")
        async with asyncio.timeout(WAIT_S):
            while not (found := await slots()):
                await net.engines[0].wait_height(net.engines[0].status().height + 1)
        assert found == [(FIRST_SLOT, 6, 615, 15)]
        with pytest.raises(TxRefused, match="already recorded"):
            await net.engines[0].submit(rival)
        await net.engines[0].submit(good)  # known: without effect
        event = words(keccak256(b"openmg.event.slot.v1"), CHAIN_ID, 1, FIRST_SLOT, 6, 615, 15)
        await net.until(lambda: any(event in result.events for _, result in net.decided[0]))
        await net.again()  # the application's own disk, replayed or not
        assert await slots() == found
        await net.engines[0].submit(slot_tx(FIRST_SLOT + 1))
        async with asyncio.timeout(WAIT_S):
            while len(found := await slots()) < 2:
                await net.engines[0].wait_height(net.engines[0].status().height + 1)
        height = net.engines[0].status().height
        assert net.verified(0, height).app_hash != net.verified(0, 1).app_hash
    finally:
        await net.stop()
