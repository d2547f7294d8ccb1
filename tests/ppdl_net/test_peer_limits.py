"""What one peer and what strangers may cost: token buckets and the door, with time passed in; inbox and intake in bytes."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ppdl.net import limits
from hub.ppdl.net.limits import (
    BYTES_BURST,
    BYTES_PER_S,
    FRAMES_BURST,
    FRAMES_PER_BLOCK,
    FRAMES_PER_S,
    MAX_DEBT_S,
    MAX_HOSTS,
    MAX_STRANGERS,
    MAX_STRANGERS_OF_ONE_HOST,
    STRANGERS_BURST,
    Door,
    PeerAllowance,
    Progress,
    TokenBucket,
)
from hub.ppdl.net.queues import INBOX_BYTES_PER_SENDER, INBOX_PER_SENDER, INTAKE_BYTES, FairFrames, FairInbox
from hub.ppdl.net.tcp import BACKOFF_FIRST_S, BACKOFF_JITTER, BACKOFF_LAST_S, backoff
from hub.ppdl.net.transport import BLAME_FRAMES, MAX_FRAME_BYTES
from hub.ppdl.snapshots.manifest import MAX_MANIFEST_BYTES

SIMULATED_BLOCKS = 10_000


def sent_in(seconds: float, size: int, blamed: bool = False) -> int:
    """Frames that a peer gets through which sends as fast as it is read."""
    now, allowance, count = 0.0, PeerAllowance(0.0), 0
    while now <= seconds:
        count += 1
        now += allowance.pay(size, now)
        if blamed:
            allowance.blame(BLAME_FRAMES, now)
    return count


def test_a_flood_gets_the_burst_and_then_the_rate() -> None:
    assert sent_in(10, 100) == FRAMES_BURST + 10 * FRAMES_PER_S + 1
    assert sent_in(100, MAX_FRAME_BYTES) == (BYTES_BURST + 100 * BYTES_PER_S) // MAX_FRAME_BYTES + 1


def test_garbage_gets_a_hundredth_of_it() -> None:
    assert sent_in(100, 100, blamed=True) <= (FRAMES_BURST + 100 * FRAMES_PER_S) // BLAME_FRAMES + 2
    assert 1 <= FRAMES_PER_S / BLAME_FRAMES < 2


@pytest.mark.parametrize("n", [4, 16])
@pytest.mark.parametrize(("blocks_per_s", "block_bytes"), [(2, 2**21), (60, 100_000), (1_000, 1_000)])
def test_an_honest_validator_never_waits_however_fast_blocks_come(n: int, blocks_per_s: int, block_bytes: int) -> None:
    """Each block: PREPARE, COMMIT, its share of the transactions, a proposal in its turn; and 50 other frames a second."""
    allowance, other = PeerAllowance(0.0), 50 / blocks_per_s
    owed = 0.0
    for height in range(min(60 * blocks_per_s, SIMULATED_BLOCKS)):
        now_s, decided = height / blocks_per_s, Progress(height, height * block_bytes)
        sizes = [200, 200, block_bytes // n] + [block_bytes] * (height % n == 0)
        owed += other
        while owed >= 1:
            sizes.append(1_000)
            owed -= 1
        assert [allowance.pay(size, now_s, decided) for size in sizes] == [0] * len(sizes)


def test_a_block_gives_each_peer_some_frames_and_its_bytes_up_to_the_burst() -> None:
    allowance = PeerAllowance(0.0)
    assert [allowance.pay(0, 0.0) for _ in range(FRAMES_BURST)] == [0] * FRAMES_BURST
    assert [allowance.pay(0, 0.0, Progress(2, 500)) for _ in range(2 * FRAMES_PER_BLOCK)] == [0] * 2 * FRAMES_PER_BLOCK
    assert allowance.pay(0, 0.0, Progress(2, 500)) > 0
    allowance = PeerAllowance(0.0)
    assert allowance.pay(BYTES_BURST, 0.0) == 0
    assert allowance.pay(500, 0.0, Progress(1, 500)) == 0 < allowance.pay(1, 0.0, Progress(1, 500))
    assert allowance.pay(BYTES_BURST, 0.0, Progress(10**6, 10**12)) == 0 < allowance.pay(10_000, 0.0, Progress(10**6, 10**12))


def test_a_flood_takes_no_more_of_a_block_than_that() -> None:
    """Frames of a peer that are read in 60 s at 40 blocks a second, whatever it sends."""
    now, allowance, count = 0.0, PeerAllowance(0.0), 0
    while now <= 60:
        count += 1
        now += allowance.pay(100, now, Progress(int(now * 40), int(now * 40_000)))
    assert count <= FRAMES_BURST + 60 * (FRAMES_PER_S + 40 * FRAMES_PER_BLOCK) + 1


def test_a_peer_back_from_an_outage_empties_its_queue_at_once() -> None:
    allowance = PeerAllowance(0.0)
    assert [allowance.pay(4_000, 0.0) for _ in range(1024)] == [0] * 1024


def test_blame_is_forgotten_in_bounded_time() -> None:
    allowance = PeerAllowance(0.0)
    for _ in range(10_000):
        allowance.blame(BLAME_FRAMES, 0.0)
    assert allowance.pay(1, 0.0) <= MAX_DEBT_S
    assert allowance.pay(1, MAX_DEBT_S + 0.01) == 0


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 200)), max_size=60))
def test_a_bucket_never_gives_more_than_burst_and_rate(steps: list[tuple[int, int]]) -> None:
    """In every stretch of time from the start: what was taken without waiting is at most burst + rate * time."""
    bucket, now, free = TokenBucket(50, 100, 0.0), 0.0, 0
    for gap_ms, count in steps:
        now += gap_ms / 1000
        if bucket.level(now) >= count:
            free += count
        bucket.take(count, now)
        assert free <= 100 + 50 * now + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(10, 10, 100.0)
    bucket.take(10, 100.0)
    assert bucket.level(50.0) == 0 and bucket.level(51.0) == pytest.approx(10)  # from the new time on


def test_the_door_is_bounded_and_no_host_takes_all_places() -> None:
    door = Door()
    assert [door.enter("a", 0.0) for _ in range(MAX_STRANGERS_OF_ONE_HOST)] == [None] * MAX_STRANGERS_OF_ONE_HOST
    assert door.enter("a", 0.0) == "too many connections of one host are in their hello"
    assert [door.enter("b", 0.0) for _ in range(MAX_STRANGERS - MAX_STRANGERS_OF_ONE_HOST)].count(None) == 32
    assert door.enter("c", 0.0) == "too many connections are in their hello"
    door.leave("a")
    assert door.enter("c", 0.0) is None and door.inside == MAX_STRANGERS


def test_one_host_may_not_come_too_often_and_others_may() -> None:
    door, entered = Door(), 0
    for _ in range(10 * STRANGERS_BURST):
        if door.enter("a", 0.0) is None:
            entered += 1
            door.leave("a")
    assert entered == STRANGERS_BURST
    assert door.enter("a", 0.0) == "one host connects too often"
    assert door.enter("b", 0.0) is None
    assert door.enter("a", 1.0) is None


def test_hosts_are_forgotten_in_bounded_memory() -> None:
    door = Door()
    for i in range(5 * MAX_HOSTS):
        assert door.enter(f"host-{i}", 0.0) is None
        door.leave(f"host-{i}")
    assert len(door._rates) == MAX_HOSTS and not door._of_host


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=300))
def test_the_door_counts_right(steps: list[tuple[str, bool]]) -> None:
    door, inside = Door(), {"a": 0, "b": 0, "c": 0}
    for host, comes in steps:
        if comes and door.enter(host, 0.0) is None:
            inside[host] += 1
        elif not comes and inside[host]:
            door.leave(host)
            inside[host] -= 1
        assert door.inside == sum(inside.values()) <= MAX_STRANGERS
        assert door._of_host == {name: count for name, count in inside.items() if count}


async def test_the_inbox_holds_bounded_bytes_of_a_sender() -> None:
    inbox: FairInbox[int] = FairInbox()
    half = INBOX_BYTES_PER_SENDER // 2

    async def flood() -> None:
        for i in range(20):
            await inbox.put(b"flood", i, half if i else MAX_FRAME_BYTES)

    flooding = asyncio.create_task(flood())
    seen = []
    while len(seen) < 20:
        await asyncio.sleep(0)
        count, size = inbox.waiting(b"flood")
        assert count <= INBOX_PER_SENDER and size <= max(INBOX_BYTES_PER_SENDER, MAX_FRAME_BYTES)
        if count:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(inbox.room(b"flood", MAX_FRAME_BYTES), 0.001)
        if inbox.waiting(b"quiet") == (0, 0):
            await asyncio.wait_for(inbox.put(b"quiet", -1, 10), 1)  # never waits behind the flood
        item = await inbox.get()
        if item >= 0:
            seen.append(item)
    assert seen == list(range(20))  # in order, and none is lost
    await flooding


async def test_the_inbox_in_any_order_loses_nothing_and_keeps_each_senders_order() -> None:
    source = random.Random(4)
    inbox: FairInbox[tuple[bytes, int]] = FairInbox()
    sizes = {name: [source.choice((0, 10, 10**6, MAX_FRAME_BYTES)) for _ in range(200)] for name in (b"a", b"b", b"c")}

    async def put(name: bytes) -> None:
        for i, size in enumerate(sizes[name]):
            await inbox.put(name, (name, i), size)

    putting = [asyncio.create_task(put(name)) for name in sizes]
    taken: dict[bytes, list[int]] = {name: [] for name in sizes}
    async with asyncio.timeout(20):
        for _ in range(600):
            name, i = await inbox.get()
            taken[name].append(i)
    assert all(order == list(range(200)) for order in taken.values())
    await asyncio.gather(*putting)


def test_the_intake_holds_bounded_bytes_of_a_sender() -> None:
    frames = FairFrames()
    dropped = sum(frames.put(b"flood", bytes(256 * 1024)) for _ in range(100))
    assert dropped == 100 - INTAKE_BYTES // (256 * 1024)
    assert frames.put(b"quiet", b"x") == 0
    assert frames.put(b"flood", bytes(MAX_MANIFEST_BYTES)) == INTAKE_BYTES // (256 * 1024)  # for one larger frame all others go
    assert frames.put(b"quiet", bytes(MAX_MANIFEST_BYTES)) == 1


def pauses(seed: int, count: int = 12) -> list[float]:
    source, wait, found = random.Random(seed), BACKOFF_FIRST_S, []
    for _ in range(count):
        pause, wait = backoff(wait, source)
        found.append(pause)
    return found


def test_back_off_doubles_is_bounded_and_repeatable() -> None:
    assert pauses(1) == pauses(1) != pauses(2)
    for i, pause in enumerate(pauses(3)):
        wait = min(BACKOFF_FIRST_S * 2**i, BACKOFF_LAST_S)
        assert wait <= pause <= wait * (1 + BACKOFF_JITTER)


def test_limits_fit_the_frames_they_are_for() -> None:
    assert BYTES_BURST >= 2 * MAX_FRAME_BYTES and limits.FRAMES_BURST >= 1024
