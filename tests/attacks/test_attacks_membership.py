"""Invented devices and a leader that leaves out: who is in the round afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from attack_views import HONEST, HOSTILE, read, view, windows

from openmg.learning.aggregate import aggregate
from openmg.learning.plan import LearningPlan
from workbench.attacks.idle import ReplayedMessage
from workbench.attacks.membership import DroppingLeader, Sybil, invented_device
from workbench.attacks.poisoned import LabelFlip
from workbench.attacks.scaled import SignFlip
from workbench.attacks.statistical import InnerProduct


def test_sybils_send_what_their_maker_sends_under_ids_that_nobody_registered() -> None:
    sight = view()
    sent = Sybil(identities=4).updates(sight)
    real = SignFlip().updates(sight)
    assert len(sent) == 3 + 3 * 4 and {device: sent[device] for device in HOSTILE} == real
    invented = set(sent) - set(HOSTILE)
    assert all(len(device) == 20 for device in invented) and not invented & set(HONEST)
    assert sent[invented_device(HOSTILE[1], 3)] == real[HOSTILE[1]]
    assert len(Sybil(identities=0).updates(sight)) == 3


def test_the_leader_keeps_out_those_that_oppose_the_hostile_most() -> None:
    sight = view()
    attack = DroppingLeader(share=0.34, behind=InnerProduct())
    dropped = attack.dropped(sight)
    assert len(dropped) == 3
    wanted = sum(read(data).astype(float) for data in attack.updates(sight).values())
    agreement = {device: float(sight.honest[device].astype(float) @ wanted) for device in HONEST}
    assert max(agreement[device] for device in dropped) <= min(agreement[d] for d in HONEST if d not in dropped)
    assert DroppingLeader(share=0.1).dropped(sight) == frozenset()
    assert DroppingLeader(share=1.0).dropped(sight) == frozenset(HONEST)


def test_what_stands_behind_decides_data_bytes_and_round() -> None:
    sight = view()
    for attack in (Sybil(2, ReplayedMessage()), DroppingLeader(0.5, ReplayedMessage())):
        assert attack.named_round(sight) == sight.round - 1
        assert attack.updates(sight)[HOSTILE[0]] == sight.previous[HOSTILE[0]]
    given = windows()
    for attack in (Sybil(2, LabelFlip()), DroppingLeader(0.5, LabelFlip())):
        assert np.array_equal(attack.corrupt_data(given).residual, -given.residual)


@pytest.mark.parametrize("rule", ["nnm_trimmed_mean", "median"])
def test_f_of_the_registered_holds_against_a_leader_that_drops(rule: str) -> None:
    """Three hostile of twelve registered and nine included: the step still goes the honest way."""
    sight = view()
    attack = DroppingLeader(share=0.34)
    included = {device: update for device, update in sight.honest.items() if device not in attack.dropped(sight)}
    included |= {device: read(data) for device, data in attack.updates(sight).items()}
    assert len(included) == 9
    step = aggregate(included, LearningPlan(evaluation_start_hour=495_000, rule=rule), 12).step
    honest = np.mean([update.astype(float) for update in sight.honest.values()], axis=0)
    assert step @ honest > 0.5 * honest @ honest
