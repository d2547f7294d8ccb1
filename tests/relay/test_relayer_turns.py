"""Relayers that take turns: none pays for what another is paid for, and nothing stays behind when one is gone."""

from __future__ import annotations

import logging

import pytest
from evm_world import Chain, PpdlChain, validator_keys
from relay_world import REWARD_WEI, RelayWorld, new_relay_world

from hub.ppdl.rows import SignedHeader
from hub.relay.relayer import MAX_BACK_OFF_SECONDS, Relayer, SourceError
from openmg.signing import address_of

TURN = 64
WINDOW_MS, STEP_MS = 4_000, 1_000
NAMES = ("one", "two", "three")


class Source:
    """Decided headers of a chain of hand-made keys."""

    def __init__(self, ppdl: PpdlChain) -> None:
        self.ppdl = ppdl
        self.sealed: list[SignedHeader] = []

    def decide(self, count: int, timestamp_ms: int, view: int = 0) -> None:
        for _ in range(count):
            header = self.ppdl.extend(timestamp_ms=timestamp_ms)
            seals = self.ppdl.seals(header, len(self.ppdl.headers), view)
            self.sealed.append(SignedHeader(header, view, tuple(seals[i : i + 65] for i in range(0, len(seals), 65))))

    def headers_after(self, height: int, limit: int) -> list[SignedHeader]:
        return self.sealed[height : height + limit]

    def validators_at(self, height: int) -> list[bytes]:
        return [address_of(key) for key in self.ppdl.keys]


class Team:
    """Three relayers that take turns, a fourth that does not, and the moment they all believe in."""

    def __init__(self, chain: Chain) -> None:
        self.world: RelayWorld = new_relay_world(chain, fund_wei=10**6)
        self.world.transact("setRelayers", [chain.client(name).address for name in NAMES])
        self.source = Source(self.world.ppdl)
        self.ms = self.world.now_ms()
        self.relayers = [
            Relayer(chain.client(name), self.world.relay, self.source, validators=self.source, now=self.now)
            for name in (*NAMES, "outsider")
        ]

    def now(self) -> float:
        return self.ms / 1_000

    def later(self, milliseconds: int) -> None:
        """Time passes, on the chain as for the relayers."""
        self.ms += milliseconds
        self.world.chain.skip(milliseconds // 1_000)

    def turn(self) -> list[int]:
        return [relayer.relay_next() for relayer in self.relayers]


@pytest.fixture
def team(chain: Chain) -> Team:
    return Team(chain)


def test_only_the_relayer_whose_turn_it_is_submits_a_fresh_header(team):
    team.source.decide(1, team.ms)
    assert [team.relayers[i].relay_next() for i in (1, 2, 3, 0)] == [0, 0, 0, 1]
    assert [relayer.status().waits for relayer in team.relayers] == [0, 1, 1, 1]
    assert all(relayer.status().races_lost == relayer.status().failures == 0 for relayer in team.relayers)
    assert team.turn() == [0, 0, 0, 0]


def test_a_batch_ends_where_the_turn_does(team):
    team.source.decide(2 * TURN, team.ms)
    assert team.turn() == [TURN - 1, TURN, 1, 0]
    earned = [team.world.call("earned", relayer.client.address) // REWARD_WEI for relayer in team.relayers]
    assert earned == [TURN - 1, TURN, 1, 0]


def test_the_others_step_in_one_after_another(team):
    """Who would come next in turn comes first; who has no turn comes last."""
    order = []
    for count, waited in enumerate((1, STEP_MS + 1, 2 * STEP_MS + 1)):
        team.source.decide(1, team.ms)
        team.later(WINDOW_MS + waited)
        outsider, third, second = team.relayers[3], team.relayers[2], team.relayers[1]
        acting = [relayer for relayer in (outsider, third, second) if relayer.relay_next()]
        order.append([team.relayers.index(relayer) for relayer in acting])
        assert team.world.call("height") == count + 1
    assert order == [[1], [2], [3]]


def test_a_late_relayer_that_may_takes_all_that_was_left(team):
    team.source.decide(3, team.ms)
    team.later(60_000)
    team.source.decide(2, team.ms)
    assert team.relayers[2].relay_next() == 3  # the two fresh ones are the first relayer's
    assert team.relayers[0].relay_next() == 2
    assert team.world.call("earned", team.relayers[2].client.address) == 3 * REWARD_WEI


def test_one_header_goes_in_the_short_form_and_costs_less(team):
    team.world.transact("prepareHistory", 8)
    team.source.decide(1, team.ms)
    team.turn()
    gas = []
    for view in (3, 2**32):  # the second view fits no short form
        team.source.decide(1, team.ms, view)
        before = team.relayers[0].status().gas_used
        assert team.relayers[0].relay_next() == 1
        gas.append(team.relayers[0].status().gas_used - before)
    assert gas[0] < 60_000 < gas[1]


def test_a_set_change_is_applied_by_whoever_comes_next(team):
    ppdl = team.world.ppdl
    ppdl.next_keys = validator_keys(7, "newcomer")
    team.source.decide(1, team.ms)
    ppdl.keys, ppdl.next_keys = ppdl.next_keys, None
    team.source.decide(2, team.ms)
    assert [team.relayers[0].relay_next() for _ in range(3)] == [1, 2, 0]
    assert team.world.call("setNumber") == 3


async def test_trouble_is_said_once_visible_and_waited_for_longer_each_time(team, caplog):
    relayer = team.relayers[0]
    working = relayer._source

    class Broken:
        def headers_after(self, height: int, limit: int) -> list[SignedHeader]:
            raise SourceError("the file is away")

    relayer._source = Broken()
    waits = []
    with caplog.at_level(logging.WARNING):
        for _ in range(9):
            assert await relayer.turn() == 0
            waits.append(relayer.wait_seconds)
    assert waits == [0.5, 1, 2, 4, 8, 16, MAX_BACK_OFF_SECONDS, MAX_BACK_OFF_SECONDS, MAX_BACK_OFF_SECONDS]
    assert len(caplog.records) == 1
    assert (relayer.status().failures, relayer.status().trouble) == (9, "the file is away")
    relayer._source = working
    team.source.decide(1, team.ms)
    assert await relayer.turn() == 1
    assert (relayer.status().trouble, relayer.wait_seconds) == ("", 0.5)


async def test_a_frozen_contract_is_trouble_and_not_a_lost_race(team):
    team.world.transact("freeze", 2, *team.world.fork())
    team.source.decide(1, team.ms)
    assert await team.relayers[0].turn() == 0
    status = team.relayers[0].status()
    assert "RelayFrozen" in status.trouble
    assert (status.failures, status.races_lost) == (1, 0)
