"""PpdlRelay: rewards, turns, and the short form of a header, with the gas they cost."""

from __future__ import annotations

import random

import pytest
from evm_world import Chain, refused, validator_keys
from relay_world import REWARD_WEI, RelayWorld, new_relay_world

from openmg.hashing import keccak256
from openmg.signing import address_of

TURN = 64
WINDOW_MS = 4_000
NAMES = ("one", "two", "three")


@pytest.fixture
def world(chain: Chain) -> RelayWorld:
    return new_relay_world(chain, fund_wei=10_000)


def take_turns(world: RelayWorld) -> list[bytes]:
    """Three relayers take turns, and headers are of this moment."""
    relayers = [world.chain.client(name).address for name in NAMES]
    world.transact("setRelayers", relayers)
    world.ppdl.timestamp_ms = world.now_ms()
    return relayers


def fresh(world: RelayWorld, count: int = 1, name: str = "one") -> None:
    """Headers of this very moment, submitted by somebody."""
    at_ms = max(world.call("lastTimestampMs"), world.now_ms())
    world.submit(count, client=world.chain.client(name), timestamp_ms=at_ms)


def earned(world: RelayWorld) -> list[int]:
    return [world.call("earned", world.chain.client(name).address) // REWARD_WEI for name in NAMES]


def test_attack_a_copied_transaction_earns_nothing_in_the_window(world):
    take_turns(world)
    copier = world.chain.client("copier")
    world.submit(client=copier)
    assert world.call("earned", copier.address) == 0
    assert earned(world) == [1, 0, 0]
    header = world.ppdl.headers[0]
    with refused("WrongHeader"):  # and the original is no second reward
        world.transact("submitHeaders", header, 0, world.ppdl.seals(header, 1), client=world.chain.client("one"))
    assert earned(world) == [1, 0, 0]


def test_after_the_window_the_first_submission_earns(world):
    take_turns(world)
    world.chain.skip(WINDOW_MS // 1_000 + 2)
    world.submit(client=world.chain.client("three"))
    assert earned(world) == [0, 0, 1]


def test_the_window_ends_to_the_second(world):
    take_turns(world)
    header = world.ppdl.extend()
    arguments = header, 0, world.ppdl.seals(header, 1)
    late = world.chain.client("late")
    at_ms = int.from_bytes(header[128:160], "big")
    for ahead, own in ((WINDOW_MS // 1_000, False), (WINDOW_MS // 1_000 + 1, True)):
        with world.chain.undone():
            late.rpc("evm_setNextBlockTimestamp", at_ms // 1_000 + ahead)
            late.transact(world.relay, "submitHeaders", *arguments, gas=500_000)
            assert world.call("earned", late.address) == (REWARD_WEI if own else 0)
        late.forget_nonce()


def test_turns_pass_on_and_are_booked(world):
    relayers = take_turns(world)
    fresh(world, TURN - 1)
    assert world.call("relayerOf", TURN - 1) == "0x" + relayers[0].hex()
    assert world.call("relayerOf", TURN) == "0x" + relayers[1].hex()
    assert earned(world) == [TURN - 1, 0, 0]
    fresh(world, TURN)
    assert earned(world) == [TURN - 1, TURN, 0]
    fresh(world, TURN)
    fresh(world, TURN)
    assert earned(world) == [2 * TURN - 1, TURN, TURN]
    assert world.call("rewardFund") == 10_000 - REWARD_WEI * (4 * TURN - 1)
    for name in NAMES:
        client = world.chain.client(name)
        before, due = client.balance(client.address), world.call("earned", client.address)
        world.transact("claimReward", client=client)
        assert client.balance(client.address) == before + due
        with refused("NothingToClaim"):
            world.transact("claimReward", client=client)
    assert client.balance(world.relay.address) == world.call("rewardFund")


def test_a_latecomer_does_not_take_what_a_turn_has_earned(world):
    take_turns(world)
    fresh(world, 5)
    world.chain.skip(60)
    world.submit(2, client=world.chain.client("late"))
    assert earned(world) == [5, 0, 0]
    assert world.call("earned", world.chain.client("late").address) == 2 * REWARD_WEI


def test_a_change_of_relayers_books_the_turn_to_who_had_it(world):
    take_turns(world)
    fresh(world, 5)
    world.transact("setRelayers", [world.chain.client("three").address])
    fresh(world, 2)
    assert earned(world) == [5, 0, 2]


def test_rewards_of_a_turn_end_with_the_fund(chain):
    world = new_relay_world(chain, fund_wei=3 * REWARD_WEI + 1)
    take_turns(world)
    fresh(world, 5)
    client = chain.client("one")
    assert world.call("earned", client.address) == 3 * REWARD_WEI + 1
    assert world.call("rewardFund") == 0
    world.transact("claimReward", client=client)
    assert client.balance(world.relay.address) == 0
    fresh(world, TURN)
    with refused("NothingToClaim"):
        world.transact("claimReward", client=chain.client("two"))


@pytest.mark.parametrize(("count", "right"), [(0, True), (64, True), (65, False)])
def test_the_list_of_relayers_is_bounded(world, count, right):
    relayers = [bytes(19) + bytes([1 + i]) for i in range(count)]
    if right:
        world.transact("setRelayers", relayers)
        assert len(world.call("relayers")) == count
    else:
        with refused("InvalidRelayers"):
            world.transact("setRelayers", relayers)


def test_only_the_guardian_names_relayers_and_never_nobody(world):
    with refused("InvalidRelayers"):
        world.transact("setRelayers", [bytes(20)])
    with refused("NotGuardian"):
        world.transact("setRelayers", [], client=world.chain.client("stranger"))


def test_rewards_against_an_account_book_kept_by_hand(world):
    """Random submissions, turns and claims: what is earned and the fund always add up to what was paid in."""
    dice = random.Random(4)
    relayers = take_turns(world)
    book = dict.fromkeys(relayers, 0) | {world.chain.client("late").address: 0}
    for _ in range(25):
        late = dice.random() < 0.3
        if late:
            world.chain.skip(30)
        count = dice.randrange(1, 20)
        if not late:
            world.ppdl.timestamp_ms = max(world.ppdl.timestamp_ms, world.now_ms())
        world.submit(count, client=world.chain.client("late"))
        last = len(world.ppdl.headers)
        at_ms = int.from_bytes(world.ppdl.headers[-1][128:160], "big")
        in_window = world.now_ms() <= at_ms + WINDOW_MS
        earner = relayers[last // TURN % 3] if in_window else world.chain.client("late").address
        book[earner] += count * REWARD_WEI
        assert {who: world.call("earned", who) for who in book} == book
        assert world.call("rewardFund") == 10_000 - sum(book.values())


def random_header(world: RelayWorld, dice: random.Random) -> bytes:
    """No byte is cheap by chance."""
    world.ppdl.app_hash = dice.randbytes(32)
    return world.ppdl.extend(tx_root=dice.randbytes(32), proposer=dice.randbytes(20))


@pytest.mark.parametrize(("validators", "limit"), [(4, 60_000), (16, 105_000)])
def test_gas_of_one_header(chain, validators, limit):
    """A whole transaction of the relayer whose turn it is, where the history has a place."""
    world, dice = new_relay_world(chain, validators, fund_wei=10_000), random.Random(1)
    take_turns(world)
    world.transact("prepareHistory", 8)
    for number in range(1, 6):
        header = random_header(world, dice)
        gas = world.short(header, world.ppdl.seals(header, number)).gas_used
        assert gas <= limit or number == 1, gas  # the first writes words that were zero


def test_short_and_long_form_lead_to_the_same(world):
    dice = random.Random(2)
    for number in range(1, 5):
        header = random_header(world, dice)
        seals = world.ppdl.seals(header, number, view=3)
        with world.chain.undone():
            world.transact("submitHeaders", header, 3, seals)
            long = state(world)
        world.client.forget_nonce()
        world.short(header, seals, view=3)
        assert state(world) == long


def state(world: RelayWorld) -> list[object]:
    asked = ("height", "lastHeaderHash", "lastTimestampMs", "setNumber", "pendingValidatorsHash")
    return [world.call(name) for name in asked] + [world.call("appHashAt", height) for height in range(6)]


def test_attack_any_field_of_the_short_form_changed(world):
    world.submit()
    header = world.ppdl.extend()
    seals = world.ppdl.seals(header, 2)
    for changed in ({"tx_root": b"\1" * 32}, {"app_hash": b"\1" * 32}, {"set_hash": b"\1" * 32}):
        with refused("NotASigner"):
            world.short(header, seals, **changed)
    for word, value in ((4, 1_501), (5, 9)):
        wrong = header[: word * 32] + value.to_bytes(32, "big") + header[(word + 1) * 32 :]
        with refused("NotASigner"):
            world.short(wrong, seals)
    with refused("NotASigner"):
        world.short(header, seals, view=1)
    with refused("WrongSealCount"):
        world.short(header, seals[:130])
    with refused("WrongSealCount"):
        world.short(header, seals + b"\0")
    world.short(header, seals)
    with refused("NotASigner"):
        world.short(header, seals)


def test_attack_the_short_form_with_another_set_time_or_announcement(world):
    world.submit()
    foreign = world.ppdl.header(validators_hash=b"\7" * 32, next_validators_hash=b"\7" * 32)
    with refused("WrongHeader"):
        world.short(foreign, world.ppdl.seals(foreign, 2))
    early = world.ppdl.header(timestamp_ms=999)
    with refused("WrongHeader"):
        world.short(early, world.ppdl.seals(early, 2))
    ahead = world.ppdl.header(timestamp_ms=world.now_ms() + 120_000)
    with refused("WrongHeader"):
        world.short(ahead, world.ppdl.seals(ahead, 2))
    world.ppdl.next_keys = validator_keys(4, "newcomer")
    announcing = world.ppdl.header()
    with refused("NotASigner"):
        world.short(announcing, world.ppdl.seals(announcing, 2))
    world.submit()
    with refused("ValidatorChangePending"):
        world.short(announcing, world.ppdl.seals(announcing, 2))


def test_history_places_are_paid_for_once_and_prove_nothing(world):
    world.transact("prepareHistory", 3)
    again = world.transact("prepareHistory", 3).gas_used
    assert again < 40_000
    assert [world.call("appHashAt", height) for height in range(5)] == [bytes(32)] * 5
    assert not world.call("isFinal", 1, (1).to_bytes(32, "big"))
    first = world.submit().gas_used
    world.submit(2)
    fifth = world.submit(1).gas_used  # height 4 was not prepared
    assert fifth > first - 17_100  # height 1 paid for two other words, and not for this one
    with refused("StillTrusted"):
        world.transact("proposeRestart", world.ppdl.header(), [address_of(key) for key in world.ppdl.keys])


def test_history_forgets_the_oldest(world):
    """The history is a ring: with a start at a late height its first place is written again."""
    length = world.call("HISTORY_HEIGHTS")
    world.submit()
    world.chain.skip(15 * 86_400)
    start = world.ppdl.header(height=3 * length - 1)
    members = [address_of(key) for key in world.ppdl.keys]
    world.transact("proposeRestart", start, members)
    world.chain.skip(15 * 86_400)
    world.transact("restart", start, members)
    world.ppdl.last_hash = keccak256(start)
    for height in (3 * length, 3 * length + 1):
        header = world.ppdl.header(height=height, app_hash=bytes([height - 3 * length + 1]) * 32)
        world.transact("submitHeaders", header, 0, world.ppdl.seals(header, height))
        world.ppdl.last_hash = keccak256(header)
    assert world.call("appHashAt", 3 * length) == b"\1" * 32
    assert world.call("appHashAt", 3 * length + 1) == b"\2" * 32
    assert [world.call("appHashAt", height) for height in (0, 1, length, 2 * length, 2 * length + 1)] == [bytes(32)] * 5


def test_what_a_turn_has_earned_comes_before_what_a_latecomer_earns(chain):
    world = new_relay_world(chain, fund_wei=6 * REWARD_WEI)
    take_turns(world)
    fresh(world, 5)
    world.chain.skip(60)
    world.submit(5, client=chain.client("late"))
    assert earned(world) == [5, 0, 0]
    assert world.call("earned", chain.client("late").address) == REWARD_WEI


def test_a_height_whose_place_was_written_again_is_known_no_more(world):
    """The head is moved ahead by hand, because nobody relays 2^18 headers in a test."""
    length = world.call("HISTORY_HEIGHTS")
    world.submit(3)
    words_ = {
        slot: int(world.client.rpc("eth_getStorageAt", world.relay.checksum_address, hex(slot), "latest"), 16)
        for slot in range(8)
    }
    (slot,) = (slot for slot, word in words_.items() if word & (2**40 - 1) == 3 and word >> 144 & 0xFFFF == 2)
    world.chain.set_storage(world.relay, slot, words_[slot] - 3 + length)
    assert world.call("height") == length
    header = world.ppdl.header(height=length + 1, app_hash=b"\1" * 32)
    world.transact("submitHeaders", header, 0, world.ppdl.seals(header, length + 1))
    assert world.call("appHashAt", length + 1) == b"\1" * 32
    assert world.call("appHashAt", 1) == bytes(32)
    assert not world.call("isFinal", 1, b"\1" * 32)
    assert world.call("appHashAt", 2) == world.ppdl.headers[1][224:256]
