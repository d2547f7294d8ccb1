"""The privacy budget on the chain: what is charged and when, where it stands, and the round that does not open."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_world import EPSILON_MICRO, NOISY, SECRET, SPEC, PrivateChain, last_record
from round_world import METERS, MODEL

from hub.learning.results import aggregate_of
from hub.ppdl.app.learning_view import model_at
from hub.ppdl.app.private_state import BUDGET_SPENT
from hub.ppdl.app.round_answers import ModelAnswer, RoundAnswer, RoundsAnswer
from hub.ppdl.app.state import SectionCache
from hub.status import learning_section
from openmg.forecast.model import master_from_bytes
from openmg.learning.budget import PrivacyBudget
from openmg.learning.secure.terms import SecureError
from openmg.messages import base


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[PrivateChain]:
    one = PrivateChain(tmp_path, NOISY)
    yield one
    one.close()


def spent(chain: PrivateChain) -> int:
    return base.decode(RoundAnswer, chain.query(f"round/{MODEL.hex()}").value).privacy.epsilon_micro


def test_rounds_are_charged_until_the_next_would_pass_the_budget_and_none_opens_after_it(chain: PrivateChain) -> None:
    for number in (0, 1):
        chain.whole_private_round()
        record = last_record(chain)
        assert (record.number, record.outcome, record.epsilon_micro) == (number, "learnt", EPSILON_MICRO[number])
        assert spent(chain) == EPSILON_MICRO[number]
    model = chain.state.model
    refused = chain.state.records[-1]
    assert (refused.number, refused.outcome, refused.epsilon_micro) == (2, BUDGET_SPENT, EPSILON_MICRO[1])
    assert refused.opened_height == refused.closed_height == chain.height and chain.phase == (2, "spent")
    chain.refused(chain.commit(METERS[0], bytes(20)), "in its phase spent")
    chain.wait(12)
    assert chain.phase == (2, "spent") and chain.state.model == model and chain.state.records[-1] == refused
    chain.good(chain.evaluation(METERS[0]))
    notice = base.decode(ModelAnswer, chain.query(f"model/{MODEL.hex()}").value)
    assert (notice.phase, notice.model_hash) == ("spent", model.model_hash) and not chain.query(f"private/{MODEL.hex()}").ok
    section = learning_section(chain.query)
    assert section is not None
    told = section["privacy"], section["epsilon_micro"], section["epsilon_budget_micro"], section["last_outcome"]
    assert told == ("secagg_dp", EPSILON_MICRO[1], 8_000_000, "budget_spent")
    shown = base.decode(RoundsAnswer, chain.query(f"rounds/{MODEL.hex()}").value).rounds
    assert [item.epsilon_micro for item in shown] == [*EPSILON_MICRO[:2], EPSILON_MICRO[1]]


def test_a_round_is_charged_when_its_survivor_set_is_fixed_even_if_nothing_is_opened(chain: PrivateChain) -> None:
    members = chain.join()
    for take in (chain.deal, chain.mask):
        take()
        assert spent(chain) == 0
    chain.show()
    assert chain.phase == (0, "sign") and spent(chain) == EPSILON_MICRO[0]
    with pytest.raises(AssertionError, match="no phase"):
        chain.sign(members[:3])
    record = next(item for item in chain.state.records if item.number == 0)
    assert (record.outcome, record.epsilon_micro) == ("void_sign", EPSILON_MICRO[0])


def test_a_round_that_is_void_before_costs_nothing(chain: PrivateChain) -> None:
    members = chain.join()
    chain.deal()
    with pytest.raises(AssertionError, match="no phase"):
        chain.mask(members[:3])
    record = next(item for item in chain.state.records if item.number == 0)
    assert (record.outcome, record.epsilon_micro, spent(chain)) == ("void_mask", 0, 0)


def test_the_spent_budget_is_in_the_state_hash(chain: PrivateChain) -> None:
    chain.whole_private_round()
    env, now = chain.app._view().env, model_at(chain.whole, 0, chain.app._view().env)
    state = now.view
    hashes = set()
    for charged in (1, 2):
        cache = SectionCache()
        private = dataclasses.replace(state.private[0], charged_rounds=charged)
        cache.refresh(now.with_view(dataclasses.replace(state, private=(private,))))
        hashes.add(cache.state_hash(env))
    assert state.private[0].charged_rounds == 1 and len(hashes) == 2


def test_a_sum_with_noise_is_the_plain_one_but_for_noise_of_the_stated_deviation(chain: PrivateChain) -> None:
    """Six of eight survive: their noise alone has the deviation z C that the budget counts on."""
    members = chain.join()
    chain.to_sum((members[:2], (), (), (), ()))
    survivors = members[2:]
    proposal = aggregate_of(chain.duties, chain.blobs)
    plain = chain.stepped(chain.plain_sum(survivors), len(survivors))
    noise = (
        (master_from_bytes(SPEC, proposal.master) - plain.master) / 4 * len(survivors)
    )  # master counts in quarters of a unit
    target = NOISY.noise_multiplier_milli / 1000 * NOISY.clip_units
    assert 0.95 * target < noise.std() < 1.05 * target


def test_a_meter_counts_its_rounds_itself_and_stops_at_the_budget(chain: PrivateChain) -> None:
    """A hub may tell a meter of rounds that the chain never had: after two masked updates it gets no third."""
    members = chain.join()
    chain.deal()
    meter, notice = chain.meters[members[0]], chain.notice
    assert meter.hear(notice) is not None
    memory = meter.rounds.file.load()
    assert memory.charged_rounds == 1
    meter.restart()
    assert meter.hear(notice) is not None and meter.rounds.file.load().charged_rounds == 1
    meter.rounds.file.save(
        dataclasses.replace(memory, charged_rounds=2, masked=b"", device=(dataclasses.replace(memory.device[0], masked=b""),))
    )
    with pytest.raises(SecureError, match="one more would pass the plan's budget"):
        meter.hear(notice)


def test_the_plan_of_the_tests_covers_two_rounds() -> None:
    budget = PrivacyBudget(1000, 5, NOISY.epsilon_budget_micro)
    after = [budget.charged(), budget.charged().charged()]
    assert [item.spent_micro for item in after] == list(EPSILON_MICRO[:2]) and not after[1].may_open()
    assert SECRET.noise_multiplier_milli == 0
