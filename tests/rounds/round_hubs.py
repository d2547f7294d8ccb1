"""Four validators over TCP with everything a hub has for learning rounds, in one process; meters are scripted.

With several plans, what is asked of a hub or said to it is about the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from round_world import CHAIN_ID, METERS, VALIDATOR_KEYS, VALIDATORS, blob_of, genesis

from hub.learning.attendant import LearningAttendant
from hub.learning.attendants import LearningAttendants
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.genesis_state import AppGenesis
from hub.ppdl.app.learning_view import LearningView, model_at
from hub.ppdl.app.round_answers import Duties
from hub.ppdl.app.transactions import ballot_tx, commit_tx
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import Genesis
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.transport import PeerAddress
from hub.ppdl.store import initialise_store
from openmg.identity import DeviceKey
from openmg.learning.blobs import blob_hash, commitment_of
from openmg.learning.plan import LearningPlan
from openmg.messages import base
from openmg.messages.learning import Ballot, UpdateCommit
from openmg.signing import address_of

Plans = tuple[LearningPlan, ...]
Attend = Callable[..., LearningAttendant]
TIMEOUT_S = 120.0


class Hub:
    """One validator."""

    def __init__(self, folder: Path, key: bytes, chain: Genesis, ports: dict[bytes, int], attend: Attend) -> None:
        folder.mkdir()
        self.folder, self.state_of_genesis = folder, AppGenesis.decode(chain.app_state)
        store = folder / "ppdl.sqlite"
        initialise_store(store, chain)
        self.app = PpdlApplication(folder / "app.sqlite")
        peers = [PeerAddress(peer, "127.0.0.1", port) for peer, port in ports.items() if peer != address_of(key)]
        timing = {"block_interval_s": 0.1, "heartbeat_s": 0.4, "view_timeout_s": 5.0}
        listen = ("127.0.0.1", ports[address_of(key)])
        self.engine = PbftEngine(chain, key, self.app, store, listen, peers, **timing)
        names = [plan.spec.short_name for plan in self.state_of_genesis.plans]
        self.name = names[0]
        self.attendants = LearningAttendants(names, self.app.duties, self.engine, CHAIN_ID, key, folder, attend)
        self.engine.on_gossip(self.attendants.on_gossip)
        self.engine.on_decided(self.attendants.on_block)

    @property
    def attendant(self) -> LearningAttendant:
        return self.attendants[self.name]

    @property
    def state(self) -> LearningView:
        return self.model(0)

    def model(self, place: int) -> LearningView:
        """What the chain says of the plan with this number."""
        view = self.app._view()
        return model_at(view.state, place, view.env).view

    @property
    def duties(self) -> Duties:
        duties = self.app.duties(0)
        assert duties is not None
        return duties


class Hubs:
    """The four of them. `attend`, `chains`: another attendant, or another genesis, for the validator with this number."""

    def __init__(
        self,
        folder: Path,
        plan: LearningPlan | Plans,
        free_port: Callable[[], int],
        attend: dict[int, Attend] | None = None,
        chains: dict[int, Genesis] | None = None,
    ) -> None:
        self.plans, self._stop = plan if isinstance(plan, tuple) else (plan,), asyncio.Event()
        chains = chains or dict.fromkeys(range(len(VALIDATOR_KEYS)), genesis(*self.plans))
        ports = {address: free_port() for address in VALIDATORS}
        self.hubs = [
            Hub(folder / f"hub-{i}", key, chains[i], ports, (attend or {}).get(i, LearningAttendant))
            for i, key in enumerate(VALIDATOR_KEYS)
        ]
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Hubs:
        await asyncio.gather(*(hub.engine.start() for hub in self.hubs))
        self._running = [asyncio.create_task(hub.attendants.run(self._stop)) for hub in self.hubs]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        for hub in self.hubs:
            hub.attendants.wake()
        await asyncio.gather(*self._running)
        await asyncio.gather(*(hub.engine.stop() for hub in self.hubs))
        for hub in self.hubs:
            hub.app.close()
            hub.attendants.close()

    async def until(self, holds: Callable[[LearningView], bool], hub: int = 0) -> LearningView:
        """Waits, block by block, until the hub's state is so."""
        async with asyncio.timeout(TIMEOUT_S):
            while not holds(self.hubs[hub].state):
                await self.hubs[hub].engine.wait_height(self.hubs[hub].app.info().last_height + 1)
        return self.hubs[hub].state

    async def submit(self, hub: int, tx: bytes) -> None:
        """As the hub's ingest does: what is refused is only said."""
        try:
            await self.hubs[hub].engine.submit(tx)
        except TxRefused:
            return

    def trainers(self) -> list[DeviceKey]:
        now = self.hubs[0].state.round
        return [meter for meter in METERS if meter.address not in (*now.committee, *now.left_out)]

    async def commit(self, meters: Iterable[DeviceKey], blobs: dict[bytes, bytes], hub: int = 0) -> None:
        now = self.hubs[hub].state
        for meter in meters:
            commitment = commitment_of(meter.address, now.round.number, now.model.model_hash, blob_hash(blobs[meter.address]))
            message = UpdateCommit(self.hubs[hub].name, now.round.number, now.model.model_hash, commitment)
            await self.submit(hub, commit_tx(base.sign(message, CHAIN_ID, meter.signing_key)))

    async def committed(self, count: int, number: int) -> None:
        """Until so many commits of a round are on the chain and its next phase is open, on every hub."""
        for i in range(len(self.hubs)):
            await self.until(lambda s: (s.round.number, s.round.phase) != (number, "commit"), i)
        assert len(self.hubs[0].state.commits) == count

    def reveal(self, blobs: dict[bytes, bytes], number: int, hub: int = 0) -> None:
        for device, blob in blobs.items():
            self.hubs[hub].attendants.on_reveal(device, self.hubs[hub].name, number, blob)

    async def judge(self, base_micro: int, candidate_micro: int, hub: int = 0) -> None:
        """Every member of the committee casts this ballot."""
        now = self.hubs[hub].state
        name = now.candidates[0].model.model_hash
        for meter in METERS:
            if meter.address in now.round.committee:
                message = Ballot(self.hubs[hub].name, now.round.number, name, base_micro, candidate_micro)
                await self.submit(hub, ballot_tx(base.sign(message, CHAIN_ID, meter.signing_key)))

    async def same_app_hash(self) -> None:
        """All hubs reach one height, and the hash of one block's outcome is the same on each."""
        height = max(hub.app.info().last_height for hub in self.hubs) + 1
        for hub in self.hubs:
            await hub.engine.wait_height(height + 1, TIMEOUT_S)
        headers = [hub.engine.headers_after(height - 1, 1)[0].header_bytes for hub in self.hubs]
        assert len(set(headers)) == 1


def blobs_of(meters: Iterable[DeviceKey]) -> dict[bytes, bytes]:
    return {meter.address: blob_of(1 + METERS.index(meter)) for meter in meters}
