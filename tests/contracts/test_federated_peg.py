"""FederatedPeg: what m of n signers say is final counts for the users of a source chain; two words freeze it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from evm_world import ETHER, GENESIS_HASH, PPDL_CHAIN_ID, Chain, PpdlChain, refused, slot_event, validator_keys
from relay_world import GAS

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from openmg.hashing import keccak256, words
from openmg.signing import address_of, sign_digest

ATTEST_TAG = keccak256(b"openmg.peg.attest.v1")
ROTATE_TAG = keccak256(b"openmg.peg.rotate.v1")
MEMBERS, THRESHOLD = 5, 3


@dataclass
class PegWorld:
    client: EvmClient
    peg: Contract
    keys: list[bytes] = field(default_factory=lambda: validator_keys(MEMBERS, "federation"))

    def word(self, height: int, app_hash: bytes, chain_id: int = PPDL_CHAIN_ID) -> bytes:
        return keccak256(words(ATTEST_TAG, chain_id, GENESIS_HASH, height, app_hash))

    def seals(self, digest: bytes, count: int = THRESHOLD) -> bytes:
        return b"".join(sign_digest(key, digest) for key in self.keys[:count])

    def attest(self, height: int, app_hash: bytes) -> None:
        self.client.transact(self.peg, "attest", height, app_hash, self.seals(self.word(height, app_hash)))

    def rotation(self, keys: list[bytes], threshold: int, rotations: int = 0) -> bytes:
        members = keccak256(words(*(address_of(key) for key in keys)))
        return keccak256(words(ROTATE_TAG, self.client.chain_id(), self.peg.address, rotations, members, threshold))


def deploy_peg(client: EvmClient, keys: list[bytes], threshold: int) -> Contract:
    members = [address_of(key) for key in keys]
    peg, tx_hash = client.create(load_artifact("FederatedPeg"), PPDL_CHAIN_ID, GENESIS_HASH, members, threshold, gas=GAS)
    client.wait(tx_hash)
    return peg


@pytest.fixture
def world(chain: Chain) -> PegWorld:
    client = chain.client("anybody")
    return PegWorld(client, deploy_peg(client, validator_keys(MEMBERS, "federation"), THRESHOLD))


def test_events_of_attested_blocks_are_proved_as_by_the_light_client(world):
    ppdl = PpdlChain(validator_keys(4))
    events = [slot_event(1, i, 5, 100, 50) for i in range(3)]
    ppdl.extend(events)
    ppdl.extend()
    app_hash = ppdl.headers[1][224:256]
    proof = ppdl.proof(1, events, 2)
    assert not world.client.call(world.peg, "verifyEvent", events[2], proof)
    world.attest(2, app_hash)
    assert world.client.call(world.peg, "verifyEvent", events[2], proof)
    assert not world.client.call(world.peg, "verifyEvent", events[1], proof)
    assert world.client.call(world.peg, "isFinal", 2, app_hash)
    assert not world.client.call(world.peg, "isFinal", 3, app_hash)
    assert not world.client.call(world.peg, "isFinal", 3, bytes(32))


def test_a_user_of_the_relay_takes_the_peg_instead(chain, world):
    """Inference asks only the interface: the same answer, proved through the federation."""
    requester = chain.client("requester")
    chain.give(requester.address, ETHER)
    inference, tx_hash = requester.create(load_artifact("Inference"), world.peg.address, 0, 3_600)
    requester.wait(tx_hash)
    requester.transact(inference, "request", 1, value=1_000)
    tag, energy = keccak256(b"openmg.event.inference.v1"), [7] * 24
    event = words(tag, PPDL_CHAIN_ID, inference.address, requester.chain_id(), 1, 1, 96, b"\5" * 32, keccak256(words(*energy)))
    ppdl = PpdlChain(validator_keys(4))
    ppdl.extend([event])
    ppdl.extend()
    arguments = 1, 96, b"\5" * 32, energy, ppdl.proof(1, [event], 0)
    with refused("EventNotProved"):
        requester.transact(inference, "fulfil", *arguments)
    world.attest(2, ppdl.headers[1][224:256])
    requester.transact(inference, "fulfil", *arguments)
    assert requester.call(inference, "answeredCount") == 1


def test_attack_fewer_than_m_or_strangers_attest(world):
    digest = world.word(1, b"\1" * 32)
    for seals, error in (
        (world.seals(digest, THRESHOLD - 1), "WrongSealCount"),
        (world.seals(digest, 1) * 3, "SignersNotAscending"),
        (b"".join(sign_digest(key, digest) for key in validator_keys(3, "stranger")), "NotASigner"),
        (world.seals(world.word(2, b"\1" * 32)), "NotASigner"),
        (world.seals(world.word(1, b"\1" * 32, chain_id=1)), "NotASigner"),
    ):
        with refused(error):
            world.client.transact(world.peg, "attest", 1, b"\1" * 32, seals)
    world.client.transact(world.peg, "attest", 1, b"\1" * 32, world.seals(digest))


def test_what_was_attested_is_not_attested_again_and_nothing_is_no_hash(world):
    world.attest(1, b"\1" * 32)
    with refused("AlreadyAttested"):
        world.attest(1, b"\1" * 32)
    for height, app_hash in ((0, b"\1" * 32), (2, bytes(32))):
        with refused("InvalidAttestation"):
            world.attest(height, app_hash)


def test_attack_two_words_for_one_height_freeze_the_peg_for_good(world):
    world.attest(1, b"\1" * 32)
    with refused("WrongSealCount"):  # a contradiction needs m as well
        world.client.transact(world.peg, "attest", 1, b"\2" * 32, world.seals(world.word(1, b"\2" * 32), 2))
    world.attest(1, b"\2" * 32)
    assert world.client.call(world.peg, "frozen")
    assert not world.client.call(world.peg, "isFinal", 1, b"\1" * 32)
    with refused("PegFrozen"):
        world.client.call(world.peg, "verifyEvent", b"", (0, 0, 1, [], bytes(32), bytes(32)))
    with refused("PegFrozen"):
        world.attest(2, b"\1" * 32)
    keys = validator_keys(3, "newcomer")
    with refused("PegFrozen"):
        members = [address_of(key) for key in keys]
        world.client.transact(world.peg, "rotate", members, 2, world.seals(world.rotation(keys, 2)))


def test_the_federation_changes_by_its_own_word_only_once(world):
    keys = validator_keys(3, "newcomer")
    members = [address_of(key) for key in keys]
    seals = world.seals(world.rotation(keys, 2))
    for wrong in ((members, 3, seals), (members[:2], 2, seals), (members, 2, world.seals(world.rotation(keys, 2, 1)))):
        with refused("NotASigner"):
            world.client.transact(world.peg, "rotate", *wrong)
    world.client.transact(world.peg, "rotate", members, 2, seals)
    with refused("NotASigner"):  # by the old federation
        world.attest(1, b"\1" * 32)
    world.keys = keys
    with refused("WrongSealCount"):  # the same command again, by those who do not rule any more
        world.client.transact(world.peg, "rotate", members, 2, seals + seals)
    world.client.transact(world.peg, "attest", 1, b"\1" * 32, world.seals(world.word(1, b"\1" * 32), 2))


@pytest.mark.parametrize(
    ("members", "threshold", "right"), [(4, 2, False), (4, 3, True), (5, 2, False), (1, 1, True), (4, 0, False)]
)
def test_m_is_more_than_half(chain, members, threshold, right):
    client, keys = chain.client("anybody"), validator_keys(members)
    if right:
        deploy_peg(client, keys, threshold)
    else:
        with refused("NoMajority"):
            deploy_peg(client, keys, threshold)
