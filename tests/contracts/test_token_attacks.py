"""Attacks on ConfidentialToken that need more than a changed transfer: relays, merges, proofs of other purposes, markets.

Each test is named after its attack and uses real proofs. Changed transfers, replays and payouts are in
`test_confidential`, the queue's tricks in `test_note_queue`, those of new verifiers in `test_verifier_set`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from evm_world import ETHER, Chain, refused
from pool_world import (
    AMOUNT,
    BLINDING,
    FEE,
    FRIEND,
    MERGE_TAG,
    RELAY,
    Ext,
    Transfer,
    World,
    new_world,
    partial,
    prove,
)

from edge_agent.market.calls import market_ext
from hub.chain.errors import CallReverted
from openmg.hashing import keccak256, word
from openmg.zk.circuits import transfer
from openmg.zk.curve import add_g1, add_g2, multiply_g1, multiply_g2
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys
from openmg.zk.proof import Proof
from openmg.zk.r1cs import UnsatisfiedError
from openmg.zk.tags import H

MICROGRID = 7
KEY = (3 << 8) | 1
"""Day 3, band 1."""
SUPPLY, DELIVERY = 1, 2
MARKET_BOUND = keccak256(b"what a market binds")
REENTERED = "3ee5aeb5"
"""Selector of the reentrancy guard's error."""
PETH = 0


def energy(kind: int, microgrid: int = MICROGRID, key: int = KEY) -> int:
    return kind + 4 * (microgrid << 40 | key)


@dataclass(frozen=True)
class Proved:
    """Proofs that the tests use; all spend notes of the first batch."""

    private: Transfer
    merged: Transfer
    """Pays 1 ether out, without a fee."""
    merged_private: Transfer
    fee: Transfer
    token: Transfer
    """Pays 400 of the token out, without a fee."""
    token_private: Transfer
    """Spends the same note and pays nothing out."""
    to_market: Transfer
    """For the market of MICROGRID, with MARKET_BOUND; pays 1 ether out."""
    to_other_market: Transfer
    """The same for a market at another address."""


@pytest.fixture(scope="module")
def base(node: Chain) -> Iterator[tuple[World, Proved]]:
    """The pool with three notes, of which the receiver is also the market of MICROGRID."""
    with node.undone():
        world = new_world(node)
        world.owner.transact(world.pool, "registerMarket", MICROGRID, world.receiver.address)
        tree = world.tree()
        peth = [world.note(AMOUNT, BLINDING, 0, tree), world.note(ETHER, BLINDING + 1, 1, tree)]
        coins, asset = [world.note(500, BLINDING + 2, 2, tree)], int.from_bytes(world.token.address) * 4
        left = AMOUNT + ETHER - FEE

        def for_market(market: bytes) -> Transfer:
            return Transfer(*prove(transfer, world.witness(peth, [AMOUNT, 0], ETHER, market_ext(market, MARKET_BOUND))), Ext())

        dummies = [replace(peth[0], amount=0, blinding=9)]
        yield (
            world,
            Proved(
                private=world.prove(peth, [ETHER, AMOUNT], 0, Ext()),
                merged=world.prove([*peth, *dummies], [AMOUNT, 0], ETHER, Ext(FRIEND)),
                merged_private=world.prove([*peth, *dummies], [AMOUNT, ETHER], 0, Ext()),
                fee=world.prove(peth, [left, 0], FEE, Ext(relay=RELAY, fee=FEE)),
                token=world.prove(coins, [100, 0], 400, Ext(FRIEND, token=world.token.address), asset),
                token_private=world.prove(coins, [100, 400], 0, Ext(), asset),
                to_market=for_market(world.receiver.address),
                to_other_market=for_market(FRIEND),
            ),
        )


@pytest.fixture
def world(base: tuple[World, Proved], chain: Chain) -> World:
    return replace(base[0], owner=chain.client("note owner"))


@pytest.fixture
def proved(base: tuple[World, Proved]) -> Proved:
    return base[1]


def as_market(world: World, function: str, *args: object, value: int = 0) -> None:
    """Call the token as the market does."""
    data = world.owner.call_data(world.pool, function, *args)
    world.owner.transact(world.receiver, "act", world.pool.address, value, data, value=value)


def spend_of(proof: Transfer, **changed: object) -> tuple[object, ...]:
    """The contract's struct `Spend` or `MergeSpend`."""
    arguments = proof.arguments(**changed)
    return *arguments[:-2], proof.ext.ciphertext1, proof.ext.ciphertext2


# ---- who may submit ---------------------------------------------------------------------------------------------


def test_spam_of_worthless_notes_needs_a_relay(world, proved):
    """Dummies cost their sender nothing but a proof, so where nothing is paid out only a relay's quota lets them in."""
    for attack in (proved.private, proved.merged_private):
        with refused("NotRelay"):
            world.chain.client("stranger").transact(world.pool, attack.function, *attack.arguments())


def test_a_relay_beyond_its_quota(world, proved):
    world.next_epoch()
    world.owner.transact(world.pool, "setRelay", world.owner.address, 1)
    world.send(proved.token_private)
    assert world.owner.call(world.pool, "relayQuota", world.owner.address) == (1, 1)
    with refused("QuotaExceeded"):
        world.send(proved.private)
    world.next_epoch()
    assert world.owner.call(world.pool, "relayQuota", world.owner.address) == (1, 0)
    world.send(proved.private)
    assert world.owner.call(world.pool, "relayQuota", world.owner.address) == (1, 1)


def test_a_relay_that_was_taken_off_the_list(world, proved):
    world.owner.transact(world.pool, "setRelay", world.owner.address, 0)
    with refused("NotRelay"):
        world.send(proved.private)


def test_a_guardian_that_admits_no_relay_locks_no_value_in(world, proved):
    """What is paid out is its owner's to send: PETH without a fee too, and a token, of which no fee can be paid."""
    world.owner.transact(world.pool, "setRelay", world.owner.address, 0)
    world.owner.transact(world.pool, "setDepositsPaused", True)
    stranger = world.chain.client("stranger")
    for payout in (proved.token, proved.merged):
        stranger.transact(world.pool, payout.function, *payout.arguments())
    assert world.owner.call(world.token, "balanceOf", FRIEND) == 400
    assert world.owner.balance(FRIEND) == ETHER


def test_a_stranger_makes_himself_a_relay_or_a_market(world):
    stranger = world.chain.client("stranger")
    for call in (("setRelay", stranger.address, 9), ("registerMarket", 8, world.token.address)):
        with refused("NotGuardian"):
            stranger.transact(world.pool, *call)


def test_a_fee_is_enough_and_goes_to_the_relay_of_the_proof(world, proved):
    """Whoever submits: a front-runner earns nothing by it, and spends none of its quota."""
    thief = world.chain.client("thief")
    thief.transact(world.pool, "transact", *proved.fee.arguments())
    assert world.owner.balance(RELAY) == FEE
    assert thief.balance(thief.address) == 0


# ---- proofs of another purpose ----------------------------------------------------------------------------------


def test_a_proof_that_is_randomised_anew_and_replayed(world, proved):
    """(A/u, u B + u v delta, C + v A) proves the same with none of its bytes: only nullifiers can tell."""
    delta, old = ensure_keys("transfer").verifying_key.delta2, _points(proved.private)
    u, v = 1_234_567, 7_654_321
    a, b = multiply_g1(old.a, pow(u, -1, R)), add_g2(multiply_g2(old.b, u), multiply_g2(delta, u * v))
    c = add_g1(old.c, multiply_g1(old.a, v))
    assert a is not None and b is not None and c is not None
    twin = Proof(a, b, c).words()
    assert not set(twin) & set(proved.private.proof)
    world.owner.call(world.pool, "transact", *proved.private.arguments(proof=twin))  # it would be taken
    world.send(proved.private)
    with refused("AlreadySpent"):
        world.send(proved.private, proof=twin)


def _points(proof: Transfer) -> Proof:
    return Proof.from_bytes(b"".join(word(value) for value in proof.proof))


def test_a_transfer_that_is_bound_as_a_merge(world):
    """Every entry has a tag of its own in `ext`, so no proof made for one counts at another."""
    tree = world.tree()
    notes = [world.note(AMOUNT, BLINDING, 0, tree), world.note(ETHER, BLINDING + 1, 1, tree)]
    bound = world.witness(notes, [ETHER, AMOUNT], 0, world.ext_hash(Ext(), MERGE_TAG))
    with refused("InvalidProof"):
        world.send(Transfer(*prove(transfer, bound), Ext()))


def test_public_out_beyond_its_96_bits(world, proved):
    """A payout of 2^96 + x is no uint96; of x alone the proof knows nothing."""
    data = bytearray(world.owner.call_data(world.pool, "transact", *proved.private.arguments()))
    place = 4 + 32 * (8 + 1 + 2 + 2)
    assert data[place : place + 32] == word(0)
    for public_out in (2**96, 2**255, R):
        data[place : place + 32] = word(public_out)
        with pytest.raises(CallReverted):
            world.owner.send_raw_call(world.pool.address, bytes(data))


# ---- fake deposits ----------------------------------------------------------------------------------------------


def test_a_deposit_of_a_token_that_moves_nothing_and_says_so(world):
    world.owner.transact(world.token, "answerFalse", True)
    with refused("SafeERC20FailedOperation"):
        world.shield(50, 1, world.token.address)


def test_a_deposit_of_a_token_that_keeps_a_part(world):
    world.owner.transact(world.token, "keepFee", 1)
    with refused("TransferFee"):
        world.shield(50, 1, world.token.address)


# ---- merge ------------------------------------------------------------------------------------------------------


def test_a_merge_spends_its_notes(world, proved):
    world.send(proved.merged)
    assert world.owner.balance(FRIEND) == ETHER
    assert world.owner.call(world.pool, "shielded", bytes(20)) == AMOUNT
    assert world.queue()[-2:] == list(proved.merged.publics.commitments)
    for again in (proved.merged, proved.private, proved.fee):
        with refused("AlreadySpent"):
            world.send(again)


def test_a_merge_with_duplicate_inputs(world, proved):
    """Refused where it is proved, and where it is sent."""
    note = world.note(ETHER, BLINDING + 1, 1)
    with pytest.raises(UnsatisfiedError):
        world.prove([note, note, note], [3 * ETHER, 0], 0, Ext())
    nullifiers = proved.merged.publics.nullifiers
    for k in range(1, 8):
        with refused("AlreadySpent"):
            world.send(proved.merged, nullifiers=(*nullifiers[:k], nullifiers[0], *nullifiers[k + 1 :]))


def test_every_public_input_of_a_merge_changed_or_aliased(world, proved):
    p = proved.merged.publics
    for by, error in ((1, "InvalidProof"), (R, "OutsideField")):
        for k in range(8):
            changed = (*p.nullifiers[:k], p.nullifiers[k] + by, *p.nullifiers[k + 1 :])
            with refused(error):
                world.send(proved.merged, nullifiers=changed)
        for changed in ((p.commitments[0] + by, p.commitments[1]), (p.commitments[0], p.commitments[1] + by)):
            with refused(error):
                world.send(proved.merged, commitments=changed)
        with refused(error):
            world.send(proved.merged, return_partial=p.return_partial + by)
        with refused("UnknownRoot"):
            world.send(proved.merged, root=p.root + by)
    with refused("InvalidProof"):
        world.send(proved.merged, public_out=p.public_out - 1)
    with refused("InvalidProof"):
        world.send(proved.merged, ext=replace(proved.merged.ext, recipient=RELAY).as_abi())
    world.send(proved.merged)


# ---- markets ----------------------------------------------------------------------------------------------------


def test_a_stranger_calls_what_only_markets_may(world, proved):
    spend = spend_of(proved.to_market)
    merged = spend_of(proved.merged)
    for function, *args in (
        ("spendToMarket", spend, PETH, ETHER, MARKET_BOUND),
        ("spendMergedToMarket", merged, PETH, ETHER, MARKET_BOUND),
        ("createNote", energy(SUPPLY), 100, 1),
        ("queueMinted", 1, b""),
        ("consume", proved.private.publics.root, list(range(8))),
    ):
        with refused("NotMarket"):
            world.owner.transact(world.pool, function, *args)


def test_a_second_market_of_a_microgrid(world):
    """The guardian cannot exchange a market, and none serves two microgrids."""
    for microgrid, market in ((MICROGRID, world.token.address), (8, world.receiver.address), (8, FRIEND)):
        with refused("InvalidMarket"):
            world.owner.transact(world.pool, "registerMarket", microgrid, market)
    assert bytes.fromhex(world.owner.call(world.pool, "marketOf", MICROGRID)[2:]) == world.receiver.address


def test_a_payment_reaches_the_market_once(world, proved):
    spend = (spend_of(proved.to_market), PETH, ETHER, MARKET_BOUND)
    as_market(world, "spendToMarket", *spend)
    assert world.owner.balance(world.receiver.address) == ETHER
    assert world.owner.call(world.pool, "shielded", bytes(20)) == AMOUNT == world.owner.balance(world.pool.address)
    assert world.queue()[-2:] == list(proved.to_market.publics.commitments)
    with refused("AlreadySpent"):
        as_market(world, "spendToMarket", *spend)


def test_a_market_takes_more_or_for_another_purpose(world, proved):
    for asset, amount, bound, error in (
        (PETH, ETHER + 1, MARKET_BOUND, "InvalidProof"),
        (PETH, ETHER, keccak256(b"another purpose"), "InvalidProof"),
        (PETH, 0, MARKET_BOUND, "ZeroAmount"),
        (energy(SUPPLY), ETHER, MARKET_BOUND, "InvalidProof"),
        (energy(SUPPLY, MICROGRID + 1), ETHER, MARKET_BOUND, "WrongAsset"),
        (energy(DELIVERY), ETHER, MARKET_BOUND, "WrongAsset"),
        (int.from_bytes(world.token.address) * 4, ETHER, MARKET_BOUND, "WrongAsset"),
    ):
        with refused(error):
            as_market(world, "spendToMarket", spend_of(proved.to_market), asset, amount, bound)
    with refused("UnknownRoot"):
        as_market(world, "spendToMarket", spend_of(proved.to_market, root=1), PETH, ETHER, MARKET_BOUND)
    with refused("WrongAsset"):
        as_market(world, "spendMergedToMarket", spend_of(proved.merged), energy(DELIVERY), ETHER, MARKET_BOUND)
    with refused("InvalidProof"):
        as_market(world, "spendMergedToMarket", spend_of(proved.merged), PETH, ETHER, MARKET_BOUND)


def test_a_market_claims_a_proof_that_was_made_for_another_market(world, proved):
    with refused("InvalidProof"):
        as_market(world, "spendToMarket", spend_of(proved.to_other_market), PETH, ETHER, MARKET_BOUND)


def test_a_market_repeats_the_ext_of_a_transfer_that_waits(world, proved):
    """The fee that the transfer pays to its relay would be the market's."""
    waiting = proved.fee.publics.ext.to_bytes(32, "big")
    with refused("InvalidProof"):
        as_market(world, "spendToMarket", spend_of(proved.fee), PETH, FEE, waiting)


def test_a_market_makes_energy_of_another_microgrid_or_value_from_nothing(world):
    for asset, value, error in (
        (energy(SUPPLY, MICROGRID + 1), 0, "WrongAsset"),
        (energy(DELIVERY, MICROGRID - 1), 0, "WrongAsset"),
        (energy(3), 0, "WrongAsset"),
        (energy(0), 0, "WrongAsset"),
        (energy(SUPPLY) + (1 << 74), 0, "WrongAsset"),
        (int.from_bytes(world.token.address) * 4, 0, "WrongAsset"),
        (energy(SUPPLY), 1, "WrongValue"),
        (PETH, 99, "WrongValue"),
        (PETH, 101, "WrongValue"),
        (PETH, 0, "WrongValue"),
    ):
        with refused(error):
            as_market(world, "createNote", asset, 100, partial(), value=value)
    with refused("ZeroAmount"):
        as_market(world, "createNote", PETH, 0, partial())
    with refused("InputOutsideField"):
        as_market(world, "createNote", energy(SUPPLY), 100, R)
    with refused("OutsideField"):
        as_market(world, "queueMinted", R, b"")


def test_a_note_made_by_a_market_is_spent_as_any_other(world):
    as_market(world, "createNote", PETH, 100, partial(blinding=5), value=100)
    event = world.owner.events(world.pool, "NoteQueued", 0, world.owner.block_number())[-1]
    opened = PETH.to_bytes(21, "big") + (100).to_bytes(12, "big") + word(partial(blinding=5))
    assert event.args == {"index": 3, "cm": H("cm", PETH, 100, partial(blinding=5)), "ciphertext": opened}
    world.append()
    world.send(world.prove([world.note(100, 5, 16)], [60, 0], 40, Ext(FRIEND)))
    assert world.owner.balance(FRIEND) == 40


def test_energy_that_leaves_as_money(world):
    """A note of energy is spent to its market, where nothing moves, and by no payout, whatever token it names."""
    as_market(world, "createNote", energy(SUPPLY), 300, partial(blinding=6))
    world.append()
    note, before = world.note(300, 6, 16), world.owner.balance(world.pool.address)
    stolen = world.prove([note], [100, 0], 200, Ext(FRIEND), energy(SUPPLY))
    with refused("InvalidProof"):
        world.send(stolen)
    with refused("InvalidProof"):
        world.send(stolen, ext=replace(stolen.ext, token=world.token.address).as_abi())
    ext = market_ext(world.receiver.address, MARKET_BOUND)
    order = prove(transfer, world.witness([note], [100, 0], 200, ext, energy(SUPPLY)))
    spend = spend_of(Transfer(*order, Ext()))
    with refused("InvalidProof"):
        as_market(world, "spendToMarket", spend, PETH, 200, MARKET_BOUND)
    as_market(world, "spendToMarket", spend, energy(SUPPLY), 200, MARKET_BOUND)
    assert world.owner.balance(world.pool.address) == before
    assert world.owner.call(world.pool, "shielded", bytes(20)) == before


def test_a_burned_note_is_burned_again(world, proved):
    nullifiers, root = list(range(100, 108)), proved.private.publics.root
    for unknown in (0, root + 1, root + R):
        with refused("UnknownRoot"):
            as_market(world, "consume", unknown, nullifiers)
    for k in range(8):
        with refused("AlreadySpent"):
            as_market(world, "consume", root, [*nullifiers[:k], nullifiers[k - 1], *nullifiers[k + 1 :]])
        with refused("OutsideField"):
            as_market(world, "consume", root, [*nullifiers[:k], nullifiers[k] + R, *nullifiers[k + 1 :]])
    as_market(world, "consume", root, nullifiers)
    for k in range(8):
        assert world.owner.call(world.pool, "isSpent", nullifiers[k])
        with refused("AlreadySpent"):
            as_market(world, "consume", root, [*range(200, 200 + k), nullifiers[k], *range(300, 307 - k)])


# ---- re-entrancy ------------------------------------------------------------------------------------------------


def test_a_market_that_calls_back_while_it_is_paid(world, proved):
    again = world.owner.call_data(world.pool, "createNote", energy(SUPPLY), 100, partial())
    world.owner.transact(world.receiver, "callBack", world.pool.address, again)
    as_market(world, "spendToMarket", spend_of(proved.to_market), PETH, ETHER, MARKET_BOUND)
    assert world.owner.call(world.receiver, "lastCallbackSucceeded") is False
    assert world.owner.call(world.receiver, "lastCallbackError").hex() == REENTERED
    assert world.owner.balance(world.receiver.address) == ETHER


def test_a_market_that_refuses_its_payment(world, proved):
    world.owner.transact(world.receiver, "refuse", True)
    with pytest.raises(CallReverted, match="refused"):
        as_market(world, "spendToMarket", spend_of(proved.to_market), PETH, ETHER, MARKET_BOUND)
    assert not world.owner.call(world.pool, "isSpent", proved.to_market.publics.nullifiers[0])
