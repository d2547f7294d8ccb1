"""One hub: its validator and the roles of its configuration, put together in one asyncio loop.

Rules: every hub runs a PPDL validator and signs plasma checkpoints; everything else is a role. Roles know each other only
through what is passed here. A chain or broker that is away is waited for by the role that needs it.
Not here: the roles themselves; the command line (`hub.cli`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from hub.chain.client import EvmClient
from hub.chain.deploy import PlasmaContracts
from hub.chain.deployment import load_deployment
from hub.chain.errors import ChainError
from hub.chain.proof_keys import UntrustedKeys, guard_keys
from hub.config import HubConfig, ZkSection, parse_peer, split_address
from hub.console.server import ConsoleError
from hub.control.place import ControlError
from hub.control.server import ControlServer
from hub.inference import InferenceError
from hub.ingest.store import IngestStoreError
from hub.keys import HubKeys
from hub.learning.attendants import LearningAttendants
from hub.learning.price_trainer import KEY_ROLE, PriceTrainer, price_plan
from hub.market.clearing import Clearing
from hub.membership import set_warnings
from hub.operator_roles import OperatorRoles
from hub.operators.folder import OWN_CARD
from hub.peers import PeerBook
from hub.plasma.appender import Appender
from hub.plasma.operator import PlasmaOperator
from hub.plasma.signer import CheckpointSigner, SigningMemory
from hub.plasma.view import PlasmaLinks, PlasmaView
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.genesis_state import AppGenesis, AppStateError
from hub.ppdl.app.membership import ValidatorsAnswer
from hub.ppdl.app.storage import StorageError
from hub.ppdl.application import QueryResult
from hub.ppdl.chain import ExecutionError
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import GenesisError, load_genesis
from hub.ppdl.net.tcp import TcpTransport, TransportError
from hub.ppdl.net.tls import TlsIdentity, read_card
from hub.ppdl.store import StoreError
from hub.relay.relayer import Relayer
from hub.relay.source import StoredChain
from hub.relay_roles import EnvelopeDesk
from openmg.clock import VirtualClock
from openmg.forecast.quantities import METERED
from openmg.messages import base
from openmg.signing import address_of
from openmg.zk.circuits.append import AppendWitness
from openmg.zk.prover import ProofRequest, ProofResult, prove_in_child

log = logging.getLogger(__name__)

TOKEN_CALLS = ("transact", "merge")
POOL_CALLS = ("mint", "sell", "sellMerged", "buy", "burn")


class StartError(Exception):
    """The hub cannot start; one sentence says why and what to do."""


class HubNode:
    """A hub from its configuration; `run` returns after `stop` was set and everything is closed."""

    def __init__(self, config: HubConfig) -> None:
        self.config = config
        self.keys = HubKeys.load(config.hub.key_file)
        try:
            config.hub.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.genesis = load_genesis(config.ppdl.genesis_file)
            self.deployment = load_deployment(config.chains.deployment_file)
            self.app = PpdlApplication(config.hub.state_dir / "application.sqlite")
            identity = config.ppdl.identity_dir
            self._tls = TlsIdentity(identity, self.genesis, self.keys.validator) if identity is not None else None
            self.engine = self._make_engine()
            self._check_peers()
            state = AppGenesis.decode(self.genesis.app_state)
            self.models = tuple(plan.spec.short_name for plan in state.plans)
            self.metered = tuple(plan.spec.short_name for plan in state.plans if plan.spec.quantity in METERED)
            """The models that meters are told of."""
            self.attendants = self._make_attendants()
            self.price_trainer = self._make_price_trainer(state)
        except TransportError as error:  # an OSError, but not of a file of the state folder
            raise StartError(f"{config.hub.name}: {error}") from error
        except OSError as error:
            raise StartError(f"{config.hub.name}: {config.hub.state_dir} cannot be used: {error.strerror}") from error
        except (GenesisError, ChainError, StorageError, StoreError, AppStateError, ValueError) as error:
            raise StartError(f"{config.hub.name}: {error}") from error
        self.control = ControlServer(config.hub.state_dir, self.query, self.engine.submit)
        self.peers = PeerBook(config.hub.name, self.keys.validator, self.engine)
        self._tasks: list[asyncio.Task[None]] = []
        self._operator: OperatorRoles | None = None
        self.relayer: Relayer | None = None
        self.appender: Appender | None = None
        self.clearing: Clearing | None = None

    def _check_peers(self) -> None:
        """StartError for a peer that is no validator; a validator that is no peer is only said, since a quorum may do."""
        if self._tls is not None:
            self._check_own_card(self._tls.folder)
            return  # the others' cards were checked when they were read; `_say_standing` looks at the set of today
        named = {parse_peer(text).address for text in self.config.ppdl.peers} | {self.keys.validator}
        for address in sorted(named - set(self.genesis.validators)):
            where = f"{self.config.hub.name}: 0x{address.hex()} is not a validator of {self.config.ppdl.genesis_file}"
            raise StartError(f"{where}; correct ppdl.peers or hub.key_file")
        for address in sorted(set(self.genesis.validators) - named):
            log.warning("validator 0x%s is not among ppdl.peers; it will not be heard", address.hex())

    def _check_own_card(self, folder: Path) -> None:
        """StartError for a key that is not that of the folder's card: no other hub would take a connection from it."""
        path = folder / OWN_CARD
        if path.exists() and read_card(path).address != self.keys.validator:
            raise StartError(
                f"{self.config.hub.name}: {self.config.hub.key_file} is not the key of {path}; put the two that belong together"
                " in place"
            )

    def _say_standing(self) -> None:
        """Say what the operator should know of the validator set now; validators may be voted in after the genesis."""
        if self._tls is None:
            return
        known = base.decode(ValidatorsAnswer, self.query("validators").value)
        carded = frozenset().union(*self._tls.current().owners.values())
        for sentence in set_warnings(self.keys.validator, self.genesis.validators, known, carded):
            log.warning("%s", sentence)

    async def _open_control(self) -> None:
        """A hub without its control socket is worth more than none: votes go on, and the log says why."""
        try:
            await self.control.start()
        except ControlError as error:
            log.warning("%s; commands like openmg-hub validators will not reach this hub", error)

    def _make_engine(self) -> PbftEngine:
        ppdl, store = self.config.ppdl, self.config.ppdl_store
        if not store.exists():
            log.warning(
                "%s is missing: this validator is silent until it has caught up with the others; if it has never voted, stop it"
                " and run openmg-hub init",
                store,
            )
        peers, listen = [parse_peer(text) for text in ppdl.peers], split_address(ppdl.listen)
        return PbftEngine(
            self.genesis,
            self.keys.validator_key,
            self.app,
            store,
            listen,
            peers,
            transport=TcpTransport(self.genesis, self.keys.validator_key, *listen, peers, tls=self._tls),
            block_interval_s=ppdl.block_interval_s,
            heartbeat_s=ppdl.heartbeat_s,
            view_timeout_s=ppdl.view_timeout_s,
        )

    def _make_attendants(self) -> LearningAttendants:
        key, folder = self.keys.validator_key, self.config.hub.state_dir
        return LearningAttendants(self.models, self.app.duties, self.engine, self.genesis.chain_id, key, folder)

    def _make_price_trainer(self, state: AppGenesis) -> PriceTrainer | None:
        """Where the chain learns prices and names this hub as one who does."""
        found, key = price_plan(state), self.keys.role_key(KEY_ROLE)
        if found is None or all(trainer.address != address_of(key) for trainer in state.trainers):
            return None
        (place, plan), folder = found, self.config.hub.state_dir
        duties, show, submit = partial(self.app.duties, place), self.attendants.on_reveal, self.engine.submit
        return PriceTrainer(plan, state, duties, self.query, show, submit, self.genesis.chain_id, key, folder)

    def query(self, path: str) -> QueryResult:
        """A read of the committed PPDL state; safe from any thread."""
        return self.app.query(path, b"")

    def quiesce(self) -> None:
        """Make no more PPDL blocks; what is under way is finished, relayed and delivered."""
        log.info("no more blocks are made; relaying the rest")
        self.engine.quiesce()

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, run until `stop` is set, stop everything."""
        roles = self.config.hub.roles
        self.engine.on_gossip(self.peers.on_gossip)
        self.engine.on_gossip(self.attendants.on_gossip)
        self.engine.on_decided(self.attendants.on_block)
        try:
            await self.engine.start()
        except (StoreError, ExecutionError, TransportError, OSError) as error:
            raise StartError(f"{self.config.hub.name}: {error}") from error
        try:
            self._say_standing()
            await self._open_control()
            operator = self._plasma_operator() if "plasma" in roles else None
            self._spawn(self._key_guard(stop))
            self._spawn(self._signer(operator).run(stop))
            self._spawn(self.peers.run(stop))
            self._spawn(self.attendants.run(stop))
            if self.price_trainer is not None:
                self.engine.on_decided(self.price_trainer.on_block)
                self._spawn(self.price_trainer.run(stop))
            if "relayer" in roles:
                self._spawn(self._make_relayer().run(stop))
            if "envelope-relay" in roles:
                self._start_envelope_desk(stop)
            if "appender" in roles:
                self._spawn(self._make_appender().run(stop))
            if "clearing" in roles:
                self._spawn(self._make_clearing().run(stop))
            if operator is not None:
                self._spawn(operator.run(stop))
            if "ingest" in roles:
                await self._start_operator_roles(operator, stop)
            await self._watch(stop)
        finally:
            await self._close(stop)

    async def _watch(self, stop: asyncio.Event) -> None:
        """Wait for the end; a role that dies by itself ends the hub with its error in the log."""
        waiting = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([waiting, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        if waiting not in done:
            waiting.cancel()
            failed = next(iter(done))
            error = failed.exception()
            if isinstance(error, UntrustedKeys):
                raise StartError(f"{self.config.hub.name}: {error}") from error
            raise StartError(f"{self.config.hub.name}: {failed.get_name()} ended: {error!r}") from error

    def _key_guard(self, stop: asyncio.Event) -> Coroutine[Any, Any, None]:
        contracts, zk = self.deployment.plasma, self._zk
        return guard_keys(self.plasma_client(), contracts, stop, demo=zk.demo, verifying_keys=zk.digests)

    @property
    def _zk(self) -> ZkSection:
        assert self.config.zk is not None  # HubConfig refuses a file without it
        return self.config.zk

    async def _close(self, stop: asyncio.Event) -> None:
        stop.set()
        await self.control.stop()
        log.info("control socket: %s", self.control.summary())
        if self._operator is not None:
            await self._operator.stop()
        for task in self._tasks:
            with contextlib.suppress(TimeoutError, Exception):
                await asyncio.wait_for(task, 5.0)
        await self.engine.stop()
        self.app.close()
        self.attendants.close()

    def _spawn(self, call: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(call, name=getattr(call, "__qualname__", "role")))

    async def _start_operator_roles(self, operator: PlasmaOperator | None, stop: asyncio.Event) -> None:
        try:
            self._operator = OperatorRoles(self, operator)
            await self._operator.start(stop, self._spawn)
        except (ConsoleError, InferenceError, IngestStoreError) as error:
            raise StartError(f"{self.config.hub.name}: {error}") from error

    # Roles of every hub

    def plasma_client(self, role: str | None = None) -> EvmClient:
        """A client of the plasma chain; with a role, signing for that role's account."""
        return EvmClient(self.config.chains.plasma_url, self.keys.role_key(role) if role else None)

    def _view(self, key: bytes | None) -> PlasmaView:
        contracts = self.deployment.plasma
        links = PlasmaLinks(self.deployment.root.plasma_root, contracts.bridge, contracts.confidential)
        root = EvmClient(self.config.chains.root_url, key, free_gas=False)
        return PlasmaView(root, EvmClient(self.config.chains.plasma_url, key), links)

    def _plasma_operator(self) -> PlasmaOperator:
        confirmations = self.config.chains.root_confirmations
        operator = PlasmaOperator(self._view(self.keys.account_key), confirmations=confirmations)
        self.engine.on_gossip(_in_thread(operator.on_gossip))
        return operator

    def _signer(self, operator: PlasmaOperator | None) -> CheckpointSigner:
        return CheckpointSigner(
            self._view(None),
            self.keys.validator_key,
            SigningMemory(self.config.hub.state_dir / "checkpoint.signed"),
            self.engine.gossip,
            local=_in_thread(operator.on_gossip) if operator else None,
        )

    def _make_relayer(self) -> Relayer:
        chain = StoredChain(self.config.ppdl_store, self.genesis)
        self.relayer = Relayer(self.plasma_client("relayer"), self.deployment.plasma.relay, self.engine, validators=chain)
        self.peers.relayer = self.relayer
        return self.relayer

    def _make_appender(self) -> Appender:
        section, demo = self.config.appender, self._zk.demo

        async def prove(witness: AppendWitness) -> ProofResult:
            request = ProofRequest(
                "append", witness, section.prover, None, key_file=section.key_file, key_sha256=section.key_sha256, demo=demo
            )
            return await prove_in_child(request)

        self.appender = Appender(self.plasma_client("appender"), self.deployment.plasma.confidential, prove)
        return self.appender

    def _make_clearing(self) -> Clearing:
        confirmations = self.config.chains.plasma_confirmations
        self.clearing = Clearing(self.plasma_client("clearing"), self.deployment.plasma, confirmations=confirmations)
        return self.clearing

    def _start_envelope_desk(self, stop: asyncio.Event) -> None:
        client, contracts, clock = self.plasma_client("envelope-relay"), self.deployment.plasma, self.config.clock
        desk = EnvelopeDesk(
            client,
            self.keys.envelope_key,
            proved_calls(contracts),
            self.engine.gossip,
            VirtualClock(clock.t0, clock.w0, clock.speed),
        )
        self.engine.on_gossip(desk.on_gossip)
        self._spawn(desk.run(stop))


def proved_calls(contracts: PlasmaContracts) -> dict[bytes, frozenset[bytes]]:
    """The calls that a proof authorises, so that a relay signs them for anybody: selectors by contract address."""
    token = contracts.confidential
    calls = {token.address: frozenset(EvmClient.selector(token, name) for name in TOKEN_CALLS)}
    for market in contracts.markets:
        calls[market.pool.address] = frozenset(EvmClient.selector(market.pool, name) for name in POOL_CALLS)
    return calls


def _in_thread(listener: Callable[[str, bytes, bytes], None]) -> Callable[[str, bytes, bytes], None]:
    """The listener, called in the order of arrival from a worker thread, because it may ask a chain."""

    def call(kind: str, payload: bytes, sender: bytes) -> None:
        if kind.startswith("plasma."):
            asyncio.get_running_loop().run_in_executor(None, listener, kind, payload, sender)

    return call
