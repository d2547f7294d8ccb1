"""PpdlRelay: a proved fork freezes it, silence makes it expire, and only a late and public new start leads out."""

from __future__ import annotations

import pytest
from evm_world import GENESIS_HASH, PPDL_CHAIN_ID, Chain, refused, slot_event, validator_keys
from relay_world import DAY, RelayWorld, new_relay_world

from hub.chain.artifacts import load_artifact
from hub.chain.client import create_address
from openmg.hashing import keccak256
from openmg.signing import address_of

FIRST_SET = 2


@pytest.fixture
def world(chain: Chain) -> RelayWorld:
    return new_relay_world(chain)


def addresses(keys: list[bytes]) -> list[bytes]:
    return [address_of(key) for key in keys]


@pytest.mark.parametrize("views", [(0, 0), (0, 3), (5, 2)])
def test_attack_two_certificates_for_one_height_freeze_the_client(world, views):
    events = [slot_event(1, 1, 5, 100, 50)]
    world.ppdl.extend(events)
    world.ppdl.extend()
    world.ppdl.relay(world.client, world.relay, 1, 2)
    proof = world.ppdl.proof(1, events, 0)
    app_hash = world.ppdl.headers[1][224:256]
    assert world.call("verifyEvent", events[0], proof)
    assert world.call("isFinal", 2, app_hash)
    one, other = world.fork(views)
    world.transact("freeze", FIRST_SET, one, other, client=world.chain.client("anybody"))
    assert world.call("frozen")
    assert not world.call("isFinal", 2, app_hash)
    with refused("RelayFrozen"):
        world.call("verifyEvent", events[0], proof)
    header = world.ppdl.extend()
    with refused("RelayFrozen"):
        world.ppdl.relay(world.client, world.relay, 3, 3)
    with refused("RelayFrozen"):
        world.short(header, world.ppdl.seals(header, 3))
    with refused("RelayFrozen"):
        world.transact("freeze", FIRST_SET, one, other)


def test_attack_a_freeze_without_a_fork(world):
    world.submit()
    one, other = world.fork()
    same_header_later_view = world.certificate(one[0], 4)
    next_height = world.certificate(world.ppdl.header(height=3))
    foreign_chain = world.certificate(world.ppdl.header(chain_id=1))
    other_tag = world.certificate(world.ppdl.header(tag=bytes(32)))
    height_zero = world.certificate(world.ppdl.header(height=0))
    beyond_counting = world.certificate(world.ppdl.header(height=2**40))
    beyond_time = world.certificate(world.ppdl.header(timestamp_ms=2**64))
    another_set = world.certificate(world.ppdl.header(validators_hash=b"\7" * 32))
    below_quorum = world.certificate(other[0], keys=world.ppdl.keys[:2])
    strangers = world.certificate(other[0], keys=validator_keys(3, "stranger"))
    for wrong, error in (
        (one, "NoConflict"),
        (same_header_later_view, "NoConflict"),
        (next_height, "NoConflict"),
        (foreign_chain, "WrongHeader"),
        (other_tag, "WrongHeader"),
        (height_zero, "WrongHeader"),
        (beyond_counting, "WrongHeader"),
        (beyond_time, "WrongHeader"),
        (another_set, "WrongHeader"),
        (below_quorum, "WrongSealCount"),
        (strangers, "NotASigner"),
        ((other[0], 1, other[2]), "NotASigner"),
        ((other[0][:-1], 0, other[2]), "MalformedBatch"),
    ):
        for pair in ((one, wrong), (wrong, one)):
            with refused(error):
                world.transact("freeze", FIRST_SET, *pair)
    for number in (0, 1, FIRST_SET + 1):
        with refused("SetNotAccountable"):
            world.transact("freeze", number, one, other)
    world.transact("freeze", FIRST_SET, one, other)


def test_attack_a_set_that_left_long_ago_freezes_nothing(world):
    """A former quorum that has its bonds back must not be able to stop its successors, but one that has not yet can."""
    old = world.ppdl.keys
    world.submit()
    one, other = world.fork(keys=old[:3])
    world.change_set(validator_keys(4, "newcomer"))
    left_at = world.call("leftAt", FIRST_SET)
    unbonding = world.call("UNBONDING_SECONDS")
    assert unbonding > world.call("TRUSTING_SECONDS")
    ahead = left_at + unbonding - world.client.block("latest").timestamp
    block, at = world.chain.block_at(ahead)
    assert at == left_at + unbonding
    world.client.call(world.relay, "freeze", FIRST_SET, one, other, at=block)
    block, _ = world.chain.block_at(1)
    with refused("SetNotAccountable"):
        world.client.call(world.relay, "freeze", FIRST_SET, one, other, at=block)


def test_attack_headers_after_the_trusting_period(world):
    world.submit()
    until = world.call("trustedUntil")
    header = world.ppdl.extend()
    arguments = header, 0, world.ppdl.seals(header, 2)
    block, at = world.chain.block_at(until - 1 - world.client.block("latest").timestamp)
    assert at == until - 1
    world.client.call(world.relay, "submitHeaders", *arguments, at=block)
    block, _ = world.chain.block_at(1)
    with refused("TrustExpired"):
        world.client.call(world.relay, "submitHeaders", *arguments, at=block)
    with refused("TrustExpired"):
        world.transact("submitHeaders", *arguments)
    with refused("TrustExpired"):
        world.short(header, world.ppdl.seals(header, 2))


def test_every_header_renews_the_trust(world):
    for _ in range(3):
        world.chain.skip(10 * DAY)
        world.submit()


def test_what_was_proved_stays_proved_when_trust_expires(world):
    events = [slot_event(1, 1, 5, 100, 50)]
    world.ppdl.extend(events)
    world.submit(behind=1)
    world.chain.skip(30 * DAY)
    assert world.call("verifyEvent", events[0], world.ppdl.proof(1, events, 0))


def start_anew(world: RelayWorld, header: bytes, keys: list[bytes]) -> None:
    world.transact("proposeRestart", header, addresses(keys))
    world.chain.skip(14 * DAY)
    world.transact("restart", header, addresses(keys))


def test_attack_the_guardian_of_a_client_that_works_can_start_nothing(world):
    world.submit()
    header = world.ppdl.header()
    with refused("StillTrusted"):
        world.transact("proposeRestart", header, addresses(world.ppdl.keys))
    with refused("StillTrusted"):
        world.transact("restart", header, addresses(world.ppdl.keys))


def test_attack_a_new_start_by_others_or_early_or_of_something_else(world):
    world.submit()
    world.transact("freeze", FIRST_SET, *world.fork())
    keys = validator_keys(5, "newcomer")
    world.ppdl.next_keys = keys
    header = world.ppdl.extend()
    stranger = world.chain.client("stranger")
    with refused("NotGuardian"):
        world.transact("proposeRestart", header, addresses(keys), client=stranger)
    with refused("WrongValidators"):
        world.transact("proposeRestart", header, addresses(world.ppdl.keys))
    with refused("MalformedBatch"):
        world.transact("proposeRestart", header + b"\0", addresses(keys))
    with refused("WrongHeader"):
        world.transact("proposeRestart", world.ppdl.header(chain_id=2), addresses(keys))
    with refused("NotProposed"):
        world.transact("restart", header, addresses(keys))
    world.transact("proposeRestart", header, addresses(keys))
    restart_from = world.call("restartFrom")
    with refused("TooEarly"):
        world.transact("restart", header, addresses(keys), client=stranger)
    another = world.ppdl.headers[0]
    with refused("NotProposed"):
        world.transact("restart", another, addresses(world.ppdl.keys))
    block, _ = world.chain.block_at(restart_from - 1 - world.client.block("latest").timestamp)
    with refused("TooEarly"):
        world.client.call(world.relay, "restart", header, addresses(keys), at=block)
    block, _ = world.chain.block_at(1)
    world.client.call(world.relay, "restart", header, addresses(keys), at=block)
    world.transact("restart", header, addresses(keys), client=stranger)
    world.ppdl.keys, world.ppdl.next_keys = keys, None
    world.submit()
    assert world.call("height") == 3
    assert world.call("validators") == tuple("0x" + address.hex() for address in addresses(keys))
    with refused("StillTrusted"):
        world.transact("restart", header, addresses(keys))


def test_attack_evidence_from_before_a_new_start_freezes_again(world):
    world.submit()
    before = world.fork()
    world.transact("freeze", FIRST_SET, *before)
    header = world.ppdl.extend()
    start_anew(world, header, world.ppdl.keys)
    assert not world.call("frozen")
    for number in (FIRST_SET, FIRST_SET + 1):
        with refused("NoConflict"):
            world.transact("freeze", number, *before)
    world.transact("freeze", FIRST_SET + 1, *world.fork())


def test_a_new_start_gives_up_what_the_wrong_branch_said(world):
    events = [slot_event(1, 1, 5, 100, 50)]
    world.ppdl.extend(events)
    world.submit(2, behind=1)
    assert world.call("appHashAt", 2) != bytes(32)
    world.transact("freeze", FIRST_SET, *world.fork())
    proof = world.ppdl.proof(1, events, 0)
    app_hash = keccak256(b"of the right branch")
    header = world.ppdl.extend(app_hash=app_hash, height=9)
    start_anew(world, header, world.ppdl.keys)
    assert world.call("height") == 9
    assert world.call("lastHeaderHash") == keccak256(header)
    assert world.call("appHashAt", 9) == app_hash
    assert [world.call("appHashAt", height) for height in (1, 2, 3, 8, 10)] == [bytes(32)] * 5
    assert not world.call("verifyEvent", events[0], proof)


def test_a_new_start_may_go_back(world):
    world.submit(5)
    world.transact("freeze", FIRST_SET, *world.fork())
    start_anew(world, world.ppdl.headers[2], world.ppdl.keys)
    assert world.call("height") == 3
    del world.ppdl.headers[3:]
    world.ppdl.last_hash = keccak256(world.ppdl.headers[2])
    world.submit(tx_root=b"\5" * 32)
    assert world.call("appHashAt", 5) == bytes(32)


def test_an_announced_set_is_forgotten_by_a_new_start(world):
    world.ppdl.next_keys = validator_keys(4, "newcomer")
    world.submit()
    world.ppdl.next_keys = None
    world.chain.skip(15 * DAY)
    header = world.ppdl.header(height=7)
    start_anew(world, header, world.ppdl.keys)
    assert world.call("pendingValidatorsHash") == bytes(32)
    with refused("NoValidatorChangePending"):
        world.transact("applyValidators", addresses(validator_keys(4, "newcomer")))


def test_the_office_of_the_guardian_is_handed_on(world):
    stranger = world.chain.client("stranger")
    with refused("NotGuardian"):
        world.transact("setGuardian", stranger.address, client=stranger)
    world.transact("setGuardian", stranger.address)
    with refused("NotGuardian"):
        world.transact("setRelayers", [])
    world.transact("setRelayers", [], client=stranger)


def test_the_address_of_a_created_contract_at_every_length_of_its_number(chain):
    client = chain.client("deployer")
    harness, tx_hash = client.create(load_artifact("testing/CreatedAddressHarness"))
    client.wait(tx_hash)
    for nonce in (1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x101, 0xFFFF):
        expected = "0x" + create_address(harness.address, nonce).hex()
        assert client.call(harness, "addressOf", harness.address, nonce) == expected


def test_sets_are_found_by_number_through_changes(world):
    for change in range(3):
        world.change_set(validator_keys(4 + change, f"reign {change}"))
    assert world.call("setNumber") == FIRST_SET + 3
    assert world.call("validatorsHash") == world.ppdl.validators_hash(world.ppdl.keys)
    world.submit()


def test_a_drift_that_would_overflow_is_refused_at_once(chain):
    client = chain.client("deployer")
    members = addresses(validator_keys(4))
    with refused("DriftTooLong"):
        client.create(load_artifact("PpdlRelay"), PPDL_CHAIN_ID, GENESIS_HASH, members, 0, 2**63 + 1)
