"""What agreed rejections do to a device's score, and whom that leaves out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from round_world import ADDRESSES, METERS, MODEL, PLAN, Chain, blob_of

from hub.ppdl.app.reputation import (
    FULL_MILLI,
    LEFT_OUT_BELOW_MILLI,
    PROBATION_MILLI,
    left_out,
    pseudonym,
    scores_after,
)
from hub.ppdl.app.round_state import MALFORMED, NOT_REVEALED, Rejection, RoundRecord, Score, opening_record
from openmg.forecast.spec import EXPORT_ENERGY

A, B, C = sorted(ADDRESSES)[:3]


def record(number: int = 0, rejected: tuple[Rejection, ...] = (), **changes: object) -> RoundRecord:
    return dataclasses.replace(opening_record(number, 0, bytes(32)), rejected=rejected, **changes)  # type: ignore[arg-type]


def test_each_reason_costs_and_a_clean_round_gives_back() -> None:
    faults = (Rejection(A, MALFORMED), Rejection(B, NOT_REVEALED), Rejection(C, "few_neighbours"))
    scores = scores_after((), record(0, faults, included=(C,)), PLAN)
    assert scores == (Score(A, 600), Score(B, 950), Score(C, 900))
    scores = scores_after(scores, record(1, included=(A, B, C)), PLAN)
    assert scores == (Score(A, 650), Score(C, 950)), "a full score is not kept"


def test_a_capped_device_pays_and_is_not_clean() -> None:
    assert scores_after((), record(included=(A,), capped=(A,)), PLAN) == (Score(A, 950),)


def test_krums_many_left_out_pay_nothing() -> None:
    assert scores_after((Score(A, 500),), record(0, (Rejection(A, "not_selected"),), included=(A,)), PLAN) == (Score(A, 550),)


def test_scores_end_at_zero_and_low_ones_rise_with_the_epoch() -> None:
    scores: tuple[Score, ...] = ()
    for number in range(3):
        scores = scores_after(scores, record(number, (Rejection(A, MALFORMED),)), PLAN)
    assert scores == (Score(A, 0),)
    assert scores_after(scores, record(3), PLAN) == (Score(A, PROBATION_MILLI),), "round 4 begins the next epoch"


def test_the_threshold_is_exact_and_enough_remain() -> None:
    low = (Score(A, LEFT_OUT_BELOW_MILLI - 1), Score(B, LEFT_OUT_BELOW_MILLI), Score(C, 0))
    assert left_out(low, ADDRESSES, PLAN) == (A, C)
    all_low = tuple(Score(device, i) for i, device in enumerate(sorted(ADDRESSES)))
    out = left_out(all_low, ADDRESSES, PLAN)
    assert out == tuple(sorted(ADDRESSES))[:5] and len(ADDRESSES) - len(out) == PLAN.min_participants


def test_a_pseudonym_changes_with_epoch_device_chain_and_model() -> None:
    other = EXPORT_ENERGY.short_name
    names = {pseudonym(0, A, 1, MODEL), pseudonym(1, A, 1, MODEL), pseudonym(0, B, 1, MODEL), pseudonym(0, A, 2, MODEL)}
    names |= {pseudonym(0, A, 1, other), pseudonym(0, A, 1, MODEL)}
    assert len(names) == 5 and all(len(name) == 32 for name in names)


def test_a_device_that_sends_malformed_blobs_is_left_out_until_the_epoch_ends(tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, committee_size=0)
    chain = Chain(tmp_path / "app.sqlite", plan)
    bad = METERS[4]
    for _ in range(2):
        chain.to_reveal()
        chain.good(*chain.votes(malformed=[bad.address]))
        chain.blobs.pop(bad.address)
        chain.accept(chain.right())
    assert chain.state.round.left_out == (bad.address,) and chain.state.scores == (Score(bad.address, 200),)
    chain.refused(chain.commit(bad, blob_of(5)), "left out for its reputation")
    for _ in range(2):
        chain.to_reveal()
        chain.good(*chain.votes())
        chain.accept(chain.right())
    assert chain.state.round.number == 4 and chain.state.round.left_out == ()
    assert chain.state.scores == (Score(bad.address, PROBATION_MILLI),) and PROBATION_MILLI < FULL_MILLI
    chain.good(chain.commit(bad, blob_of(5)))
    chain.close()
