"""The operator's roles of a hub: ingest, market, inference and console, wired to the chains and to each other.

Sums of slots, commits, ballots and evaluations become PPDL transactions; blobs go to the validator's attendants; the
agreed models go back to the meters;
envelopes are carried to other hubs' relays; what happens is gathered for the console once a second.
Not here: any of the parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from hub.carrier import RECEIPT_GOSSIP, Carrier
from hub.chain.verifiers import circuit_set_of
from hub.console.board import StatusBoard
from hub.console.server import ConsoleServer, create_app
from hub.devices.standing import standing_of
from hub.inference.api.app import VouchedWay
from hub.inference.forecast_role import ForecastRole
from hub.inference.service import InferenceService
from hub.ingest.events import IngestEvents
from hub.ingest.groups import Gap, GroupSum
from hub.ingest.joining import OpenedSlot
from hub.ingest.registry import FEEDER, HOME, Device, Registry
from hub.ingest.rosters import Grouping
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from hub.ingest.store import IngestStore
from hub.learning.private_publisher import PrivatePublisher
from hub.learning.publisher import ModelPublisher
from hub.market.courier import EventCourier
from hub.market.service import MarketService, Owner
from hub.market.slot_leaves import leaves_of_slot
from hub.market.view import ChainView
from hub.overview import Overview
from hub.plasma.operator import PlasmaOperator
from hub.ppdl.app.transactions import OpenedGroup, ballot_tx, commit_tx, evaluation_tx, slot_sum_tx, step_tx
from hub.ppdl.application import BlockResult
from hub.ppdl.consensus.block import Block
from hub.ppdl.mempool import TxRefused
from openmg.clock import VirtualClock, slot_of
from openmg.envelope import Envelope
from openmg.market.uniswap import spot_price
from openmg.messages import base
from openmg.messages.feeder import FeederLive
from openmg.messages.learning import Ballot, Evaluation, UpdateCommit, UpdateReveal
from openmg.messages.market import ChainNotice, EnergyMarket
from openmg.messages.telemetry import Birth

if TYPE_CHECKING:
    from hub.node import HubNode

log = logging.getLogger(__name__)

STEP_SECONDS = 1.0
ALREADY_AGREED = "is already recorded"
"""Part of the application's answer to a slot that it has; such a sum is done."""

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class OperatorRoles(IngestEvents):
    """Hears of everything that meters send and passes it on."""

    def __init__(self, node: HubNode, operator: PlasmaOperator | None) -> None:
        config = node.config
        assert config.mqtt is not None  # HubConfig refuses the role ingest without it
        self.node = node
        self.engine = node.engine
        self.clock = VirtualClock(config.clock.t0, config.clock.w0, config.clock.speed)
        devices = [
            Device(item.name, bytes.fromhex(item.address[2:]), item.microgrid, item.role, bytes.fromhex(item.approval[2:]))
            for item in config.device
        ]
        self._standing = standing_of(config, {device.name: device.address for device in devices})
        self.registry = Registry(devices, self._standing.reason) if self._standing is not None else Registry(devices)
        settings = IngestSettings(
            config.mqtt.address,
            config.hub.name,
            node.genesis.chain_id,
            node.keys.account_key,
            max(self.clock.slot(), slot_of(config.clock.t0)),  # nothing is metered before the clock begins
            tls=config.mqtt.tls,
            group_size=config.grid.group_size,
        )
        self.store = IngestStore(config.hub.state_dir / "ingest.sqlite")
        self.ingest = IngestService(settings, self.registry, self.store, self.clock, self, node.app.open_report)
        self.models = tuple(
            ModelPublisher(name, node.query, self._publish, partial(self._missing_blobs, name)) for name in node.metered
        )
        self.private_steps = tuple(PrivatePublisher(name, node.query, self._publish) for name in node.metered)
        self.relays = tuple(bytes.fromhex(key) for key in config.relay.envelope_keys)
        self.carrier = Carrier(self.relays, node.engine.gossip, self._publish_once)
        self.owners: dict[str, Owner] = {}
        self.market = self._make_market() if "market" in config.hub.roles else None
        self.inference = self._make_inference() if "inference" in config.hub.roles else None
        self.board = StatusBoard()
        self.overview = Overview(self, operator)
        self.forecasts = self._make_forecasts()
        self.console: ConsoleServer | None = None
        self._submitting: set[asyncio.Task[None]] = set()
        self._connects = 0
        self._reading = asyncio.Lock()
        """Held while a thread reads the store for the console."""

    def _make_market(self) -> MarketService:
        node, contracts = self.node, self.node.deployment.plasma
        courier = EventCourier(node.plasma_client("courier"), contracts, node.query)
        markets = tuple(EnergyMarket(m.microgrid, m.token.address, m.exchange.address) for m in contracts.markets)
        notice = ChainNotice(
            contracts.chain_id,
            contracts.confidential.address,
            contracts.registry.address,
            markets,
            self.relays,
            circuit_set_of(contracts.verifiers),
            (),  # the pools' limits are the chain's to tell
            contracts.energy_registry.address,
        )
        return MarketService(
            ChainView(node.plasma_client(), contracts),
            courier,
            notice,
            node.config.market.retail_wei_per_wh,
            lambda: dict(self.owners),
            self._publish,
            partial(leaves_of_slot, node.query),
            confirmations=node.config.chains.plasma_confirmations,
        )

    def _make_inference(self) -> InferenceService:
        node = self.node
        return InferenceService(
            node.plasma_client(),
            node.deployment.plasma,
            node.genesis.chain_id,
            node.keys.validator_key,
            self.engine.submit,
            node.query,
        )

    def _make_forecasts(self) -> ForecastRole | None:
        """The hub's own forecasts, where the configuration asks for them."""
        node, section = self.node, self.node.config.inference
        if section is None:
            return None
        plasma = node.deployment.plasma
        return ForecastRole(
            section,
            node.config.hub.state_dir,
            self.clock,
            node.query,
            self.registry.microgrids(),
            self._prices,
            VouchedWay(node.genesis.chain_id, plasma.chain_id, plasma.inference.address),
            self.board,
        )

    def _prices(self) -> list[tuple[int, int]]:
        """(microgrid, wei per Wh) of the public pools as the market role last read them."""
        pools = self.market.pools if self.market is not None else ()
        return [(pool.microgrid, spot_price(pool.reserve_wei, pool.reserve_wh)) for pool in pools if pool.reserve_wh]

    async def start(self, stop: asyncio.Event, spawn: Spawn) -> None:
        """Start every role; raises ConsoleError when the console's port is taken."""
        self.engine.on_decided(self._on_block)
        self.engine.on_gossip(self._on_gossip)
        if self.market is not None:
            await asyncio.to_thread(self.market.courier.replay, self.node.app.info().last_height)
        await self.ingest.start()
        if self.market is not None:
            spawn(self.market.run(stop))
        if self.inference is not None:
            spawn(self.inference.run(stop))
        if self.forecasts is not None:
            await self.forecasts.start()
            spawn(self.forecasts.run(stop))
        if "console" in self.node.config.hub.roles:
            section = self.node.config.console
            self.console = ConsoleServer(create_app(self.board, self.overview.report), section.host, section.port)
            await self.console.start()
        spawn(self._look_after(stop))

    async def stop(self) -> None:
        """Stop what `start` started itself; spawned roles end with the hub's stop event."""
        await self.ingest.stop()
        if self.console is not None:
            await self.console.stop()
        if self.forecasts is not None:
            await self.forecasts.stop()
        async with self._reading:
            self.store.close()
        if self._standing is not None:
            self._standing.close()

    async def _look_after(self, stop: asyncio.Event) -> None:
        """Once a second: the model again when the broker was away, and the console's sections."""
        while not stop.is_set():
            connects = self.ingest.stats().mqtt.connects
            if connects != self._connects:
                self._connects = connects
                for model in self.models:
                    model.forget()
                for steps in self.private_steps:
                    steps.forget()
                if self.market is not None:
                    self.market.forget()
            self._publish_models()
            async with self._reading:
                await asyncio.to_thread(self.overview.refresh)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), STEP_SECONDS)

    def _publish(self, topic: str, payload: bytes) -> bool:
        return self.ingest.publish(topic, payload, retain=True)

    def _publish_models(self) -> None:
        for model in self.models:
            model.step()
        for steps in self.private_steps:
            steps.step()

    def _missing_blobs(self, name: bytes) -> int:
        return len(self.node.attendants[name].exchange.missing())

    def _publish_once(self, topic: str, payload: bytes) -> bool:
        return self.ingest.publish(topic, payload)

    # From the PPDL chain and other hubs

    def _on_block(self, block: Block, result: BlockResult) -> None:
        if self.market is not None:
            self.market.courier.on_block(block.height, result.events)
        if self.forecasts is not None:
            self.forecasts.on_block()
        self._publish_models()

    def _on_gossip(self, kind: str, payload: bytes, sender: bytes) -> None:
        if kind == RECEIPT_GOSSIP:
            with contextlib.suppress(base.InvalidMessage):
                self.carrier.on_returned(payload)

    # From meters (IngestEvents)

    async def on_slot(self, slot: OpenedSlot) -> None:
        groups = [OpenedGroup.of(group.roster, group.rows, group.sums, group.signatures) for group in slot.groups]
        closed = [member.address for roster in slot.closed for member in roster.members]
        try:
            keys = self.node.genesis.chain_id, self.node.keys.account_key
            await self.engine.submit(slot_sum_tx(slot.slot, groups, closed, *keys))
        except TxRefused as error:
            if ALREADY_AGREED not in str(error):
                raise
        self.overview.grid.on_slot(slot)

    def on_group(self, group: GroupSum) -> None:
        self.overview.grid.on_group(group)

    def on_gap(self, gap: Gap) -> None:
        self.overview.grid.on_gap(gap)

    def on_grouping(self, grouping: Grouping) -> None:
        self.overview.grid.on_grouping(grouping)

    def on_small_group(self, microgrid: int, present: int, needed: int) -> None:
        self.overview.grid.on_small_group(microgrid, present, needed)

    def on_birth(self, device: Device, birth: Birth) -> None:
        if device.role == HOME and any(birth.owner):
            self.owners[device.name] = Owner(birth.owner, device.microgrid)

    def on_feeder_live(self, device: Device, live: FeederLive) -> None:
        if device.role == FEEDER:
            self.overview.grid.on_feeder_live(device.microgrid, live)

    def on_commit(self, device: Device, signed: base.Signed[UpdateCommit], raw: bytes) -> None:
        self._submit(device, commit_tx(raw))

    def on_reveal(self, device: Device, reveal: UpdateReveal) -> None:
        self.node.attendants.on_reveal(device.address, reveal.model, reveal.round, reveal.blob)

    def on_ballot(self, device: Device, signed: base.Signed[Ballot], raw: bytes) -> None:
        self._submit(device, ballot_tx(raw))

    def on_evaluation(self, device: Device, signed: base.Signed[Evaluation], raw: bytes) -> None:
        self._submit(device, evaluation_tx(raw))

    def on_private_step(self, device: Device, leaf: str, raw: bytes) -> None:
        self._submit(device, step_tx(leaf, raw))

    def on_envelope(self, device: Device, envelope: Envelope) -> None:
        self.carrier.on_envelope(device.name, envelope)

    def _submit(self, device: Device, tx: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._submit_one(device, tx))
        self._submitting.add(task)
        task.add_done_callback(self._submitting.discard)

    async def _submit_one(self, device: Device, tx: bytes) -> None:
        try:
            await self.engine.submit(tx)
        except TxRefused as error:
            log.info("transaction of %s was refused: %s", device.name, error)
