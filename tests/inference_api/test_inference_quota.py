"""Rates and margins are integers: what a bucket lets through is bounded for every course of time, margins are rounded down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.inference.outlook import reserve_margin_milli, tightest
from hub.inference.quota import MAX_PER_MINUTE, MS_PER_MINUTE, Buckets, Rate, day_of, until_tomorrow_s


def test_a_full_bucket_gives_a_minutes_worth_and_then_one_call_each_share_of_a_minute():
    buckets, rate = Buckets(), Rate(3)
    assert [buckets.take("a", rate, 1_000) for _ in range(4)] == [0, 0, 0, 20]
    assert buckets.take("a", rate, 20_999) == 1
    assert buckets.take("a", rate, 21_000) == 0
    assert buckets.take("a", rate, 21_000) == 20
    assert buckets.take("b", rate, 21_000) == 0  # nobody else pays for it


@given(per_minute=st.integers(1, MAX_PER_MINUTE), waits=st.lists(st.integers(0, 200_000), max_size=60))
def test_within_any_minute_at_most_two_minutes_worth_passes(per_minute: int, waits: list[int]):
    rate, now, passed = Rate(min(per_minute, 20)), 0, []
    bucket = rate.start(now)
    for wait in waits:
        now += wait
        bucket, refused_ms = rate.take(bucket, now)
        if not refused_ms:
            passed.append(now)
    for first in passed:
        assert sum(first <= moment < first + MS_PER_MINUTE for moment in passed) <= 2 * rate.per_minute


@given(per_minute=st.integers(1, MAX_PER_MINUTE), calls=st.integers(0, 50), passed=st.integers(0, 100_000))
def test_the_wait_that_is_told_is_right_to_the_millisecond(per_minute: int, calls: int, passed: int):
    rate = Rate(per_minute)
    bucket = rate.start(0)
    for _ in range(calls):
        bucket, _ = rate.take(bucket, 0)
    bucket, wait_ms = rate.take(bucket, passed)
    if wait_ms:
        assert rate.take(bucket, passed + wait_ms)[1] == 0
        assert rate.take(bucket, passed + wait_ms - 1)[1] == 1


def test_a_clock_that_runs_backwards_brings_nothing():
    rate = Rate(1)
    bucket, wait_ms = rate.take(rate.start(100_000), 100_000)
    assert wait_ms == 0
    bucket, wait_ms = rate.take(bucket, 10_000)
    assert wait_ms == MS_PER_MINUTE and rate.take(bucket, 100_000 + MS_PER_MINUTE - 1)[1] == 1


def test_buckets_are_bounded_and_the_longest_idle_goes_first():
    buckets, rate = Buckets(2), Rate(1)
    for name in ("a", "b", "a", "c"):  # b was idle longest
        buckets.take(name, rate, 0)
    assert len(buckets) == 2
    assert buckets.take("a", rate, 0) == 60 and buckets.take("b", rate, 0) == 0


@pytest.mark.parametrize("per_minute", [0, -1, MAX_PER_MINUTE + 1])
def test_rates_outside_their_bounds_are_refused(per_minute: int):
    with pytest.raises(ValueError, match="give 1 to"):
        Rate(per_minute)


def test_days_are_of_utc():
    assert (day_of(86_399), day_of(86_400)) == (0, 1)
    assert (until_tomorrow_s(86_399), until_tomorrow_s(86_400)) == (1, 86_400)


def test_reserve_margins_by_hand():
    assert reserve_margin_milli(20_000, 15_000) == 250
    assert reserve_margin_milli(20_000, 0) == 1000
    assert reserve_margin_milli(20_000, -5_000) == 1250
    assert reserve_margin_milli(20_000, 25_000) == -250
    assert reserve_margin_milli(3, 1) == 666 and reserve_margin_milli(3, 4) == -334  # both rounded down
    assert tightest([500, -2, 30, -2]) == 1
    for capacity in (0, -1, 10**12 + 1):
        with pytest.raises(ValueError, match="a capacity of"):
            reserve_margin_milli(capacity, 1)
    with pytest.raises(ValueError, match="no hour"):
        tightest([])


@given(capacity_w=st.integers(1, 10**12), p90_wh=st.integers(-(2**40), 2**40))
def test_a_margin_is_never_told_too_large(capacity_w: int, p90_wh: int):
    margin = reserve_margin_milli(capacity_w, p90_wh)
    assert margin * capacity_w <= 1000 * (capacity_w - p90_wh) < (margin + 1) * capacity_w
