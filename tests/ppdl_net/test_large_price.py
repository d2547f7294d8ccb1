"""What a large frame costs its peer: little when it was asked for or blocks are large, much when it comes out of season."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from hub.ppdl.driver import Driver
from hub.ppdl.gate import LARGE_DISCOUNT, SEASON_BLOCKS, UNSEASONED_PRICE, EngineGate
from hub.ppdl.net.limits import BYTES_BURST, BYTES_PER_S, PeerAllowance
from hub.ppdl.net.transport import LARGE_PAYLOAD_BYTES, MAX_FRAME_BYTES, MAX_UNASKED_BYTES, Channel
from hub.ppdl.snapshots.service import SnapshotService

VALIDATOR, ASKED, STRANGER = b"v" * 20, b"a" * 20, b"s" * 20
SIZE = 2 * 1024 * 1024


def gate(height: int = 100, last_large: int = 0, proposal_bytes: int = 0) -> EngineGate:
    """The gate of an engine at that height; only what it reads of its driver is here."""
    proposal = SimpleNamespace(block=SimpleNamespace(size=proposal_bytes)) if proposal_bytes else None
    replica = SimpleNamespace(
        tip=SimpleNamespace(validators={VALIDATOR}, next_validators={VALIDATOR}),
        height=height,
        state=SimpleNamespace(proposal=proposal),
    )
    driver: Any = SimpleNamespace(asked=ASKED, last_large_height=last_large, replica=replica)
    return EngineGate(lambda: cast(Driver, driver), lambda: cast(SnapshotService, None))


@pytest.mark.parametrize(
    ("subject", "price"),
    [
        (gate(), SIZE * UNSEASONED_PRICE),
        (gate(last_large=100 - SEASON_BLOCKS), SIZE // LARGE_DISCOUNT),
        (gate(last_large=99 - SEASON_BLOCKS), SIZE * UNSEASONED_PRICE),
        (gate(proposal_bytes=LARGE_PAYLOAD_BYTES + 1), SIZE // LARGE_DISCOUNT),
        (gate(proposal_bytes=LARGE_PAYLOAD_BYTES), SIZE * UNSEASONED_PRICE),
    ],
    ids=["quiet", "season", "over", "proposal", "small"],
)
def test_a_validator_pays_by_the_season(subject: EngineGate, price: int) -> None:
    assert subject.price(VALIDATOR, Channel.CONSENSUS, SIZE) == price


def test_who_was_asked_pays_little_and_strangers_the_bytes() -> None:
    subject = gate()
    assert subject.price(ASKED, Channel.CONSENSUS, SIZE) == SIZE // LARGE_DISCOUNT
    assert subject.price(STRANGER, Channel.CONSENSUS, SIZE) == SIZE
    assert subject.price(VALIDATOR, Channel.TX, SIZE) == SIZE


def test_what_is_passed_over_costs_its_bytes_and_no_more() -> None:
    too_long = MAX_UNASKED_BYTES + 1
    assert not gate().takes(VALIDATOR, Channel.CONSENSUS, too_long)
    assert gate().price(VALIDATOR, Channel.CONSENSUS, too_long) == too_long


@pytest.mark.parametrize("size", [SIZE, MAX_UNASKED_BYTES, MAX_FRAME_BYTES])
def test_the_first_large_frame_of_a_season_is_within_the_burst(size: int) -> None:
    assert gate().price(VALIDATOR, Channel.CONSENSUS, size) <= BYTES_BURST


@pytest.mark.parametrize("size", [LARGE_PAYLOAD_BYTES + 1, SIZE, MAX_UNASKED_BYTES, MAX_UNASKED_BYTES + 1, MAX_FRAME_BYTES])
def test_a_validator_within_its_limits_is_read_without_a_pause(size: int) -> None:
    # Else what it proposes would wait behind its own junk, and the chain in each of its turns for it.
    price = gate().price(VALIDATOR, Channel.CONSENSUS, size)
    allowance = PeerAllowance(0.0)
    assert all(allowance.pay(price, i * price / (0.9 * BYTES_PER_S)) == 0 for i in range(100))
