"""Operator and validators of the plasma chain: deposits arrive once and in order, checkpoints need a true quorum."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from evm_world import ETHER, Chain, validator_keys
from lossy_rpc import lossy_rpc
from notes_world import prove_here
from pool_world import deploy_pool

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from hub.chain.deploy import deploy_root
from hub.chain.errors import ChainError, ChainUnreachable
from hub.plasma.appender import Appender
from hub.plasma.checkpoint import Checkpoint, InvalidCheckpoint, checkpoint_hash, genesis_hash
from hub.plasma.operator import PlasmaOperator
from hub.plasma.signer import GOSSIP_KIND, CheckpointSigner, SignedEpoch, SigningMemory
from hub.plasma.view import PlasmaLinks, PlasmaView
from openmg.hashing import merkle_root
from openmg.signing import address_of

ROOT_CHAIN_ID, PLASMA_CHAIN_ID = 7_040, 7_041
EPOCH_BLOCKS = 4
NOTE_EPOCH_SECONDS = 60
KEYS = validator_keys(4)


@dataclass
class World:
    root: Chain
    plasma: Chain
    links: PlasmaLinks

    def view(self, operator: bool = False) -> PlasmaView:
        name = "operator" if operator else "reader"
        return PlasmaView(self.root.client(name), self.plasma.client(name), self.links, EPOCH_BLOCKS)

    def deposit(self, recipient: bytes, amount: int) -> None:
        self.root.client("depositor").transact(self.links.plasma_root, "deposit", recipient, value=amount)

    async def add_note(self, amount: int) -> None:
        """A deposit of the operator, which an appender brings into the tree."""
        client = self.plasma.client("operator")
        client.transact(self.links.confidential, "shield", bytes(20), amount, 7, b"", value=amount)
        self.plasma.skip(NOTE_EPOCH_SECONDS)
        assert await Appender(self.plasma.client("appender"), self.links.confidential, prove_here).turn()

    def mine(self, blocks: int) -> None:
        client = EvmClient(self.plasma.url)
        for _ in range(blocks):
            client.rpc("evm_mine")

    def mine_epoch(self) -> None:
        """Go on to the end of the epoch that is due."""
        last = self.view().anchor().last_block + EPOCH_BLOCKS
        self.mine(last - EvmClient(self.plasma.url).block_number())

    def committed(self) -> list[Checkpoint]:
        client = self.root.client("reader")
        events = client.events(self.links.plasma_root, "CheckpointCommitted", 0, client.block_number())
        return [Checkpoint(*event.args["checkpoint"].values()) for event in events]


@pytest.fixture(scope="module")
def nodes(start_node: Callable[..., object]) -> Iterator[tuple[Chain, Chain]]:
    with start_node(ROOT_CHAIN_ID) as root, start_node(PLASMA_CHAIN_ID) as plasma:
        yield Chain(root.url), Chain(plasma.url)


def create(client: EvmClient, name: str, *args: object, value: int = 0, **options: object) -> Contract:
    contract, tx_hash = client.create(load_artifact(name), *args, value=value, **options)  # type: ignore[arg-type]
    client.wait(tx_hash)
    return contract


@pytest.fixture
def world(nodes: tuple[Chain, Chain]) -> Iterator[World]:
    root, plasma = nodes
    with root.undone(), plasma.undone():
        for chain in nodes:
            for name in ("operator", "depositor"):
                chain.give(chain.client(name).address, 1_000 * ETHER)
        operator = plasma.client("operator")
        confidential, _verifiers = deploy_pool(operator, operator.address, NOTE_EPOCH_SECONDS)
        bridge = create(operator, "PethBridge", operator.address, value=500 * ETHER)
        contracts = deploy_root(root.client("depositor"), PLASMA_CHAIN_ID, [address_of(key) for key in KEYS])
        yield World(root, plasma, PlasmaLinks(contracts.plasma_root, bridge, confidential))


@dataclass
class Hubs:
    """An operator and signers who hear each other."""

    operator: PlasmaOperator
    signers: list[CheckpointSigner]


@pytest.fixture
def hubs(world: World, tmp_path: Path) -> Hubs:
    operator = PlasmaOperator(world.view(operator=True), poll_seconds=0.1)
    operator.turn()

    def send(kind: str, payload: bytes) -> None:
        operator.on_gossip(kind, payload, b"\1" * 20)

    signers = [
        CheckpointSigner(world.view(), key, SigningMemory(tmp_path / f"signed-{i}"), send, poll_seconds=0.1)
        for i, key in enumerate(KEYS)
    ]
    return Hubs(operator, signers)


# ---- deposits ---------------------------------------------------------------------------------------------------


def test_deposits_arrive_once_and_in_order(world):
    operator, reader = PlasmaOperator(world.view(operator=True)), world.plasma.client("reader")
    for i in range(3):
        world.deposit(bytes([i + 1]) * 20, (i + 1) * ETHER)
    assert operator.mint_deposits() == 3
    assert operator.mint_deposits() == 0
    restarted = PlasmaOperator(world.view(operator=True))
    world.deposit(b"\1" * 20, 5)
    assert restarted.mint_deposits() == 1
    assert [reader.balance(bytes([i]) * 20) for i in (1, 2, 3)] == [ETHER + 5, 2 * ETHER, 3 * ETHER]
    status = restarted.status()
    assert (status.deposits, status.minted) == (4, 4)


def test_many_deposits_are_given_out_turn_by_turn(world, monkeypatch):
    monkeypatch.setattr("hub.plasma.operator.MAX_DEPOSITS_PER_TURN", 2)
    operator = PlasmaOperator(world.view(operator=True))
    for _ in range(5):
        world.deposit(b"\1" * 20, 1)
    assert [operator.mint_deposits() for _ in range(4)] == [2, 2, 1, 0]


def test_deposits_wait_for_confirmations(world):
    operator = PlasmaOperator(world.view(operator=True), confirmations=2)
    world.deposit(b"\1" * 20, 1)
    assert operator.mint_deposits() == 0
    for _ in range(2):
        EvmClient(world.root.url).rpc("evm_mine")
    assert operator.mint_deposits() == 1


@pytest.mark.parametrize("lost_blocks", [1, 3])
def test_deposits_of_blocks_that_came_instead_of_others_are_seen(world, lost_blocks):
    """The root chain forgot its newest blocks and made others: as many as this node had seen, or more."""
    operator, root = PlasmaOperator(world.view(operator=True)), EvmClient(world.root.url)
    world.deposit(b"\1" * 20, 1)
    with world.root.undone():
        for _ in range(lost_blocks):
            root.rpc("evm_mine")
        assert operator.mint_deposits() == 1
    world.deposit(b"\2" * 20, 2)
    for _ in range(2):
        root.rpc("evm_mine")
    assert operator.mint_deposits() == 1
    assert world.plasma.client("reader").balance(b"\2" * 20) == 2


# ---- checkpoints ------------------------------------------------------------------------------------------------


async def test_checkpoints_carry_what_happened(world, hubs):
    world.deposit(b"\1" * 20, ETHER)
    hubs.operator.turn()
    await world.add_note(5)
    world.mine_epoch()
    for signer in hubs.signers[:3]:
        assert await signer.turn() is not None
    first = hubs.operator.submit_checkpoint()
    reader = world.plasma.client("reader")
    assert first == world.committed()[0]
    assert (first.epoch, first.first_block, first.last_block) == (0, 1, EPOCH_BLOCKS)
    assert first.prev_hash == genesis_hash(PLASMA_CHAIN_ID)
    blocks = [reader.block(number) for number in range(1, EPOCH_BLOCKS + 1)]
    assert (first.block_hash, first.state_root) == (blocks[-1].hash, blocks[-1].state_root)
    assert first.tx_root == merkle_root([block.transactions_root for block in blocks])

    while len(world.committed()) < 4:  # until deposit and note, which came after the deployment, are covered
        world.mine_epoch()
        for signer in hubs.signers:
            await signer.turn()
        hubs.operator.turn()
    checkpoints = world.committed()
    assert [c.prev_hash for c in checkpoints[1:]] == [checkpoint_hash(c) for c in checkpoints[:-1]]
    last = checkpoints[-1]
    assert last.inbox_count == 1
    assert int.from_bytes(last.note_root) == reader.call(world.links.confidential, "currentRoot")
    assert hubs.operator.status().checkpoints == 4


@pytest.mark.slow
async def test_notes_and_deposits_of_forgotten_blocks_are_forgotten(world):
    """The plasma node took back blocks and made others: a view that had seen the first ones sees what a new view sees."""
    view = world.view()
    await world.add_note(5)
    world.deposit(b"\1" * 20, ETHER)
    with world.plasma.undone():
        await world.add_note(6)
        assert PlasmaOperator(world.view(operator=True)).mint_deposits() == 1
        last = EvmClient(world.plasma.url).block_number()
        view.epoch_blocks = last
        before = view.next_checkpoint()
    world.mine(last - EvmClient(world.plasma.url).block_number())
    fresh = world.view()
    fresh.epoch_blocks = last
    after = view.next_checkpoint()
    assert before is not None and after is not None
    assert after == fresh.next_checkpoint()
    assert (before.inbox_count, after.inbox_count) == (1, 0)
    assert before.note_root != after.note_root != bytes(32)


async def test_an_anchor_never_mixes_two_epochs(world, hubs):
    """A checkpoint that is committed while a node reads the root contract once gave a signature over half of each."""
    view = world.view()
    world.mine_epoch()
    for signer in hubs.signers:
        await signer.turn()
    before, call, seen = view.anchor(), view.root.call, []

    def call_while_a_checkpoint_lands(contract, function, *args, **options):
        answer = call(contract, function, *args, **options)
        if not seen:
            assert hubs.operator.submit_checkpoint() is not None
        seen.append(function)
        return answer

    view.root.call = call_while_a_checkpoint_lands
    assert view.anchor() == before
    view.root.call = call
    assert view.anchor().next_epoch == before.next_epoch + 1


async def test_two_of_four_are_no_quorum(world, hubs):
    world.mine_epoch()
    for signer in hubs.signers[:2]:
        await signer.turn()
    assert hubs.operator.submit_checkpoint() is None
    await hubs.signers[1].turn()  # the same validator again is nobody new
    assert hubs.operator.submit_checkpoint() is None
    await hubs.signers[3].turn()
    assert hubs.operator.submit_checkpoint() is not None


async def test_nothing_is_signed_before_the_epoch_ends(world, hubs):
    while world.view().next_checkpoint() is not None:
        for signer in hubs.signers:
            await signer.turn()
        hubs.operator.turn()
    assert await hubs.signers[0].turn() is None
    world.mine(EPOCH_BLOCKS)
    assert await hubs.signers[0].turn() is not None


async def test_validators_refuse_a_payout_without_a_deposit(world, hubs, caplog):
    """The operator pays itself: no honest validator signs any checkpoint that covers it."""
    thief = world.plasma.client("operator")
    thief.transact(world.links.bridge, "mintFromDeposit", 0, b"\6" * 20, 100 * ETHER)
    signer = hubs.signers[0]
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            world.mine_epoch()
            if await signer.turn() is None:
                break
            for other in hubs.signers:
                await other.turn()
            hubs.operator.submit_checkpoint()
        assert await signer.turn() is None
    assert sum("pays deposit 0" in record.getMessage() for record in caplog.records) >= 1
    with pytest.raises(InvalidCheckpoint, match="which the root chain does not have so"):
        signer.sign_due()
    assert all(checkpoint.inbox_count == 0 for checkpoint in world.committed())


@pytest.mark.parametrize("lost", [("root", "eth_call", 4), ("root", "eth_call", 5), ("plasma", "eth_getLogs", 1)])
def test_a_request_lost_in_the_middle_of_a_look_changes_nothing(world, lost):
    """Four calls read the anchor, then one a payout: whichever is lost, the next look starts where the last good one ended."""
    for i in range(2):
        world.deposit(bytes([i + 1]) * 20, 1)
    assert PlasmaOperator(world.view(operator=True)).mint_deposits() == 2
    chain, method, after = lost
    with lossy_rpc(getattr(world, chain).url) as rpc:
        view = world.view()
        setattr(view, chain, EvmClient(rpc.url))
        view.epoch_blocks = EvmClient(world.plasma.url).block_number()
        rpc.lose(method, after=after)
        with pytest.raises(ChainUnreachable):
            view.next_checkpoint()
        checkpoint = view.next_checkpoint()
    assert checkpoint is not None and checkpoint.inbox_count == 2


def test_a_wrong_amount_is_no_deposit(world):
    world.deposit(b"\6" * 20, ETHER)
    thief = world.plasma.client("operator")
    thief.transact(world.links.bridge, "mintFromDeposit", 0, b"\6" * 20, ETHER + 1)
    view = world.view()
    view.epoch_blocks = EvmClient(world.plasma.url).block_number()
    with pytest.raises(InvalidCheckpoint, match="pays deposit 0"):
        view.next_checkpoint()


def test_foreign_and_malformed_signatures_are_dropped_and_logged_once(world, hubs, caplog):
    stranger = SignedEpoch(0, bytes(32), b"\1" * 65)
    with caplog.at_level(logging.WARNING):
        for payload in (b"", b"\xff" * 300, stranger.encode(), stranger.encode()[:-1]):
            hubs.operator.on_gossip(GOSSIP_KIND, payload, b"\2" * 20)
        hubs.operator.on_gossip("another kind", b"", b"\2" * 20)
    assert hubs.operator.status().dropped_signatures == 4
    assert len(caplog.records) == 1


async def test_signatures_over_another_view_do_not_count(world, hubs):
    """Three validators that see another chain (here: other epoch length) do not make a quorum for ours."""
    world.mine(3 * EPOCH_BLOCKS)
    for signer in hubs.signers[:3]:
        signer.view.epoch_blocks = EPOCH_BLOCKS + 1
        assert await signer.turn() is not None
    await hubs.signers[3].turn()
    assert hubs.operator.submit_checkpoint() is None


def test_a_validator_never_contradicts_itself(tmp_path):
    path = tmp_path / "signed"
    memory = SigningMemory(path)
    signed = SignedEpoch(5, b"\1" * 32, b"\2" * 65)
    memory.remember(signed)
    memory.remember(signed)
    restarted = SigningMemory(path)
    assert restarted.last == signed
    for other in (SignedEpoch(5, b"\3" * 32, b"\2" * 65), SignedEpoch(4, b"\1" * 32, b"\2" * 65)):
        with pytest.raises(InvalidCheckpoint, match="not signed again"):
            restarted.remember(other)
    restarted.remember(SignedEpoch(6, b"\3" * 32, b"\2" * 65))
    path.write_bytes(b"damage")
    with pytest.raises(InvalidCheckpoint, match="is damaged"):
        SigningMemory(path)


async def test_a_silent_chain_is_logged_once(world, free_port, tmp_path, caplog):
    silent = EvmClient(f"http://127.0.0.1:{free_port()}")
    view = PlasmaView(silent, silent, world.links, EPOCH_BLOCKS)
    signer = CheckpointSigner(view, KEYS[0], SigningMemory(tmp_path / "signed"), lambda kind, payload: None)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await signer.turn() is None
    assert len(caplog.records) == 1
    with pytest.raises(ChainError):
        PlasmaOperator(view).turn()


async def test_trouble_that_comes_again_is_logged_again(world, hubs, caplog):
    world.mine_epoch()
    signer = hubs.signers[0]
    with lossy_rpc(world.root.url) as rpc, caplog.at_level(logging.WARNING):
        signer.view.root = EvmClient(rpc.url)
        for _ in range(2):
            rpc.lose("eth_blockNumber")
            assert await signer.turn() is None
            assert await signer.turn() is not None
    assert len(caplog.records) == 2


async def test_running_roles_on_mining_chains(start_node, tmp_path):
    """Two chains, four validators with gossip that loses every third message, one operator: it all comes together."""
    with start_node(ROOT_CHAIN_ID, 0.2) as root_node, start_node(PLASMA_CHAIN_ID, 0.2) as plasma_node:
        root, plasma = Chain(root_node.url), Chain(plasma_node.url)
        for chain in (root, plasma):
            for name in ("operator", "depositor"):
                chain.give(chain.client(name).address, 1_000 * ETHER)
        operator_client = plasma.client("operator")
        pool, _verifiers = deploy_pool(operator_client, operator_client.address, NOTE_EPOCH_SECONDS)
        bridge = create(operator_client, "PethBridge", operator_client.address, value=500 * ETHER)
        contracts = deploy_root(root.client("depositor"), PLASMA_CHAIN_ID, [address_of(key) for key in KEYS])
        world = World(root, plasma, PlasmaLinks(contracts.plasma_root, bridge, pool))
        operator = PlasmaOperator(world.view(operator=True), poll_seconds=0.1)
        sent = 0

        async def lossy(kind: str, payload: bytes) -> None:
            nonlocal sent
            sent += 1
            if sent % 3:
                operator.on_gossip(kind, payload, b"\1" * 20)

        def signer(index: int, key: bytes) -> CheckpointSigner:
            memory = SigningMemory(tmp_path / f"signed-{index}")
            local = operator.on_gossip if index == 0 else None
            return CheckpointSigner(world.view(), key, memory, lossy, local=local, poll_seconds=0.1)

        stop = asyncio.Event()
        roles = [operator.run(stop), *(signer(i, key).run(stop) for i, key in enumerate(KEYS))]
        tasks = [asyncio.create_task(role) for role in roles]
        await asyncio.to_thread(world.deposit, b"\1" * 20, 3 * ETHER)
        for _ in range(600):
            if operator.status().checkpoints >= 3 and operator.status().minted == 1:
                break
            await asyncio.sleep(0.1)
        stop.set()
        await asyncio.gather(*tasks)
        assert plasma.client("reader").balance(b"\1" * 20) == 3 * ETHER
        assert len(world.committed()) >= 3
