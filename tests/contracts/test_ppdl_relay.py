"""PpdlRelay: only a quorum over a linked chain of headers enters, and events are proved by the header after them."""

from __future__ import annotations

import pytest
from evm_world import (
    COMMIT_TAG,
    ETHER,
    GENESIS_HASH,
    HEADER_TAG,
    PPDL_CHAIN_ID,
    Chain,
    PpdlChain,
    refused,
    slot_event,
    validator_keys,
)

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from openmg.hashing import keccak256, words
from openmg.signing import SECP256K1_ORDER, address_of, sign_digest

REWARD_WEI = 7


def deploy_relay(client: EvmClient, keys: list[bytes], reward_wei: int = REWARD_WEI, drift_ms: int = 60_000) -> Contract:
    members = ["0x" + address_of(k).hex() for k in keys]
    relay, tx_hash = client.create(load_artifact("PpdlRelay"), PPDL_CHAIN_ID, GENESIS_HASH, members, reward_wei, drift_ms)
    client.wait(tx_hash)
    return relay


@pytest.fixture
def ppdl() -> PpdlChain:
    return PpdlChain(validator_keys(4))


@pytest.fixture
def client(chain: Chain) -> EvmClient:
    return chain.client("relayer")


@pytest.fixture
def relay(client: EvmClient, ppdl: PpdlChain) -> Contract:
    return deploy_relay(client, ppdl.keys)


def submit(client: EvmClient, relay: Contract, batch: bytes, seals: bytes, view: int = 0) -> None:
    client.transact(relay, "submitHeaders", batch, view, seals)


def test_headers_one_by_one_and_in_batches(client, relay, ppdl):
    for _ in range(6):
        ppdl.extend()
    ppdl.relay(client, relay, 1, 1)
    ppdl.relay(client, relay, 2, 5)
    assert client.call(relay, "height") == 5
    assert client.call(relay, "lastHeaderHash") == keccak256(ppdl.headers[4])
    assert client.call(relay, "appHashAt", 3) == ppdl.headers[2][7 * 32 : 8 * 32]
    ppdl.relay(client, relay, 6, 6)
    assert client.call(relay, "height") == 6


def test_view_of_the_certificate_counts(client, relay, ppdl):
    header = ppdl.extend()
    seals = ppdl.seals(header, 1, view=3)
    with refused("NotASigner"):
        submit(client, relay, header, seals, view=2)
    submit(client, relay, header, seals, view=3)


def test_a_quorum_is_three_of_four_and_no_less(client, relay, ppdl):
    header = ppdl.extend()
    with refused("WrongSealCount"):
        submit(client, relay, header, ppdl.seals(header, 1, keys=ppdl.keys[:2]))
    with refused("WrongSealCount"):
        submit(client, relay, header, b"")
    submit(client, relay, header, ppdl.seals(header, 1, keys=ppdl.keys[1:]))


@pytest.mark.parametrize(("n", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (10, 7), (16, 11)])
def test_quorum_of_every_size(client, n, quorum):
    ppdl = PpdlChain(validator_keys(n))
    relay = deploy_relay(client, ppdl.keys)
    header = ppdl.extend()
    with refused("WrongSealCount"):
        submit(client, relay, header, ppdl.seals(header, 1, keys=ppdl.keys[: quorum - 1]))
    submit(client, relay, header, ppdl.seals(header, 1, keys=ppdl.keys[:quorum]))


def test_signers_must_be_distinct_members_in_order(client, relay, ppdl):
    header = ppdl.extend()
    a, b, c, d = ppdl.keys
    for keys, error in (
        ([a, b, b], "SignersNotAscending"),
        ([a, c, b], "SignersNotAscending"),
        ([b, c, a], "SignersNotAscending"),
    ):
        with refused(error):
            submit(client, relay, header, ppdl.seals(header, 1, keys=keys))
    stranger = validator_keys(8, "stranger")
    above = [k for k in stranger if address_of(k) > address_of(b)][-1]
    with refused("NotASigner"):
        submit(client, relay, header, ppdl.seals(header, 1, keys=[a, b, above]))
    submit(client, relay, header, ppdl.seals(header, 1, keys=[a, b, c, d]))


def test_high_s_and_foreign_v_are_refused(client, relay, ppdl):
    header = ppdl.extend()
    seals = ppdl.seals(header, 1)
    r, s, v = seals[:32], int.from_bytes(seals[32:64], "big"), seals[64]
    high = r + (SECP256K1_ORDER - s).to_bytes(32, "big") + bytes([55 - v]) + seals[65:]
    with refused("ECDSAInvalidSignatureS"):
        submit(client, relay, header, high)
    with refused("ECDSAInvalidSignature"):
        submit(client, relay, header, seals[:64] + bytes([v - 27]) + seals[65:])
    with refused("WrongSealCount"):
        submit(client, relay, header, seals[:-1])


@pytest.mark.parametrize(
    ("field", "number", "value"),
    [
        ("tag", 0, keccak256(b"another tag")),
        ("chain_id", 1, PPDL_CHAIN_ID + 1),
        ("height", 2, 4),
        ("parent", 3, bytes(32)),
        ("timestamp_ms", 4, 1_499),
        ("validators_hash", 8, bytes(32)),
    ],
)
def test_every_field_of_a_header_is_checked(client, relay, ppdl, field, number, value):
    ppdl.extend()
    ppdl.extend()
    ppdl.relay(client, relay, 1, 2)
    wrong = ppdl.header(**{field: value})
    with refused("WrongHeader"):
        submit(client, relay, wrong, ppdl.seals(wrong, 3))
    right = ppdl.header(**({"timestamp_ms": 1_500} if field == "timestamp_ms" else {}))
    submit(client, relay, right, ppdl.seals(right, 3))


def test_a_flipped_byte_in_an_early_header_breaks_the_batch(client, relay, ppdl):
    for _ in range(3):
        ppdl.extend()
    batch = bytearray(b"".join(ppdl.headers))
    batch[7 * 32] ^= 1  # application hash of header 1
    with refused("WrongHeader"):
        submit(client, relay, bytes(batch), ppdl.seals(ppdl.headers[2], 3))


def test_replay_and_gap_are_refused_before_any_signature_is_looked_at(client, relay, ppdl):
    for _ in range(3):
        ppdl.extend()
    ppdl.relay(client, relay, 1, 1)
    with refused("WrongHeader"):
        ppdl.relay(client, relay, 1, 1)
    with refused("WrongHeader"):
        submit(client, relay, ppdl.headers[2], b"no seals at all")


def test_lengths_of_a_batch(client, relay, ppdl):
    header = ppdl.extend()
    for batch in (b"", header[:-1], header + b"\0"):
        with refused("MalformedBatch"):
            submit(client, relay, batch, ppdl.seals(header, 1))
    limit = client.call(relay, "MAX_BATCH")
    for _ in range(limit):
        ppdl.extend()
    with refused("MalformedBatch"):
        ppdl.relay(client, relay, 1, limit + 1)
    ppdl.relay(client, relay, 1, limit)


def test_time_must_not_lie_ahead_of_this_chain(client, chain, ppdl):
    relay = deploy_relay(client, ppdl.keys, drift_ms=1_000)
    now_ms = client.block("latest").timestamp * 1000
    ahead = ppdl.header(timestamp_ms=now_ms + 60_000)
    with refused("WrongHeader"):
        submit(client, relay, ahead, ppdl.seals(ahead, 1))
    chain.skip(60)
    submit(client, relay, ahead, ppdl.seals(ahead, 1))


def test_time_may_lie_ahead_by_the_drift_and_no_more(client, chain, ppdl):
    relay = deploy_relay(client, ppdl.keys, drift_ms=1_000)
    block, now = chain.block_at()
    for timestamp_ms, right in ((now * 1000 + 1_000, True), (now * 1000 + 1_001, False)):
        header = ppdl.header(timestamp_ms=timestamp_ms)
        arguments = header, 0, ppdl.seals(header, 1)
        if right:
            client.call(relay, "submitHeaders", *arguments, at=block)
        else:
            with refused("WrongHeader"):
                client.call(relay, "submitHeaders", *arguments, at=block)


def test_seals_of_another_genesis_or_chain_do_not_count(client, relay, ppdl):
    header = ppdl.extend()
    right = {"tag": COMMIT_TAG, "chain": PPDL_CHAIN_ID, "genesis": GENESIS_HASH, "height": 1, "view": 0}
    for changed in ({"tag": HEADER_TAG}, {"chain": PPDL_CHAIN_ID + 1}, {"genesis": bytes(32)}, {"height": 2}, {"view": 1}):
        digest = keccak256(words(*(right | changed).values(), keccak256(header)))
        with refused("NotASigner"):
            submit(client, relay, header, b"".join(sign_digest(k, digest) for k in ppdl.keys[:3]))
    digest = keccak256(words(*right.values(), keccak256(header)))
    submit(client, relay, header, b"".join(sign_digest(k, digest) for k in ppdl.keys[:3]))


def test_events_of_every_position_and_tree_size(client, relay, ppdl):
    blocks = [[slot_event(1, h * 10 + i, 5, 100 + i, 50) for i in range(h)] for h in range(1, 8)]
    for events in blocks:
        ppdl.extend(events)
    ppdl.extend()
    ppdl.relay(client, relay, 1, len(blocks) + 1)
    for height, events in enumerate(blocks, 1):
        for index, event in enumerate(events):
            proof = ppdl.proof(height, events, index)
            assert client.call(relay, "verifyEvent", event, proof)
            assert not client.call(relay, "verifyEvent", event[:-1] + b"\1", proof)


def test_event_proofs_are_tight(client, relay, ppdl):
    events = [slot_event(1, i, 5, 100, 50) for i in range(5)]
    ppdl.extend(events)
    ppdl.extend()
    ppdl.relay(client, relay, 1, 2)
    height, index, count, siblings, state, model = ppdl.proof(1, events, 2)
    assert client.call(relay, "verifyEvent", events[2], (height, index, count, siblings, state, model))
    for wrong in (
        (height + 1, index, count, siblings, state, model),
        (height, index + 1, count, siblings, state, model),
        (height, count, count, siblings, state, model),
        (height, index, count, siblings[:-1], state, model),
        (height, index, count, [*siblings, bytes(32)], state, model),
        (height, index, count, siblings, model, model),
        (height, index, count, siblings, state, state),
        (height, 2**256 - 1, count, siblings, state, model),
        (height, index, 0, siblings, state, model),
    ):
        assert not client.call(relay, "verifyEvent", events[2], wrong)


def test_an_inner_node_is_no_leaf(client, relay, ppdl):
    events = [slot_event(1, i, 5, 100, 50) for i in range(2)]
    ppdl.extend(events)
    ppdl.extend()
    ppdl.relay(client, relay, 1, 2)
    height, _, _, _, state, model = ppdl.proof(1, events, 0)
    inner = keccak256(b"\0" + events[0]) + keccak256(b"\0" + events[1])
    assert not client.call(relay, "verifyEvent", inner, (height, 0, 1, [], state, model))


def test_an_event_is_not_provable_before_the_header_after_its_block(client, relay, ppdl):
    events = [slot_event(1, 1, 5, 100, 50)]
    ppdl.extend(events)
    ppdl.extend()
    ppdl.relay(client, relay, 1, 1)
    assert not client.call(relay, "verifyEvent", events[0], ppdl.proof(1, events, 0))
    ppdl.relay(client, relay, 2, 2)
    assert client.call(relay, "verifyEvent", events[0], ppdl.proof(1, events, 0))


def test_validator_set_change(client, relay, ppdl):
    old, new = ppdl.keys, validator_keys(7, "newcomer")
    ppdl.next_keys = new
    ppdl.extend()
    ppdl.relay(client, relay, 1, 1)
    ppdl.keys, ppdl.next_keys = new, None
    header = ppdl.extend()
    with refused("ValidatorChangePending"):
        ppdl.relay(client, relay, 2, 2)
    with refused("WrongValidators"):
        client.transact(relay, "applyValidators", ["0x" + address_of(k).hex() for k in old])
    client.transact(relay, "applyValidators", ["0x" + address_of(k).hex() for k in new])
    with refused("NoValidatorChangePending"):
        client.transact(relay, "applyValidators", ["0x" + address_of(k).hex() for k in new])
    with refused("WrongSealCount"):
        submit(client, relay, header, ppdl.seals(header, 2, keys=old))
    for former in old:  # who has left does not count, though its seals fill the quorum
        with refused("NotASigner"):
            submit(client, relay, header, ppdl.seals(header, 2, keys=sorted([*new[:4], former], key=address_of)))
    submit(client, relay, header, ppdl.seals(header, 2, keys=new[:5]))


def test_only_the_last_header_of_a_batch_may_announce_a_set(client, relay, ppdl):
    ppdl.next_keys = validator_keys(4, "newcomer")
    ppdl.extend()
    ppdl.next_keys = None
    ppdl.extend()
    with refused("WrongHeader"):
        ppdl.relay(client, relay, 1, 2)


def test_rewards_are_paid_once_and_end_with_the_fund(chain, client, relay, ppdl):
    for _ in range(4):
        ppdl.extend()
    chain.give(client.address, ETHER)
    client.transact(relay, "fund", value=2 * REWARD_WEI + 1)
    ppdl.relay(client, relay, 1, 2)
    assert client.call(relay, "earned", "0x" + client.address.hex()) == 2 * REWARD_WEI
    ppdl.relay(client, relay, 3, 4)
    assert client.call(relay, "earned", "0x" + client.address.hex()) == 2 * REWARD_WEI + 1
    before = client.balance(client.address)
    client.transact(relay, "claimReward")
    assert client.balance(client.address) == before + 2 * REWARD_WEI + 1
    with refused("NothingToClaim"):
        client.transact(relay, "claimReward")


def members_of(*numbers: int) -> list[bytes]:
    return [number.to_bytes(20, "big") for number in numbers]


@pytest.mark.parametrize(
    ("members", "right"),
    [
        (members_of(), False),
        (members_of(1, 1), False),
        (members_of(2, 1), False),
        (members_of(0, 1), False),
        (members_of(1, 2), True),
        (members_of(*range(1, 101)), True),
        (members_of(*range(1, 102)), False),
    ],
)
def test_a_set_is_ascending_not_empty_and_at_most_a_hundred(client, members, right):
    relay, tx_hash = client.create(load_artifact("PpdlRelay"), 1, GENESIS_HASH, members, 0, 0, gas=12_000_000)
    if right:
        client.wait(tx_hash)
        assert client.call(relay, "validators") == tuple("0x" + member.hex() for member in members)
    else:
        with refused("InvalidSignerSet"):
            client.wait(tx_hash)
