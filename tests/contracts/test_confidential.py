"""ConfidentialToken with real proofs: notes in, between and out of the pool, and every way to cheat we thought of.

The reference for tree and hashes is `openmg.zk`; its fastest installed backend proves, with development keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from evm_world import ETHER, Chain, refused
from pool_world import (
    AMOUNT,
    BLINDING,
    FEE,
    FOREVER,
    FRIEND,
    MERGE_TAG,
    RELAY,
    Ext,
    Transfer,
    World,
    create,
    deploy_pool,
    new_world,
    partial,
)

from openmg.hashing import keccak256, words
from openmg.zk.field import R
from openmg.zk.notes import CIPHERTEXT_BYTES
from openmg.zk.tags import H
from openmg.zk.tree import EMPTY_TREE_ROOT, named_root

SHIELDED_STORAGE_SLOT = 8
"""The mapping `shielded`: behind the pause flag, the queue's two words, two counters, the root and three mappings."""

PRIVATE = Ext(ciphertext1=b"\1" * CIPHERTEXT_BYTES, ciphertext2=b"\2" * CIPHERTEXT_BYTES)


@pytest.fixture(scope="module")
def base(node: Chain) -> Iterator[tuple[World, dict[str, Transfer]]]:
    """The pool with three shielded notes and the proofs that the tests use."""
    with node.undone():
        world = new_world(node)
        tree, asset = world.tree(), int.from_bytes(world.token.address) * 4
        note = [world.note(amount, BLINDING + i, i, tree) for i, amount in enumerate((AMOUNT, ETHER, 500))]
        out = AMOUNT + ETHER - 2 * ETHER
        to_contract = Ext(world.receiver.address, RELAY, FEE)
        transfers = {
            "private": world.prove([note[0], note[1]], [ETHER, AMOUNT], 0, PRIVATE),
            "payout": world.prove([note[0], note[1]], [ETHER, ETHER], out, to_contract),
            "token": world.prove([note[2]], [100, 0], 400, Ext(FRIEND, token=world.token.address), asset),
        }
        yield world, transfers


@pytest.fixture
def world(base: tuple[World, dict[str, Transfer]], chain: Chain) -> World:
    return replace(base[0], owner=chain.client("note owner"))


@pytest.fixture
def transfers(base: tuple[World, dict[str, Transfer]]) -> dict[str, Transfer]:
    return base[1]


# ---- shield -----------------------------------------------------------------------------------------------------


def test_notes_and_roots_equal_the_reference(world):
    queue, tree = world.queue(), world.tree()
    assert queue[0] == H("cm", 0, AMOUNT, partial())
    assert queue[2] == H("cm", int.from_bytes(world.token.address) * 4, 500, partial(blinding=BLINDING + 2))
    assert [tree.leaf(i) for i in range(16)] == [*queue, *(0,) * 13]
    assert world.owner.call(world.pool, "currentRoot") == named_root(0, tree.root())
    assert world.owner.call(world.pool, "shielded", bytes(20)) == AMOUNT + ETHER


def test_the_empty_root_is_not_known(world):
    assert not world.owner.call(world.pool, "isKnownRoot", named_root(0, EMPTY_TREE_ROOT))
    assert not world.owner.call(world.pool, "isKnownRoot", 0)


def test_shield_takes_exactly_what_the_note_says(world):
    shield = ("shield", bytes(20))
    with refused("ZeroAmount"):
        world.owner.transact(world.pool, *shield, 0, partial(), b"")
    for value in (ETHER - 1, ETHER + 1, 0):
        with refused("WrongValue"):
            world.owner.transact(world.pool, *shield, ETHER, partial(), b"", value=value)
    with refused("WrongValue"):
        world.owner.transact(world.pool, "shield", world.token.address, 5, partial(), b"", value=1)
    with refused("InputOutsideField"):
        world.owner.transact(world.pool, *shield, 1, R, b"", value=1)
    with refused("CiphertextTooLong"):
        world.owner.transact(world.pool, *shield, 1, 1, bytes(513), value=1)
    world.owner.transact(world.pool, *shield, 1, R - 1, bytes(512), value=1)


def test_only_allowed_and_honest_tokens(world):
    foreign = create(world.owner, "testing/HostileToken")
    with refused("TokenNotAllowed"):
        world.owner.transact(world.pool, "shield", foreign.address, 5, partial(), b"")
    with refused("NotGuardian"):
        world.chain.client("stranger").transact(world.pool, "allowToken", foreign.address)
    with refused("TokenNotAllowed"):
        world.owner.transact(world.pool, "allowToken", FRIEND)
    world.owner.transact(world.token, "keepFee", 1)
    with refused("TransferFee"):
        world.owner.transact(world.pool, "shield", world.token.address, 50, partial(), b"")
    with refused("ERC20InsufficientAllowance"):
        world.chain.client("pauper").transact(world.pool, "shield", world.token.address, 50, partial(), b"")


def test_only_deposits_can_be_paused(world, transfers):
    with refused("NotGuardian"):
        world.chain.client("stranger").transact(world.pool, "setDepositsPaused", True)
    world.owner.transact(world.pool, "setDepositsPaused", True)
    with refused("EnforcedPause"):
        world.owner.transact(world.pool, "shield", bytes(20), 1, 1, b"", value=1)
    world.send(transfers["private"])
    world.owner.transact(world.pool, "setDepositsPaused", False)
    world.owner.transact(world.pool, "shield", bytes(20), 1, 1, b"", value=1)


def test_a_token_cannot_reenter_while_it_is_collected(world):
    again = world.owner.call_data(world.pool, "shield", world.token.address, 5, 1, b"")
    world.owner.transact(world.token, "callBack", world.pool.address, again)
    world.owner.transact(world.pool, "shield", world.token.address, 50, partial(), b"")
    assert world.owner.call(world.token, "lastCallbackSucceeded") is False
    assert world.owner.call(world.pool, "shielded", world.token.address) == 550


# ---- transact ---------------------------------------------------------------------------------------------------


def test_ext_hash_equals_the_reference(world, transfers):
    for transfer in transfers.values():
        expected = world.ext_hash(transfer.ext)
        assert world.owner.call(world.pool, "transferExt", transfer.ext.as_abi()) == expected
        merged = world.ext_hash(transfer.ext, MERGE_TAG)
        assert world.owner.call(world.pool, "mergeExt", transfer.ext.as_abi()) == merged != expected


def test_private_transfer(world, transfers):
    transfer, before = transfers["private"], world.owner.balance(world.pool.address)
    world.send(transfer)
    assert world.owner.balance(world.pool.address) == before
    assert world.queue()[-2:] == list(transfer.publics.commitments)
    notes = world.owner.events(world.pool, "NoteQueued", 0, world.owner.block_number())[-2:]
    assert [note.args["ciphertext"] for note in notes] == [PRIVATE.ciphertext1, PRIVATE.ciphertext2]
    for nullifier in transfer.publics.nullifiers:
        assert world.owner.call(world.pool, "isSpent", nullifier)
    assert world.owner.call(world.pool, "transactCount") == 1


def test_payout_goes_to_recipient_and_relay(world, transfers):
    transfer = transfers["payout"]
    world.chain.client("anybody").transact(world.pool, "transact", *transfer.arguments())
    assert world.owner.balance(world.receiver.address) == transfer.publics.public_out - FEE
    assert world.owner.balance(RELAY) == FEE
    assert world.owner.call(world.pool, "shielded", bytes(20)) == 2 * ETHER == world.owner.balance(world.pool.address)


def test_tokens_leave_the_pool(world, transfers):
    world.send(transfers["token"])
    assert world.owner.call(world.token, "balanceOf", FRIEND) == 400
    assert world.owner.call(world.pool, "shielded", world.token.address) == 100


def test_spent_notes_are_spent(world, transfers):
    world.send(transfers["private"])
    for again in (transfers["private"], transfers["payout"]):
        with refused("AlreadySpent"):
            world.send(again)


def test_equal_nullifiers_are_refused(world, transfers):
    first = transfers["private"].publics.nullifiers[0]
    with refused("AlreadySpent"):
        world.send(transfers["private"], nullifiers=(first, first))


def test_a_rerandomised_proof_is_stopped_by_the_nullifier(world, transfers):
    """(-A, -B, C) proves the same statement; only the nullifier knows that it is a replay."""
    q = 0x30644E72E131A029B85045B68181585D97816A916871CA8D3C208C16D87CFD47
    a_x, a_y, b1, b0, y1, y0, c_x, c_y = transfers["private"].proof
    twin = (a_x, q - a_y, b1, b0, q - y1, q - y0, c_x, c_y)
    world.owner.call(world.pool, "transact", *transfers["private"].arguments(proof=twin))  # it would be taken
    world.send(transfers["private"])
    with refused("AlreadySpent"):
        world.send(transfers["private"], proof=twin)


@pytest.mark.parametrize("index", [0, 1])
def test_public_inputs_at_or_above_the_modulus_are_refused(world, transfers, index):
    p = transfers["private"].publics
    nullifiers, commitments = list(p.nullifiers), list(p.commitments)
    nullifiers[index] += R
    commitments[index] += R
    with refused("OutsideField"):
        world.send(transfers["private"], nullifiers=nullifiers)
    with refused("OutsideField"):
        world.send(transfers["private"], commitments=commitments)
    with refused("UnknownRoot"):
        world.send(transfers["private"], root=p.root + R)


@pytest.mark.parametrize("name", ["private", "payout", "token"])
def test_every_public_input_plus_one_is_refused(world, transfers, name):
    transfer = transfers[name]
    p = transfer.publics
    for changed in (
        {"nullifiers": (p.nullifiers[0] + 1, p.nullifiers[1])},
        {"nullifiers": (p.nullifiers[0], p.nullifiers[1] + 1)},
        {"nullifiers": p.nullifiers[::-1]},
        {"commitments": (p.commitments[0] + 1, p.commitments[1])},
        {"commitments": (p.commitments[0], p.commitments[1] + 1)},
    ):
        with refused("InvalidProof"):
            world.send(transfer, **changed)
    if p.public_out:
        with refused("InvalidProof"):
            world.send(transfer, public_out=p.public_out + 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"recipient": FRIEND},
        {"relay": FRIEND},
        {"fee": FEE + 1},
        {"fee": 0},
        {"valid_until": FOREVER + 1},
        {"ciphertext1": b"First note"},
        {"ciphertext2": b""},
        {"ciphertext1": b"second note", "ciphertext2": b"first note"},
    ],
)
def test_nothing_of_the_payout_can_be_changed(world, transfers, changed):
    with refused("InvalidProof"):
        world.send(transfers["payout"], ext=replace(transfers["payout"].ext, **changed).as_abi())


def test_a_payout_in_another_token_is_another_statement(world, transfers):
    transfer = transfers["token"]
    with refused("InvalidProof"):
        world.send(transfer, ext=replace(transfer.ext, token=bytes(20)).as_abi())


def test_rules_of_fee_and_payout(world, transfers):
    out = transfers["payout"].publics.public_out
    ext = transfers["payout"].ext
    for wrong, error in (
        (replace(ext, fee=out + 1), "InvalidFee"),
        (replace(ext, relay=bytes(20)), "InvalidFee"),
        (replace(ext, token=world.token.address), "InvalidFee"),
        (replace(ext, recipient=bytes(20)), "InvalidPayout"),
    ):
        with refused(error):
            world.send(transfers["payout"], ext=wrong.as_abi())
    with refused("InvalidPayout"):
        world.send(transfers["private"], ext=replace(PRIVATE, token=world.token.address).as_abi())
    with refused("InvalidFee"):
        world.send(transfers["private"], ext=replace(PRIVATE, fee=1, relay=RELAY).as_abi())


def test_unknown_roots_and_late_transactions_are_refused(world, transfers):
    for root in (0, 1, named_root(0, EMPTY_TREE_ROOT), named_root(1, world.tree().root())):
        with refused("UnknownRoot"):
            world.send(transfers["private"], root=root)
    late = replace(PRIVATE, valid_until=world.owner.block("latest").timestamp - 1)
    with refused("Expired"):
        world.send(transfers["private"], ext=late.as_abi())


def test_the_last_second_counts_and_the_next_does_not(world, transfers):
    """`Expired` is looked at first: with another deadline, the proof is another statement."""
    block, now = world.chain.block_at()
    for valid_until, error in ((now, "InvalidProof"), (now - 1, "Expired")):
        ext = replace(PRIVATE, valid_until=valid_until).as_abi()
        with refused(error):
            world.owner.call(world.pool, "transact", *transfers["private"].arguments(ext=ext), at=block)


def test_a_proof_for_another_chain_does_not_count(world, transfers):
    """The bound number is over chain id and contract; that of the next chain id gives another one."""
    transfer, here = transfers["private"], world.owner.chain_id()
    bound = transfer.publics.as_list()
    assert bound[8] == world.ext_hash(transfer.ext)
    circuit_set = world.owner.call(world.verifiers, "circuitSet")
    bound[8] = transfer.ext.hash(here + 1, world.pool.address, circuit_set)
    assert world.owner.call(world.verifier(0), "verify", transfer.proof, bound) is False


def test_no_more_leaves_the_pool_than_came_in(world, transfers):
    """Whatever a proof says, also a forged one: storage is set as if less had been shielded."""
    place = int.from_bytes(keccak256(words(0, SHIELDED_STORAGE_SLOT)))
    out = transfers["payout"].publics.public_out
    read = lambda: world.owner.call(world.pool, "shielded", bytes(20))  # noqa: E731
    for inside, right in ((out - 1, False), (out, True)):
        world.chain.set_storage(world.pool, place, inside)
        assert read() == inside
        if right:
            world.send(transfers["payout"])
        else:
            with refused("Panic"):
                world.send(transfers["payout"])
    assert read() == 0


def test_an_older_root_stays_good(world, transfers):
    for i in range(1, 4):
        world.owner.transact(world.pool, "shield", bytes(20), i, i, b"", value=i)
    world.append()
    assert world.owner.call(world.pool, "currentRoot") != transfers["private"].publics.root
    world.send(transfers["private"])


def test_proofs_of_another_pool_do_not_count(world, transfers):
    """The same notes in a second deployment: root and nullifiers are equal, the bound contract is not."""
    twin, verifiers = deploy_pool(world.owner, world.owner.address)
    twin_world = replace(world, pool=twin, verifiers=verifiers)
    world.owner.transact(twin, "allowToken", world.token.address)
    world.owner.transact(world.token, "approve", twin.address, 500)
    for i, amount in enumerate((AMOUNT, ETHER)):
        twin_world.shield(amount, BLINDING + i)
    twin_world.shield(500, BLINDING + 2, world.token.address)
    twin_world.append()
    assert world.owner.call(twin, "isKnownRoot", transfers["private"].publics.root)
    with refused("InvalidProof"):
        twin_world.send(transfers["private"])


def test_damaged_and_trivial_proofs_are_refused(world, transfers):
    transfer = transfers["private"]
    proof = list(transfer.proof)
    proof[7] += 1
    for wrong in (proof, [0] * 8, [1, 2] + [0] * 6, [2**256 - 1] * 8):
        with refused("InvalidProof"):
            world.send(transfer, proof=wrong)


def test_a_recipient_that_calls_back_finds_everything_done(world, transfers):
    transfer = transfers["payout"]
    again = world.owner.call_data(world.pool, "transact", *transfer.arguments())
    world.owner.transact(world.receiver, "callBack", world.pool.address, again)
    world.send(transfer)
    assert world.owner.call(world.receiver, "lastCallbackSucceeded") is False
    assert world.owner.call(world.receiver, "lastCallbackError").hex() == "3ee5aeb5"  # reentrancy guard
    assert world.owner.balance(world.receiver.address) == transfer.publics.public_out - FEE


def test_a_recipient_that_refuses_reverts_everything(world, transfers):
    world.owner.transact(world.receiver, "refuse", True)
    with refused("PaymentFailed"):
        world.send(transfers["payout"])
    assert not world.owner.call(world.pool, "isSpent", transfers["payout"].publics.nullifiers[0])
    world.owner.transact(world.receiver, "refuse", False)
    world.send(transfers["payout"])


def test_gas_of_a_transfer(world, transfers):
    """A private transfer with its two shares of an append; the figures are printed with -s, `bench_gas` measures more.

    Measured by transactions: an estimate looks for the least gas with which `verify` does not revert, and without
    enough gas for the pairing it answers false.
    """
    transfer, verifier = transfers["private"], world.verifier(0)
    verify = world.owner.transact(verifier, "verify", transfer.proof, transfer.publics.as_list(), gas=1_000_000).gas_used
    whole = world.send(transfer).gas_used
    for i in range(14):
        world.owner.transact(world.pool, "shield", bytes(20), 1, i, b"", value=1)
    share = 2 * world.append().gas_used // 16
    print(f"gas: transact {whole}, of that verify {verify} as a transaction of its own; shares of an append {share}")
    assert 200_000 < verify < 270_000
    assert verify < whole and whole + share < 550_000
