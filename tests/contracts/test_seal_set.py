"""SealSet against a second writing of its rule: ascending distinct members, at least the threshold, low s."""

from __future__ import annotations

import random

import pytest
from evm_world import Chain, refused, validator_keys
from relay_world import GAS

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from hub.chain.errors import CallReverted
from openmg.hashing import keccak256, words
from openmg.signing import SECP256K1_ORDER, address_of, sign_digest

DIGEST = keccak256(b"sealed")


@pytest.fixture
def client(chain: Chain) -> EvmClient:
    return chain.client("anybody")


@pytest.fixture
def scheme(client: EvmClient) -> Contract:
    scheme, tx_hash = client.create(load_artifact("SealScheme"), gas=GAS)
    client.wait(tx_hash)
    return scheme


def new_set(client: EvmClient, scheme: Contract, keys: list[bytes], threshold: int = 0) -> Contract:
    code = client.call(scheme, "creationCode", [address_of(key) for key in keys], threshold)
    receipt = client.wait(client.send_raw_call(None, bytes(code), gas=GAS))
    assert receipt.contract_address
    return Contract("SealSet", receipt.contract_address, load_artifact("SealSet").abi)


def seals_of(keys: list[bytes]) -> bytes:
    return b"".join(sign_digest(key, DIGEST) for key in keys)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 16, 100])
def test_the_members_lie_behind_the_code(client, scheme, count):
    keys = validator_keys(count)
    made = new_set(client, scheme, keys)
    addresses = [address_of(key) for key in keys]
    assert client.call(made, "members") == tuple("0x" + address.hex() for address in addresses)
    assert client.call(made, "setHash") == keccak256(words(*addresses))
    assert client.call(made, "contains", addresses[-1])
    assert not client.call(made, "contains", address_of(validator_keys(1, "stranger")[0]))
    assert not client.call(made, "contains", bytes(20))


def test_random_choices_of_seals_against_the_rule(client, scheme):
    """Members and strangers, in and out of order, repeated, too few: accepted exactly when the rule holds."""
    dice = random.Random(7)
    keys = validator_keys(7)
    made, threshold = new_set(client, scheme, keys), 5
    pool = keys + validator_keys(2, "stranger")
    accepted = 0
    for _ in range(150):
        chosen = [dice.choice(pool) for _ in range(dice.randrange(3, 9))] if dice.random() < 0.4 else dice.sample(pool, 6)
        if dice.random() < 0.8:
            chosen.sort(key=address_of)
        addresses = [address_of(key) for key in chosen]
        right = (
            threshold <= len(chosen) <= len(keys)
            and all(a < b for a, b in zip(addresses, addresses[1:], strict=False))
            and all(key in keys for key in chosen)
        )
        try:
            signers = client.call(made, "signersOf", DIGEST, seals_of(chosen))
        except CallReverted as error:
            assert error.error in ("WrongSealCount", "SignersNotAscending", "NotASigner")
            assert not right
            with refused(error.error):
                client.call(made, "verify", DIGEST, seals_of(chosen))
        else:
            assert right
            assert signers == tuple("0x" + address.hex() for address in addresses)
            assert client.call(made, "verify", DIGEST, seals_of(chosen)) == client.call(made, "setHash")
            accepted += 1
    assert 10 < accepted < 100


def test_attack_the_second_form_of_a_seal(client, scheme):
    """For every seal a second one with a high s is as right to the curve; exactly half the order is the last low one."""
    keys = validator_keys(1)
    made = new_set(client, scheme, keys)
    seal = seals_of(keys)
    s = int.from_bytes(seal[32:64], "big")
    with refused("ECDSAInvalidSignatureS"):
        client.call(made, "verify", DIGEST, seal[:32] + (SECP256K1_ORDER - s).to_bytes(32, "big") + bytes([55 - seal[64]]))
    half = SECP256K1_ORDER // 2
    for s, error in ((half, "NotASigner"), (half + 1, "ECDSAInvalidSignatureS")):
        with refused(error):
            client.call(made, "verify", DIGEST, seal[:32] + s.to_bytes(32, "big") + seal[64:])


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_attack_a_seal_that_recovers_nobody(client, scheme, v):
    made = new_set(client, scheme, validator_keys(1))
    with refused("ECDSAInvalidSignature"):
        client.call(made, "verify", DIGEST, seals_of(validator_keys(1))[:64] + bytes([v]))
    with refused("ECDSAInvalidSignature"):
        client.call(made, "verify", DIGEST, bytes(64) + b"\x1b")


@pytest.mark.parametrize(("threshold", "right"), [(1, True), (3, True), (4, False)])
def test_a_threshold_is_at_most_the_members(client, scheme, threshold, right):
    keys = validator_keys(3)
    if not right:
        with refused("InvalidSignerSet"):
            new_set(client, scheme, keys, threshold)
        return
    made = new_set(client, scheme, keys, threshold)
    client.call(made, "verify", DIGEST, seals_of(keys[:threshold]))
    with refused("WrongSealCount"):
        client.call(made, "verify", DIGEST, seals_of(keys[: threshold - 1]))
