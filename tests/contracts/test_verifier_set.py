"""VerifierSet: verifiers change late, in public and only by the guardian's proposal, and with them the proofs that count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from evm_world import ETHER, Chain, refused
from pool_world import (
    AMOUNT,
    BLINDING,
    DELAY_SECONDS,
    EXIT_WINDOW_SECONDS,
    FRIEND,
    VERIFIERS,
    Ext,
    Transfer,
    World,
    create,
    new_world,
)

from openmg.hashing import keccak256, words
from openmg.zk.circuits.registry import circuit_named

TRANSFER, MERGE, APPEND = 0, 1, 2
UNKNOWN = 7
MAX_DELAY_SECONDS = 10 * 365 * 86_400
GRACE_SECONDS = 7 * 86_400


@pytest.fixture(scope="module")
def base(node: Chain) -> Iterator[tuple[World, Transfer]]:
    """A pool, and a private transfer that is bound to its first set of verifiers."""
    with node.undone():
        world = new_world(node)
        tree = world.tree()
        notes = [world.note(AMOUNT, BLINDING, 0, tree), world.note(ETHER, BLINDING + 1, 1, tree)]
        yield world, world.prove(notes, [ETHER, AMOUNT], 0, Ext())


@pytest.fixture
def world(base: tuple[World, Transfer], chain: Chain) -> World:
    return replace(base[0], owner=chain.client("note owner"))


@pytest.fixture
def transfer(base: tuple[World, Transfer]) -> Transfer:
    return base[1]


def addresses(world: World) -> list[bytes]:
    return [world.verifier(circuit).address for circuit in range(len(VERIFIERS))]


def change(world: World, circuit: int) -> bytes:
    """Deploy the circuit's verifier again, and have it proposed and activated."""
    successor = create(world.owner, f"{VERIFIERS[circuit]}Verifier")
    world.owner.transact(world.verifiers, "propose", circuit, successor.address)
    world.chain.skip(DELAY_SECONDS)
    world.owner.transact(world.verifiers, "activate", circuit)
    return successor.address


def test_the_set_is_the_circuits(world):
    for circuit, name in enumerate(VERIFIERS):
        expected = circuit_named(name.lower()).circuit_hash
        assert world.owner.call(world.verifier(circuit), "CIRCUIT_HASH") == expected
    assert world.owner.call(world.verifiers, "circuitSet") == keccak256(words(*addresses(world)))
    with refused("UnknownCircuit"):
        world.owner.call(world.verifiers, "verifierOf", UNKNOWN)


@pytest.mark.parametrize("delay", [0, EXIT_WINDOW_SECONDS - 1, EXIT_WINDOW_SECONDS])
def test_a_delay_that_leaves_no_time_to_exit(world, delay):
    with refused("DelayTooShort"):
        create(world.owner, "VerifierSet", world.owner.address, EXIT_WINDOW_SECONDS, delay, addresses(world))


@pytest.mark.parametrize("delay", [MAX_DELAY_SECONDS + 1, 2**64 - 1, 2**64, 2**256 - 1])
def test_a_delay_that_wraps_is_none(world, delay):
    """Cut to 64 bits, 2^64 seconds from now are now: the guardian could exchange a verifier at once."""
    with refused("DelayTooLong"):
        create(world.owner, "VerifierSet", world.owner.address, EXIT_WINDOW_SECONDS, delay, addresses(world))


def test_the_longest_delay_counts_in_full(world):
    arguments = world.owner.address, EXIT_WINDOW_SECONDS, MAX_DELAY_SECONDS, addresses(world)
    slow = create(world.owner, "VerifierSet", *arguments)
    world.owner.transact(slow, "propose", MERGE, world.pool.address)
    _, active_from = world.owner.call(slow, "proposalOf", MERGE)
    assert active_from == world.owner.block("latest").timestamp + MAX_DELAY_SECONDS
    with refused("TooEarly"):
        world.owner.transact(slow, "activate", MERGE)


@pytest.mark.parametrize("circuit", range(len(VERIFIERS)))
def test_a_verifier_without_code(world, circuit):
    """A call of an address without code would not even revert in every language."""
    with refused("NoCode"):
        verifiers = addresses(world)
        verifiers[circuit] = FRIEND
        create(world.owner, "VerifierSet", world.owner.address, EXIT_WINDOW_SECONDS, DELAY_SECONDS, verifiers)
    with refused("NoCode"):
        world.owner.transact(world.verifiers, "propose", circuit, FRIEND)


def test_a_stranger_proposes_or_cancels(world):
    stranger = world.chain.client("stranger")
    with refused("NotGuardian"):
        stranger.transact(world.verifiers, "propose", TRANSFER, world.pool.address)
    world.owner.transact(world.verifiers, "propose", TRANSFER, world.pool.address)
    with refused("NotGuardian"):
        stranger.transact(world.verifiers, "cancel", TRANSFER)
    with refused("UnknownCircuit"):
        world.owner.transact(world.verifiers, "propose", UNKNOWN, world.pool.address)


def test_an_early_activation(world):
    """The last second before the delay is over is too early; the next one is not, for anybody."""
    before, stranger = addresses(world), world.chain.client("stranger")
    world.owner.transact(world.verifiers, "propose", MERGE, world.pool.address)
    verifier, active_from = world.owner.call(world.verifiers, "proposalOf", MERGE)
    assert bytes.fromhex(verifier[2:]) == world.pool.address
    assert active_from == world.owner.block("latest").timestamp + DELAY_SECONDS
    now = world.owner.block("latest").timestamp
    block, timestamp = world.chain.block_at(active_from - 1 - now)
    assert timestamp == active_from - 1
    with refused("TooEarly"):
        stranger.call(world.verifiers, "activate", MERGE, at=block)
    assert addresses(world) == before
    block, _ = world.chain.block_at(1)
    stranger.call(world.verifiers, "activate", MERGE, at=block)
    stranger.transact(world.verifiers, "activate", MERGE)
    assert addresses(world) == [before[0], world.pool.address, *before[2:]]
    assert world.owner.call(world.verifiers, "circuitSet") == keccak256(words(*addresses(world)))
    with refused("NothingProposed"):
        world.owner.transact(world.verifiers, "activate", MERGE)


def test_a_stale_proposal(world):
    """A verifier that was proposed long ago, and that nobody watches any more, would count within a second."""
    world.owner.transact(world.verifiers, "propose", MERGE, world.pool.address)
    _, active_from = world.owner.call(world.verifiers, "proposalOf", MERGE)
    last = active_from + GRACE_SECONDS
    block, _ = world.chain.block_at(last - world.owner.block("latest").timestamp)
    world.owner.call(world.verifiers, "activate", MERGE, at=block)
    block, _ = world.chain.block_at(1)
    with refused("ProposalStale"):
        world.owner.call(world.verifiers, "activate", MERGE, at=block)
    world.owner.transact(world.verifiers, "propose", MERGE, world.pool.address)  # in public again, and the delay anew
    with refused("TooEarly"):
        world.owner.transact(world.verifiers, "activate", MERGE)


def test_a_second_proposal_begins_the_delay_anew(world):
    """Or a harmless proposal could be exchanged in its last second."""
    world.owner.transact(world.verifiers, "propose", TRANSFER, world.verifier(MERGE).address)
    world.chain.skip(DELAY_SECONDS)
    world.owner.transact(world.verifiers, "propose", TRANSFER, world.pool.address)
    with refused("TooEarly"):
        world.owner.transact(world.verifiers, "activate", TRANSFER)


def test_a_cancelled_proposal(world):
    with refused("NothingProposed"):
        world.owner.transact(world.verifiers, "cancel", TRANSFER)
    world.owner.transact(world.verifiers, "propose", TRANSFER, world.pool.address)
    world.owner.transact(world.verifiers, "cancel", TRANSFER)
    world.chain.skip(DELAY_SECONDS)
    with refused("NothingProposed"):
        world.owner.transact(world.verifiers, "activate", TRANSFER)
    for circuit in (APPEND, UNKNOWN):
        with refused("NothingProposed"):
            world.owner.transact(world.verifiers, "activate", circuit)


def test_a_proof_bound_to_the_old_circuit_set(world, transfer):
    """Any change of the set voids it, also of another circuit; made anew it counts."""
    change(world, MERGE)
    with refused("InvalidProof"):
        world.send(transfer)
    tree = world.tree()
    notes = [world.note(AMOUNT, BLINDING, 0, tree), world.note(ETHER, BLINDING + 1, 1, tree)]
    again = world.prove(notes, [ETHER, AMOUNT], 0, Ext())
    assert again.publics.nullifiers == transfer.publics.nullifiers
    world.send(again)


def test_a_proposal_alone_changes_nothing(world, transfer):
    world.owner.transact(world.verifiers, "propose", TRANSFER, world.pool.address)
    world.send(transfer)


def test_appends_go_on_after_a_change(world):
    """An append has no secret and binds no set; the new verifier checks it."""
    successor = change(world, APPEND)
    assert world.verifier(APPEND).address == successor
    world.shield(1, 1)
    world.append()
