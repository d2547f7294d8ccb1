"""PlasmaRoot and PethBridge: deposits in order, checkpoints by quorum, and nothing twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evm_world import ETHER, Chain, key, refused, validator_keys

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from hub.chain.deploy import deploy_root
from hub.plasma.checkpoint import Checkpoint, checkpoint_digest, checkpoint_hash, genesis_hash, merge, sign
from hub.plasma.operator import MINT_GAS
from openmg.hashing import keccak256
from openmg.signing import address_of

PLASMA_CHAIN_ID = 7_002
KEYS = validator_keys(4)


@pytest.fixture
def client(chain: Chain) -> EvmClient:
    client = chain.client("root user")
    chain.give(client.address, 1000 * ETHER)
    return client


@pytest.fixture
def root(client: EvmClient) -> Contract:
    return deploy_root(client, PLASMA_CHAIN_ID, [address_of(k) for k in KEYS]).plasma_root


def first(client: EvmClient) -> Checkpoint:
    return Checkpoint(
        epoch=0,
        first_block=1,
        last_block=10,
        block_hash=keccak256(b"block"),
        state_root=keccak256(b"state"),
        tx_root=keccak256(b"txs"),
        note_root=keccak256(b"notes"),
        inbox_count=0,
        prev_hash=genesis_hash(PLASMA_CHAIN_ID),
        timestamp=client.block("latest").timestamp,
    )


def seals(client: EvmClient, root: Contract, checkpoint: Checkpoint, keys: list[bytes]) -> list[bytes]:
    digest = checkpoint_digest(client.chain_id(), root.address, checkpoint)
    return [sign(k, digest) for k in keys]


def submit(client: EvmClient, root: Contract, checkpoint: Checkpoint, keys: list[bytes] = KEYS[:3]) -> None:
    client.transact(root, "submitCheckpoint", checkpoint.as_abi(), seals(client, root, checkpoint, keys))


def test_python_and_solidity_agree_on_hash_and_digest(client, root):
    checkpoint = first(client)
    assert client.call(root, "genesisHash") == genesis_hash(PLASMA_CHAIN_ID)
    assert client.call(root, "hashCheckpoint", checkpoint.as_abi()) == checkpoint_hash(checkpoint)
    digest = checkpoint_digest(client.chain_id(), root.address, checkpoint)
    assert client.call(root, "checkpointDigest", checkpoint.as_abi()) == digest


def test_deposits_are_numbered_and_remembered(client, root):
    recipient = b"\5" * 20
    client.transact(root, "deposit", recipient, value=3 * ETHER)
    client.transact(root, "deposit", recipient, value=1)
    events = client.events(root, "Deposited", 0, client.block_number())
    assert [(e.args["nonce"], e.args["amount"]) for e in events] == [(0, 3 * ETHER), (1, 1)]
    assert client.balance(root.address) == 3 * ETHER + 1
    expected = keccak256(bytes(32) + recipient.rjust(32, b"\0") + (3 * ETHER).to_bytes(32, "big"))
    assert client.call(root, "depositHash", 0) == expected


def test_deposits_need_value_and_recipient(client, root):
    with refused("EmptyDeposit"):
        client.transact(root, "deposit", b"\5" * 20)
    with refused("ZeroRecipient"):
        client.transact(root, "deposit", bytes(20), value=1)


def test_checkpoints_follow_each_other(client, root):
    one = first(client)
    submit(client, root, one)
    two = replace(one, epoch=1, first_block=11, last_block=20, prev_hash=checkpoint_hash(one), timestamp=one.timestamp + 1)
    submit(client, root, two, KEYS)
    assert client.call(root, "checkpointCount") == 2
    assert client.call(root, "lastCheckpointHash") == checkpoint_hash(two)
    event = client.events(root, "CheckpointCommitted", 0, client.block_number())[1]
    assert (event.args["epoch"], event.args["signatures"]) == (1, 4)
    assert event.args["checkpoint"]["lastBlock"] == 20


def test_a_checkpoint_counts_once(client, root):
    submit(client, root, first(client))
    with refused("WrongEpoch"):
        submit(client, root, first(client))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"epoch": 1}, "WrongEpoch"),
        ({"first_block": 2}, "BlocksNotContiguous"),
        ({"first_block": 0}, "BlocksNotContiguous"),
        ({"last_block": 0}, "BlocksNotContiguous"),
        ({"prev_hash": bytes(32)}, "WrongPreviousCheckpoint"),
        ({"inbox_count": 1}, "WrongInboxCount"),
        ({"timestamp": 2**40}, "WrongTimestamp"),
    ],
)
def test_signed_nonsense_is_refused(client, root, changed, error):
    with refused(error):
        submit(client, root, replace(first(client), **changed))


def test_inbox_count_follows_the_deposits(client, root):
    client.transact(root, "deposit", b"\5" * 20, value=1)
    one = replace(first(client), inbox_count=1)
    submit(client, root, one)
    back = replace(one, epoch=1, first_block=11, last_block=11, inbox_count=0, prev_hash=checkpoint_hash(one))
    with refused("WrongInboxCount"):
        submit(client, root, back)


def test_inbox_count_is_at_most_the_deposits(client, root):
    client.transact(root, "deposit", b"\5" * 20, value=1)
    with refused("WrongInboxCount"):
        submit(client, root, replace(first(client), inbox_count=2))
    submit(client, root, replace(first(client), inbox_count=1))


def test_time_of_a_checkpoint_never_falls_and_is_at_most_five_minutes_ahead(client, chain, root):
    one = first(client)
    submit(client, root, one)
    two = replace(one, epoch=1, first_block=11, last_block=11, prev_hash=checkpoint_hash(one))
    block, now = chain.block_at()
    for timestamp, right in (
        (one.timestamp - 1, False),
        (one.timestamp, True),
        (now + 300, True),
        (now + 301, False),
    ):
        given = replace(two, timestamp=timestamp)
        arguments = given.as_abi(), seals(client, root, given, KEYS[:3])
        if right:
            client.call(root, "submitCheckpoint", *arguments, at=block)
        else:
            with refused("WrongTimestamp"):
                client.call(root, "submitCheckpoint", *arguments, at=block)


def test_quorum_of_distinct_validators(client, root):
    checkpoint = first(client)
    stranger = max(validator_keys(8, "stranger"), key=address_of)
    for keys, error in (
        (KEYS[:2], "WrongSealCount"),
        ([KEYS[0], KEYS[1], KEYS[1]], "SignersNotAscending"),
        ([KEYS[2], KEYS[1], KEYS[0]], "SignersNotAscending"),
        ([KEYS[0], KEYS[1], stranger], "NotASigner"),
        ([*KEYS, stranger], "WrongSealCount"),
    ):
        with refused(error):
            submit(client, root, checkpoint, keys)


def test_signatures_bind_every_field_chain_and_contract(client, root):
    checkpoint = first(client)
    signed = seals(client, root, checkpoint, KEYS[:3])
    client.transact(root, "deposit", b"\5" * 20, value=1)
    changes: list[dict[str, int | bytes]] = [{name: bytes(32)} for name in ("block_hash", "state_root", "tx_root", "note_root")]
    changes += [{"last_block": 11}, {"inbox_count": 1}, {"timestamp": checkpoint.timestamp + 1}]
    for changed in changes:
        with refused("NotASigner"):
            client.transact(root, "submitCheckpoint", replace(checkpoint, **changed).as_abi(), signed)
    elsewhere = checkpoint_digest(client.chain_id() + 1, root.address, checkpoint)
    with refused("NotASigner"):
        client.transact(root, "submitCheckpoint", checkpoint.as_abi(), [sign(k, elsewhere) for k in KEYS[:3]])
    twin = deploy_root(client, PLASMA_CHAIN_ID, [address_of(k) for k in KEYS]).plasma_root
    with refused("NotASigner"):
        client.transact(twin, "submitCheckpoint", checkpoint.as_abi(), signed)
    client.transact(root, "submitCheckpoint", checkpoint.as_abi(), signed)


def test_merge_keeps_one_valid_signature_per_validator(client, root):
    checkpoint = first(client)
    digest = checkpoint_digest(client.chain_id(), root.address, checkpoint)
    members = [address_of(k) for k in KEYS]
    shuffled = [sign(k, digest) for k in (KEYS[2], KEYS[0], KEYS[2], key("stranger"), KEYS[1])]
    merged = merge(digest, members, [*shuffled, b"short"])
    assert merged == tuple(sign(k, digest) for k in KEYS[:3])
    client.transact(root, "submitCheckpoint", checkpoint.as_abi(), list(merged))


# ---- PethBridge ------------------------------------------------------------------------------------------------


@pytest.fixture
def bridge(chain: Chain, client: EvmClient) -> Contract:
    bridge, tx_hash = client.create(load_artifact("PethBridge"), chain.client("operator").address, value=100 * ETHER)
    client.wait(tx_hash)
    return bridge


def test_bridge_mints_in_order_and_only_for_the_operator(chain, client, bridge):
    operator, recipient = chain.client("operator"), b"\6" * 20
    with refused("NotOperator"):
        client.transact(bridge, "mintFromDeposit", 0, recipient, 1)
    with refused("WrongNonce"):
        operator.transact(bridge, "mintFromDeposit", 1, recipient, 1)
    operator.transact(bridge, "mintFromDeposit", 0, recipient, 2 * ETHER)
    with refused("WrongNonce"):
        operator.transact(bridge, "mintFromDeposit", 0, recipient, 2 * ETHER)
    operator.transact(bridge, "mintFromDeposit", 1, recipient, 5)
    assert client.balance(recipient) == 2 * ETHER + 5
    assert client.call(bridge, "mintedCount") == 2
    assert client.call(bridge, "mintedTotal") == 2 * ETHER + 5


def test_a_recipient_that_refuses_does_not_hold_up_the_others(chain, client, bridge):
    operator = chain.client("operator")
    refuser, tx_hash = client.create(load_artifact("testing/HostileReceiver"))
    client.wait(tx_hash)
    client.transact(refuser, "refuse", True)
    operator.transact(bridge, "mintFromDeposit", 0, refuser.address, ETHER)
    operator.transact(bridge, "mintFromDeposit", 1, b"\6" * 20, ETHER)
    events = client.events(bridge, "Minted", 0, client.block_number())
    assert [event.args["delivered"] for event in events] == [False, True]
    with refused("NothingToClaim"):
        client.transact(bridge, "claim", client.address)
    claim = client.call_data(bridge, "claim", b"\7" * 20)
    client.transact(refuser, "act", bridge.address, 0, claim)
    assert client.balance(b"\7" * 20) == ETHER


def deploy_code(client: EvmClient, runtime: str) -> bytes:
    """Address of an account with this code (hex, at most 255 bytes)."""
    code = bytes.fromhex(runtime)
    copy_and_return = bytes([0x60, len(code), 0x80, 0x60, 9, 0x3D, 0x39, 0x3D, 0xF3])
    address = client.wait(client.send_raw_call(None, copy_and_return + code)).contract_address
    assert address is not None
    return address


def test_gas_of_a_mint_is_bounded_whatever_the_recipient_does(chain, client, bridge):
    """Spending all its gas is the worst a recipient can do: a long answer costs the operator nothing more."""
    operator, endless_loop = chain.client("operator"), "5b600056"
    spenders = deploy_code(client, endless_loop), deploy_code(client, endless_loop)
    first = operator.transact(bridge, "mintFromDeposit", 0, spenders[0], ETHER, gas=MINT_GAS)
    worst = operator.transact(bridge, "mintFromDeposit", 1, spenders[1], ETHER, gas=MINT_GAS)
    assert worst.gas_used < first.gas_used < MINT_GAS
    answer = f"62{140_000:06x}6000"  # as much memory as the recipient's gas buys
    failing, accepting = deploy_code(client, answer + "fd"), deploy_code(client, answer + "f3")
    for nonce, recipient in ((2, failing), (3, accepting)):
        receipt = operator.transact(bridge, "mintFromDeposit", nonce, recipient, ETHER, gas=MINT_GAS)
        assert receipt.gas_used <= worst.gas_used
    events = client.events(bridge, "Minted", 0, client.block_number())
    assert [event.args["delivered"] for event in events] == [False, False, False, True]
    assert client.balance(accepting) == ETHER and client.balance(failing) == 0
    claimable = [client.call(bridge, "claimable", account) for account in (*spenders, failing, accepting)]
    assert claimable == [ETHER, ETHER, ETHER, 0]


def test_bridge_takes_back_what_accounts_return(client, bridge):
    client.wait(client.send_raw_call(bridge.address, b"", value=ETHER))
    assert client.balance(bridge.address) == 101 * ETHER
