"""Real engines with the real application while the validator set changes and while a validator equivocates.

Everything goes through the public ways: signed transactions in, headers with seals and queries out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from app_world import CHAIN_ID, genesis
from governance_support import ADDRESSES, CHAIN, KEYS, NEW_KEYS, change, members_at, offences, passing

from hub.ppdl.app.answers import EventsAnswer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.membership import OffencesAnswer
from hub.ppdl.app.offences import EVIDENCE_EVENT_TAG, event_of
from hub.ppdl.app.transactions import InferenceRequest, inference_tx
from hub.ppdl.consensus.certs import CertError, Domain, verify_qc
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import QuorumCert
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.engine import PbftEngine
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.memory import MemoryNetwork
from hub.ppdl.store import SignedHeader, initialise_store
from openmg.messages import base
from openmg.signing import address_of

LIMIT_S = 90.0
TIMING = {"block_interval_s": 0.02, "heartbeat_s": 0.2, "view_timeout_s": 0.8}
DOMAIN = Domain(CHAIN_ID, CHAIN)


class Hubs:
    """Engines in this process by name; `start` twice restarts one from its files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.network = folder, MemoryNetwork()
        self.engines: dict[str, PbftEngine] = {}
        self.apps: dict[str, PpdlApplication] = {}
        self.requests = 0

    def join(self, name: str, key: bytes, at: bytes = b"") -> None:
        """Give the hub a place on the network: its address, or `at` for a second hub under one key."""
        initialise_store(self.folder / f"{name}.sqlite", genesis())
        self.apps[name] = PpdlApplication(self.folder / f"{name}-app.sqlite")
        transport = self.network.join(at or address_of(key))
        store, nowhere = self.folder / f"{name}.sqlite", ("127.0.0.1", 0)
        engine = PbftEngine(genesis(), key, self.apps[name], store, nowhere, [], transport=transport, **TIMING)  # type: ignore[arg-type]
        self.engines[name] = engine

    async def start(self, *names: str) -> None:
        await asyncio.gather(*(self.engines[name].start() for name in names))

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self.engines.values()))
        for app in self.apps.values():
            app.close()

    async def flow(self, key: bytes, at: str) -> None:
        """Transactions without end."""
        while True:
            self.requests += 1
            request = InferenceRequest(1337, b"\xc0" * 20, self.requests, 2)
            await self.engines[at].submit(inference_tx(request, CHAIN_ID, key))
            await asyncio.sleep(0.02)

    async def decide(self, at: str, txs: list[bytes]) -> None:
        """Submit in order; each vote needs the proposal before it in a block."""
        for tx in txs:
            while True:
                try:
                    await self.engines[at].submit(tx)
                    break
                except TxRefused as refused:
                    assert "no such proposal" in str(refused)
                await self.more_blocks(1, at)

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not what():
                await asyncio.sleep(0.02)

    async def more_blocks(self, count: int, *names: str) -> int:
        target = max(engine.status().height for engine in self.engines.values() if engine._driver) + count
        await asyncio.gather(*(self.engines[name].wait_height(target, LIMIT_S) for name in names))
        return target


def proves(signed: SignedHeader, members: tuple[bytes, ...]) -> bool:
    """What a light client that knows this set accepts."""
    header, validators = Header.decode(signed.header_bytes), ValidatorSet(members)
    try:
        verify_qc(DOMAIN, validators, header, QuorumCert(signed.view, signed.seals))
    except CertError:
        return False
    return header.validators_hash == validators.hash


def check_chain(hubs: Hubs, name: str, height: int) -> list[tuple[int, tuple[bytes, ...]]]:
    """Every header proves itself under the application's set of its height and no other; returns (first height, set)."""
    headers = hubs.engines[name].headers_after(0, height)
    sets = [members_at(hubs.apps[name], h) for h in range(1, height + 2)]
    changes = [(1, sets[0])] + [(h, sets[h - 1]) for h in range(2, height + 1) if sets[h - 1] != sets[h - 2]]
    for h, signed in enumerate(headers, start=1):
        header = Header.decode(signed.header_bytes)
        assert header.height == h and header.next_validators_hash == ValidatorSet(sets[h]).hash
        assert [known for _, known in changes if proves(signed, known)] == [sets[h - 1]], h
    return changes


@pytest.mark.timeout(400)  # some ten waits, each for a few blocks; a minute on a busy machine
@pytest.mark.slow
async def test_the_set_changes_while_transactions_flow(tmp_path: Path) -> None:
    """A fifth hub catches up and is needed; one is removed and follows; a key is rotated; one restarts in between."""
    hubs = Hubs(tmp_path)
    for number, key in enumerate(KEYS):
        hubs.join(f"hub{number}", key)
    hubs.join("fifth", NEW_KEYS[0])
    hubs.join("rotated", NEW_KEYS[1])
    old = [f"hub{number}" for number in range(4)]
    await hubs.start(*old)
    flow = asyncio.create_task(hubs.flow(KEYS[3], "hub3"))
    try:
        await hubs.more_blocks(3, *old)
        await hubs.start("fifth")  # it has no block yet
        await hubs.decide("hub0", passing(change(add=NEW_KEYS[0], expires=90_000), KEYS[:3], NEW_KEYS[0]))
        await hubs.until(lambda: hubs.engines["fifth"].status().voting)
        hubs.network.cut.add(ADDRESSES[1])  # four of five are left: a quorum only with the newcomer
        await hubs.more_blocks(3, "hub0", "hub2", "hub3", "fifth")
        hubs.network.cut.clear()

        voters = (KEYS[1], KEYS[2], KEYS[3], NEW_KEYS[0])
        await hubs.decide("hub2", passing(change(1, remove=ADDRESSES[0], expires=90_000), voters))
        await hubs.until(lambda: not hubs.engines["hub0"].status().voting)
        await hubs.more_blocks(3, *old, "fifth")  # who left still gets every block

        await hubs.start("rotated")
        rotation = change(2, add=NEW_KEYS[1], remove=ADDRESSES[2], expires=90_000)
        await hubs.decide("fifth", passing(rotation, (KEYS[1], KEYS[3], NEW_KEYS[0]), NEW_KEYS[1]))
        await hubs.until(lambda: hubs.engines["rotated"].status().voting and not hubs.engines["hub2"].status().voting)
        await hubs.engines["hub2"].stop()
        await hubs.engines["fifth"].stop()  # an honest restart, of which nobody complains
        hubs.apps["fifth"].close()
        hubs.join("fifth", NEW_KEYS[0])
        await hubs.start("fifth")
        height = await hubs.more_blocks(4, "hub0", "hub1", "hub3", "fifth", "rotated")
        flow.cancel()

        final = tuple(sorted((ADDRESSES[1], ADDRESSES[3], address_of(NEW_KEYS[0]), address_of(NEW_KEYS[1]))))
        for name in ("hub0", "hub1", "hub3", "fifth", "rotated"):
            changes = check_chain(hubs, name, height)
            assert [len(members) for _, members in changes] == [4, 5, 4, 4] and changes[-1][1] == final
            answer = await hubs.engines[name].query("evidence")
            assert base.decode(OffencesAnswer, answer.value).total == 0
            assert hubs.engines[name].status().equivocations == 0
        assert hubs.requests > 10
        assert (await hubs.engines["hub0"].query(f"inference/{hubs.requests // 2}")).ok
        heads = {
            hubs.engines[name].headers_after(height - 1, 1)[0].header_bytes for name in ("hub0", "hub1", "fifth", "rotated")
        }
        assert len(heads) == 1
    finally:
        flow.cancel()
        await hubs.stop()


async def test_a_key_used_by_two_hubs_is_on_record_at_every_honest_hub(tmp_path: Path) -> None:
    """A second engine with the key of number 1: both propose and vote, neither knows of the other."""
    hubs = Hubs(tmp_path)
    for number, key in enumerate(KEYS):
        hubs.join(f"hub{number}", key)
    hubs.join("twin", KEYS[1], at=b"the twin's place....")
    honest = ("hub0", "hub2", "hub3")
    await hubs.start(*hubs.engines)
    flow = asyncio.create_task(hubs.flow(KEYS[3], "hub3"))
    try:
        await hubs.until(lambda: all(offences(hubs.apps[name]).total >= 1 for name in honest))
        height = await hubs.more_blocks(5, *honest)  # the chain goes on
        records = []
        for name in honest:
            answer = base.decode(OffencesAnswer, (await hubs.engines[name].query("evidence")).value)
            assert {one.offender for one in answer.kept} == {ADDRESSES[1]}
            records.append(answer.kept[0])
        assert records[0] == records[1] == records[2]
        (first, *_) = records
        proved = await hubs.engines["hub0"].query(f"events/{first.recorded_height}")
        events = [item.event for item in base.decode(EventsAnswer, proved.value).events]
        assert event_of(first, CHAIN_ID) in events and event_of(first, CHAIN_ID).startswith(EVIDENCE_EVENT_TAG)
        chains = [[signed.header_bytes for signed in hubs.engines[name].headers_after(0, height)] for name in honest]
        assert len(chains[0]) == height and chains[0] == chains[1] == chains[2]
        assert all(hubs.engines[name].status().failure is None for name in honest)
    finally:
        flow.cancel()
        await hubs.stop()
