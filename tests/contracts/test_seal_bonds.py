"""SealBonds: whoever can seal what the light client accepts can lose its bond for it, and nobody else can take one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from evm_world import Chain, refused, validator_keys
from relay_world import DAY, GAS, RelayWorld, new_relay_world

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from openmg.hashing import keccak256
from openmg.signing import address_of, sign_digest

FIRST_SET = 2
STAKE = 1_000
ONE, OTHER = keccak256(b"one header"), keccak256(b"another header")


@dataclass
class BondWorld(RelayWorld):
    bonds: Contract | None = None

    def bond_of(self, key: bytes) -> int:
        return self.client.call(self.bonds, "bonds", address_of(key))[0]

    def do(self, function: str, *arguments: object, client: EvmClient | None = None) -> None:
        (client or self.client).transact(self.bonds, function, *arguments)

    def seal(self, key: bytes, header_hash: bytes, height: int = 5, view: int = 2) -> bytes:
        return sign_digest(key, self.call("sealDigest", height, view, header_hash))


@pytest.fixture
def world(chain: Chain) -> BondWorld:
    base = new_relay_world(chain)
    bonds, tx_hash = base.client.create(load_artifact("SealBonds"), base.relay.address, gas=GAS)
    base.client.wait(tx_hash)
    world = BondWorld(base.chain, base.client, base.ppdl, base.relay, bonds=bonds)
    for key in world.ppdl.keys:
        world.client.transact(bonds, "bond", address_of(key), value=STAKE)
    return world


def test_attack_equivocation_costs_the_bond(world):
    reporter = world.chain.client("reporter")
    keys = world.ppdl.keys[:2]
    evidence = [b"".join(world.seal(key, header) for key in keys) for header in (ONE, OTHER)]
    world.do("slashEquivocation", 5, 2, ONE, OTHER, *evidence, client=reporter)
    assert [world.bond_of(key) for key in world.ppdl.keys] == [0, 0, STAKE, STAKE]
    assert reporter.balance(reporter.address) == 2 * STAKE // 10
    assert world.call("rewardFund") == 2 * STAKE - 2 * STAKE // 10
    with refused("NothingBonded"):
        world.do("slashEquivocation", 5, 2, ONE, OTHER, *evidence, client=reporter)


def test_attack_false_evidence_takes_no_bond(world):
    honest, other = world.ppdl.keys[:2]
    right = world.seal(honest, ONE), world.seal(honest, OTHER)
    slash = "slashEquivocation"
    with refused("NotEquivocation"):
        world.do(slash, 5, 2, ONE, ONE, right[0], right[0])
    for mixed in (
        (world.seal(honest, ONE), world.seal(honest, OTHER, view=3)),  # another view is no equivocation
        (world.seal(honest, ONE), world.seal(honest, OTHER, height=6)),
        (world.seal(honest, ONE), world.seal(other, OTHER)),
    ):
        with refused("NotTheSameSigner"):
            world.do(slash, 5, 2, ONE, OTHER, *mixed)
    for lengths in ((b"", b""), (right[0], b""), (right[0], right[1] * 2), (right[0][:-1], right[1][:-1])):
        with refused("MalformedSeals"):
            world.do(slash, 5, 2, ONE, OTHER, *lengths)
    with refused("NothingBonded"):
        outsider = validator_keys(1, "outsider")[0]
        world.do(slash, 5, 2, ONE, OTHER, world.seal(outsider, ONE), world.seal(outsider, OTHER))
    with refused("NothingBonded"):  # the same bond twice in one call
        world.do(slash, 5, 2, ONE, OTHER, right[0] * 2, right[1] * 2)
    assert [world.bond_of(key) for key in world.ppdl.keys] == [STAKE] * 4


def test_seals_of_prepare_or_of_another_chain_are_no_evidence(world):
    key = world.ppdl.keys[0]
    foreign = sign_digest(key, keccak256(b"a vote of another kind"))
    with refused("NotTheSameSigner"):
        world.do("slashEquivocation", 5, 2, ONE, OTHER, world.seal(key, ONE), foreign)


def leave(world: BondWorld) -> tuple[EvmClient, list[bytes]]:
    """All four validators leave; returns the first one's client, and the newcomers' keys."""
    old = world.ppdl.keys
    world.change_set(validator_keys(4, "newcomer"))
    return world.chain.client(old[0]), old


def test_attack_a_validator_takes_its_bond_while_it_is_trusted(world):
    own = world.chain.client(world.ppdl.keys[0])
    with refused("StillValidator"):
        world.do("startUnbonding", client=own)
    with refused("NotReleased"):
        world.do("withdraw", client=own)
    with refused("NothingBonded"):
        world.do("startUnbonding", client=world.chain.client("nobody"))
    with refused("NothingBonded"):
        world.do("withdraw", client=world.chain.client("nobody"))


def test_a_bond_is_released_after_the_unbonding_and_not_before(world):
    own, _ = leave(world)
    world.do("startUnbonding", client=own)
    release = world.client.call(world.bonds, "bonds", own.address)[1]
    assert release == world.client.block("latest").timestamp + world.call("UNBONDING_SECONDS") + 1
    block, _ = world.chain.block_at(release - 1 - world.client.block("latest").timestamp)
    with refused("NotReleased"):
        own.call(world.bonds, "withdraw", at=block)
    world.chain.block_at(1)
    before = own.balance(own.address)
    world.do("withdraw", client=own)
    assert own.balance(own.address) == before + STAKE
    with refused("NothingBonded"):
        world.do("withdraw", client=own)


def test_attack_a_seal_from_before_is_punished_during_the_unbonding(world):
    own, old = leave(world)
    world.do("startUnbonding", client=own)
    world.chain.skip(20 * DAY)
    world.do("slashEquivocation", 5, 2, ONE, OTHER, world.seal(old[0], ONE), world.seal(old[0], OTHER))
    world.chain.skip(5 * DAY)
    with refused("NothingBonded"):
        world.do("withdraw", client=own)


def test_attack_a_bond_unbonded_long_ago_leaves_while_its_owner_is_trusted_again(world):
    own, old = leave(world)
    world.do("startUnbonding", client=own)
    for keys in (old, validator_keys(4, "third")):
        world.chain.skip(13 * DAY)
        world.change_set(keys)
        if keys is old:
            with refused("StillValidator"):
                world.do("startUnbonding", client=own)
    with refused("StillValidator"):  # it was trusted in between, and has left again
        world.do("withdraw", client=own)
    world.do("startUnbonding", client=own)
    world.chain.skip(22 * DAY)
    world.do("withdraw", client=own)


def fork_in_views(world: BondWorld) -> tuple[object, object]:
    """Two certificates of different views, sealed by numbers 0 1 2 and 1 2 3."""
    keys = world.ppdl.keys
    headers = world.ppdl.header(), world.ppdl.header(tx_root=b"\1" * 32)
    return world.certificate(headers[0], 0, keys[:3]), world.certificate(headers[1], 1, keys[1:])


def test_a_fork_accuses_the_signers_of_both_and_the_guardian_judges(world):
    keys = world.ppdl.keys
    one, other = fork_in_views(world)
    world.do("accuse", FIRST_SET, one, other, client=world.chain.client("anybody"))
    accused = [world.client.call(world.bonds, "bonds", address_of(key))[3] for key in keys]
    assert accused == [False, True, True, False]
    assert [world.bond_of(key) for key in keys] == [STAKE] * 4
    with refused("NotGuardian"):
        world.do("judge", address_of(keys[1]), True, client=world.chain.client("anybody"))
    with refused("NotAccused"):
        world.do("judge", address_of(keys[0]), True)
    world.do("judge", address_of(keys[1]), True)
    world.do("judge", address_of(keys[2]), False)
    assert [world.bond_of(key) for key in keys] == [STAKE, 0, STAKE, STAKE]
    assert world.call("rewardFund") == STAKE
    with refused("NotAccused"):
        world.do("judge", address_of(keys[1]), True)


def test_attack_an_accused_validator_leaves_with_its_bond(world):
    keys = world.ppdl.keys
    one, other = fork_in_views(world)
    leave(world)
    clients = [world.chain.client(key) for key in keys]
    for client in clients[:2]:
        world.do("startUnbonding", client=client)
    world.do("accuse", FIRST_SET, one, other)
    world.chain.skip(22 * DAY)
    world.do("withdraw", client=clients[0])
    with refused("BondAccused"):
        world.do("withdraw", client=clients[1])
    world.do("judge", address_of(keys[1]), False)
    world.do("withdraw", client=clients[1])


def test_attack_an_accusation_without_a_fork(world):
    one, other = fork_in_views(world)
    with refused("NoConflict"):
        world.do("accuse", FIRST_SET, one, one)
    with refused("WrongSealCount"):
        world.do("accuse", FIRST_SET, one, (other[0], other[1], other[2][:130]))


def test_nobody_withdraws_while_the_client_is_frozen(world):
    own, _ = leave(world)
    world.do("startUnbonding", client=own)
    world.chain.skip(13 * DAY)
    world.submit()
    world.chain.skip(9 * DAY)
    world.transact("freeze", FIRST_SET + 1, *world.fork())
    with refused("RelayFrozen"):
        world.do("withdraw", client=own)


def test_attack_a_reporter_that_refuses_or_reports_again_while_it_is_paid(world):
    """A contract brings the evidence: when it refuses its part nothing changes, and it cannot take another bond inside."""
    receiver, tx_hash = world.client.create(load_artifact("testing/HostileReceiver"))
    world.client.wait(tx_hash)
    evidence = [
        world.client.call_data(world.bonds, "slashEquivocation", 5, 2, ONE, OTHER, world.seal(key, ONE), world.seal(key, OTHER))
        for key in world.ppdl.keys[:2]
    ]
    world.client.transact(receiver, "refuse", True)
    with refused("PaymentFailed"):
        world.client.transact(receiver, "act", world.bonds.address, 0, evidence[0])
    world.client.transact(receiver, "refuse", False)
    world.client.transact(receiver, "callBack", world.bonds.address, evidence[1])
    world.client.transact(receiver, "act", world.bonds.address, 0, evidence[0])
    assert not world.client.call(receiver, "lastCallbackSucceeded")
    assert [world.bond_of(key) for key in world.ppdl.keys[:2]] == [0, STAKE]
