"""HeaviestBranch: forks, branches that overtake, depth, and a reorganisation after finality, beside a model of the rule."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from evm_world import APP_TAG, Chain, refused, slot_event, validator_keys
from relay_world import GAS

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from hub.chain.errors import CallReverted
from openmg.hashing import keccak256, merkle_proof, merkle_root, words
from openmg.signing import address_of, sign_digest

CHAIN_ID = 991
START = keccak256(b"where it starts")
HEADER_TAG = keccak256(b"openmg.branch.header.v1")
SEAL_TAG = keccak256(b"openmg.branch.seal.v1")
AUTHORITIES, DEPTH, DRIFT_MS = 5, 3, 60_000


@dataclass(frozen=True)
class Node:
    """A block as the model knows it."""

    hash: bytes
    parent: Node | None
    number: int
    weight: int
    signer: int
    app_hash: bytes


@dataclass
class BranchWorld:
    """The contract and, written apart from it, what it should make of what it is given."""

    client: EvmClient
    contract: Contract
    keys: list[bytes]
    start: Node = field(default_factory=lambda: Node(START, None, 0, 0, -1, bytes(32)))
    known: dict[bytes, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tip, self.final, self.frozen = self.start, self.start, False
        self.known[START] = self.start

    def header(self, parent: Node, salt: int = 0, **changed: int | bytes) -> bytes:
        fields: dict[str, int | bytes] = {
            "tag": HEADER_TAG,
            "chain_id": CHAIN_ID,
            "number": parent.number + 1,
            "parent_hash": parent.hash,
            "timestamp_ms": 1_000 * (parent.number + 1),
            "app_hash": keccak256(parent.hash + bytes([salt])),
        }
        assert changed.keys() <= fields.keys()
        return words(*(fields | changed).values())

    def seal(self, header: bytes, signer: int, chain_id: int = CHAIN_ID) -> bytes:
        return sign_digest(self.keys[signer], keccak256(words(SEAL_TAG, chain_id, START, keccak256(header))))

    def submit(self, header: bytes, signer: int) -> None:
        self.client.transact(self.contract, "submit", header, self.seal(header, signer))

    def add(self, parent: Node, signer: int, salt: int = 0, **changed: int | bytes) -> Node:
        """A block that is accepted."""
        header = self.header(parent, salt, **changed)
        self.submit(header, signer)
        return self.expect(header, parent, signer)

    def expect(self, header: bytes, parent: Node, signer: int) -> Node:
        """The model takes a block that is right, and contract and model agree afterwards."""
        weight = parent.weight + (2 if (parent.number + 1) % AUTHORITIES == signer else 1)
        node = Node(keccak256(header), parent, parent.number + 1, weight, signer, header[160:])
        self.known[node.hash] = node
        if weight > self.tip.weight:
            ancestors = list(line(node))
            if self.final not in ancestors:
                self.frozen = True
            else:
                self.tip = node
                deep = [one for one in ancestors if one.number <= node.number - DEPTH]
                self.final = max([self.final, *deep], key=lambda one: one.number)
        self.agree()
        return node

    def agree(self) -> None:
        asked = {name: self.client.call(self.contract, name) for name in ("tip", "finalNumber", "frozen")}
        assert asked == {"tip": self.tip.hash, "finalNumber": self.final.number, "frozen": self.frozen}
        for node in line(self.final):
            assert self.client.call(self.contract, "finalAt", node.number) == node.hash
        for node in (self.final, self.tip):
            final = not self.frozen and node is self.final and node.number > 0
            assert self.client.call(self.contract, "isFinal", node.number, node.app_hash) == final
        assert self.client.call(self.contract, "appHashAt", self.final.number + 1) == bytes(32)

    def grow(self, parent: Node, count: int, salt: int = 0) -> Node:
        """Blocks whose authorities all keep their turns."""
        for _ in range(count):
            parent = self.add(parent, (parent.number + 1) % AUTHORITIES, salt)
        return parent


def line(node: Node | None):
    """A block and all before it."""
    while node is not None:
        yield node
        node = node.parent


@pytest.fixture
def world(chain: Chain) -> BranchWorld:
    client, keys = chain.client("anybody"), validator_keys(AUTHORITIES, "authority")
    members = [address_of(key) for key in keys]
    contract, tx_hash = client.create(load_artifact("HeaviestBranch"), CHAIN_ID, START, members, DEPTH, DRIFT_MS, gas=GAS)
    client.wait(tx_hash)
    return BranchWorld(client, contract, keys)


def test_a_block_is_final_under_the_depth_and_not_before(world):
    first = world.grow(world.start, 1)
    world.grow(first, DEPTH - 1)
    assert not world.client.call(world.contract, "isFinal", 1, first.app_hash)
    world.grow(world.tip, 1)
    assert world.client.call(world.contract, "isFinal", 1, first.app_hash)


def test_a_branch_that_overtakes_above_the_final_block_is_followed(world):
    base = world.grow(world.start, DEPTH + 1)
    assert world.final.number == 1
    old = world.add(world.grow(base, 1), 2)  # number 6 out of turn
    rival = world.grow(base, 1, salt=1)
    assert world.tip is old
    rival = world.grow(rival, 1, salt=1)  # number 6 in turn: heavier
    assert world.tip is rival
    assert world.final.number == 3


def test_attack_an_equal_branch_does_not_displace_the_first(world):
    base = world.grow(world.start, 2)
    first = world.grow(base, 2)
    world.grow(base, 2, salt=1)
    assert world.tip is first


def test_attack_a_longer_branch_that_is_lighter_is_not_followed(world):
    base = world.grow(world.start, 1)
    heavy = world.grow(base, 2)  # numbers 2 and 3 in turn: weight 4 more
    light = base
    for signer in (0, 4, 2):  # numbers 2, 3, 4 out of turn: weight 3 more
        light = world.add(light, signer, salt=1)
    assert light.number > heavy.number
    assert world.tip is heavy


def test_attack_a_reorganisation_after_finality_is_refused_and_freezes(world):
    events = [slot_event(1, 1, 5, 100, 50)]
    fork = world.grow(world.start, 1)
    state, model = b"\1" * 32, b"\2" * 32
    proved = world.add(fork, 2, app_hash=keccak256(words(APP_TAG, state, merkle_root(events), model)))
    honest = world.grow(proved, DEPTH)
    proof = (1, 0, 1, merkle_proof(events, 0), state, model)
    assert world.final is proved
    assert world.client.call(world.contract, "verifyEvent", events[0], proof)
    rival = world.grow(fork, DEPTH + 1, salt=1)  # without the final block, and as heavy
    assert not world.frozen
    assert world.tip is honest
    world.grow(rival, 1, salt=1)
    assert world.frozen
    assert world.tip is honest
    with refused("ChainFrozen"):
        world.client.call(world.contract, "verifyEvent", events[0], proof)
    header = world.header(honest)
    with refused("ChainFrozen"):
        world.submit(header, 1)


def test_attack_a_shorter_but_heavier_branch_without_the_final_block_freezes_too(world):
    fork = world.start
    for signer in (0, 3, 1, 2):  # all out of turn
        fork = world.add(fork, signer)
    assert world.final.number == 1
    rival = world.grow(world.start, 2, salt=1)
    assert not world.frozen
    assert rival.weight == 4 == world.tip.weight
    world.grow(rival, 1, salt=1)
    assert world.frozen


def test_attack_a_branch_from_long_ago_is_refused(world):
    world.grow(world.start, 2 * DEPTH + 2)
    assert world.final.number == DEPTH + 2
    first, second = (world.known[world.client.call(world.contract, "finalAt", number)] for number in (1, 2))
    with refused("TooOld"):
        world.submit(world.header(first, salt=1), 3)  # would be number 2, the depth below the final block
    world.add(second, 4, salt=1)


def test_every_field_of_a_header_is_checked(world):
    parent = world.grow(world.start, 2)
    now_ms = world.client.block("latest").timestamp * 1_000
    for changed in (
        {"tag": bytes(32)},
        {"chain_id": CHAIN_ID + 1},
        {"number": 4},
        {"number": 2},
        {"timestamp_ms": 1_999},
        {"timestamp_ms": now_ms + 2 * DRIFT_MS},
        {"timestamp_ms": 2**64},
        {"app_hash": 0},
    ):
        with refused("WrongHeader"):
            world.submit(world.header(parent, **changed), 3)
    with refused("WrongHeader"):
        world.submit(world.header(parent) + b"\0", 3)
    with refused("UnknownParent"):
        world.submit(world.header(parent, parent_hash=b"\7" * 32), 3)
    with refused("UnknownParent"):
        world.submit(world.header(parent, parent_hash=bytes(32)), 3)
    header = world.header(parent, timestamp_ms=2_000)
    world.submit(header, 3)
    with refused("KnownBlock"):
        world.submit(header, 3)


def test_attack_seals_of_strangers_other_chains_and_forms(world):
    header = world.header(world.start)
    stranger = validator_keys(1, "stranger")[0]
    for seal in (
        sign_digest(stranger, keccak256(words(SEAL_TAG, CHAIN_ID, START, keccak256(header)))),
        world.seal(header, 1, chain_id=CHAIN_ID + 1),
        world.seal(world.header(world.start, 1), 1),
    ):
        with refused("NotAnAuthority"):
            world.client.transact(world.contract, "submit", header, seal)
    with refused("ECDSAInvalidSignatureLength"):
        world.client.transact(world.contract, "submit", header, world.seal(header, 1)[:64])


def test_attack_one_authority_builds_a_branch_alone(world):
    """Of five authorities each seals one of three blocks, so two can never build a branch between them."""
    one = world.add(world.start, 1)
    with refused("SealedLately"):
        world.submit(world.header(one), 1)
    two = world.add(one, 2)
    for signer in (1, 2):
        with refused("SealedLately"):
            world.submit(world.header(two), signer)
    three = world.add(two, 3)
    world.add(three, 1)


def test_random_trees_against_the_model(world):
    """Blocks on random parents by random authorities: what is accepted, the tip, finality and freezing all agree."""
    dice = random.Random(11)
    refusals: dict[str, int] = {}
    for step in range(70):
        near = sorted(world.known.values(), key=lambda node: node.number)[-6:]
        parent = world.tip if dice.random() < 0.5 else dice.choice(near)
        in_turn = (parent.number + 1) % AUTHORITIES
        signer = in_turn if dice.random() < 0.6 else dice.randrange(AUTHORITIES)
        header = world.header(parent, step % 200)
        lately = [node.signer for node in list(line(parent))[: AUTHORITIES // 2]]
        too_old = parent.number + 1 + DEPTH <= world.final.number
        expected = "ChainFrozen" if world.frozen else "TooOld" if too_old else "SealedLately" if signer in lately else ""
        try:
            world.submit(header, signer)
        except CallReverted as error:
            assert error.error == expected
            refusals[error.error] = refusals.get(error.error, 0) + 1
            world.agree()
        else:
            assert not expected
            world.expect(header, parent, signer)
    assert world.final.number > 3
    assert refusals.get("SealedLately", 0) > 3


@pytest.mark.parametrize(("depth", "right"), [(0, False), (1, True), (128, True), (129, False)])
def test_the_depth_is_bounded(chain, depth, right):
    client = chain.client("anybody")
    members = [address_of(key) for key in validator_keys(3)]
    arguments = CHAIN_ID, START, members, depth, DRIFT_MS
    if right:
        contract, tx_hash = client.create(load_artifact("HeaviestBranch"), *arguments)
        client.wait(tx_hash)
        assert client.call(contract, "depth") == depth
    else:
        with refused("InvalidDepth"):
            client.create(load_artifact("HeaviestBranch"), *arguments)
