"""Members and leaders at fault in a private round: who does not clip, deals garbage, keeps shares back, denies a good sum."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pytest
from private_world import SPEC, PrivateChain, last_record, signed
from round_world import CHAIN_ID, VALIDATOR_KEYS, VALIDATORS

from hub.learning.results import aggregate_of
from hub.ppdl.app.transactions import step_tx
from hub.ppdl.app.verdicts import proposal_hash
from openmg.forecast.model import master_bytes
from openmg.learning.secure import round_secrets
from openmg.messages import base, topics
from openmg.messages.secure import ShareDealing, Unmasking


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[PrivateChain]:
    one = PrivateChain(tmp_path)
    yield one
    one.close()


def test_an_implausible_sum_is_not_used_and_names_nobody(chain: PrivateChain, monkeypatch: pytest.MonkeyPatch) -> None:
    """One member skips its clipping: its masked update is as good as any, and only the sum is too long."""
    members, before = chain.join(), chain.state.model
    chain.deal()
    huge = np.full(SPEC.parameters, 32_767, np.int16)
    monkeypatch.setattr("edge_agent.learning.private_rounds.open_blob", lambda plan, blob: huge)
    monkeypatch.setattr("openmg.learning.secure.device.norm_units", lambda update: 0)
    liar = chain.txs(members[3:4], topics.MASK)
    monkeypatch.undo()
    chain.good(*liar, *chain.txs([m for m in members if m != members[3]], topics.MASK))
    chain.show()
    chain.sign()
    chain.unmask()
    proposal = aggregate_of(chain.duties, chain.blobs)
    assert proposal.master == b"" and proposal.rejected == ()
    chain.accept(proposal)
    record = last_record(chain)
    assert (record.outcome, record.rejected, record.ballots) == ("void_sum", (), 0)
    assert chain.state.model == before and chain.state.scores == () and chain.phase == (1, "commit")
    chain.whole_private_round()
    assert last_record(chain).outcome == "learnt"


def test_who_deals_shares_of_another_secret_is_named_and_loses_its_reputation(chain: PrivateChain) -> None:
    members = chain.join()
    liar = chain.meters[members[2]]
    answer = liar.hear(chain.notice)
    assert answer is not None
    dealing = base.open_signed(ShareDealing, answer[1], CHAIN_ID).message
    # Sealed shares are bound to the commitment, so the liar seals anew: good shares, but of a seed that it did not commit to.
    real = round_secrets.commitment
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openmg.learning.secure.device.commitment", lambda round_id, seed: real(round_id, seed + 1))
        answer = liar.hear(chain.notice)
    assert answer is not None and base.open_signed(ShareDealing, answer[1], CHAIN_ID).message != dealing
    chain.good(step_tx(*answer), *chain.txs([m for m in members if m != members[2]], topics.DEALING))
    for take in (chain.mask, chain.show, chain.sign, chain.unmask):
        take()
    chain.accept(aggregate_of(chain.duties, chain.blobs))
    record = last_record(chain)
    assert record.outcome == "void_sum" and [(r.device, r.reason) for r in record.rejected] == [(members[2], "bad_dealing")]
    assert [(score.device, score.score_milli) for score in chain.state.scores] == [(members[2], 600)]


def spoilt(chain: PrivateChain, dealer: bytes, victims: Collection[bytes]) -> bytes:
    """The dealer's own dealing with garbage sealed for these members, as a transaction."""
    answer = chain.meters[dealer].hear(chain.notice)
    assert answer is not None
    dealing = base.open_signed(ShareDealing, answer[1], CHAIN_ID).message
    neighbours = [member for member in chain.members if member != dealer]
    sealed = tuple(bytes(len(item)) if peer in victims else item for peer, item in zip(neighbours, dealing.sealed, strict=True))
    return signed(chain, dealer, topics.DEALING, dataclasses.replace(dealing, sealed=sealed))


def test_garbage_dealt_to_two_others_changes_nothing(chain: PrivateChain) -> None:
    """The threshold of good shares is still there, although one of the others is gone as well: six of eight hold some."""
    members = chain.join()
    chain.good(spoilt(chain, members[2], members[3:5]), *chain.txs([m for m in members if m != members[2]], topics.DEALING))
    for take in (chain.mask, chain.show, chain.sign):
        take()
    chain.good(*chain.txs(members[:6], topics.UNMASKING))
    assert chain.phase == (0, "unmask"), "the threshold of survivors unmasked, but not of that dealer's shares"
    chain.good(*chain.txs(members[6:], topics.UNMASKING))
    after = chain.stepped(chain.plain_sum(members), len(members))
    assert aggregate_of(chain.duties, chain.blobs).master == master_bytes(after.master)


def test_garbage_dealt_to_all_voids_a_round_and_costs_the_dealer_its_place(chain: PrivateChain) -> None:
    liar = chain.trainers()[2].address
    for score in (600, 200):
        if liar in chain.state.round.committee:
            chain.whole_private_round()
        chain.join()
        others = [member for member in chain.members if member != liar]
        chain.good(spoilt(chain, liar, others), *chain.txs(others, topics.DEALING))
        for take in (chain.mask, chain.show, chain.sign):
            take()
        chain.good(*chain.txs(chain.state.round.included, topics.UNMASKING))
        assert chain.state.round.phase == "commit", "all have answered, so nothing is waited for"
        record = last_record(chain)
        assert record.outcome == "void_unmask"
        assert [(item.device, item.reason) for item in record.rejected] == [(liar, "bad_dealing")]
        assert [(item.device, item.score_milli) for item in chain.state.scores] == [(liar, score)]
    assert chain.state.round.left_out == (liar,)


def test_two_members_that_keep_their_shares_back_bring_nobody_into_disrepute(chain: PrivateChain) -> None:
    members = chain.join()
    for take in (chain.deal, chain.mask, chain.show, chain.sign):
        take()
    victim = members[7]
    for holder in members[:2]:
        answer = chain.meters[holder].hear(chain.notice)
        assert answer is not None
        unmasking = base.open_signed(Unmasking, answer[1], CHAIN_ID).message
        without = tuple(item for item in unmasking.shares if item.owner != victim)
        chain.good(signed(chain, holder, topics.UNMASKING, Unmasking(unmasking.round_id, without)))
    chain.good(*chain.txs(members[2:7], topics.UNMASKING))
    chain.until("commit")
    assert (last_record(chain).outcome, last_record(chain).rejected, chain.state.scores) == ("void_unmask", (), ())


def test_a_leader_that_calls_a_good_sum_unusable_is_voted_down(chain: PrivateChain) -> None:
    chain.join()
    chain.to_sum()
    right = aggregate_of(chain.duties, chain.blobs)
    wrong = dataclasses.replace(right, master=b"", momentum=b"")
    leader = chain.leader()
    chain.good(chain.duty(wrong, leader))
    honest = [key for key in VALIDATOR_KEYS if key != leader]
    chain.good(*(chain.verdict(key, False, proposal_hash(wrong)) for key in honest[:2]))
    assert chain.phase == (0, "aggregate") and chain.state.round.attempt == 1
    (found,) = chain.state.wrong_aggregates
    assert found.validator == VALIDATORS[VALIDATOR_KEYS.index(leader)]
    chain.accept(dataclasses.replace(right, attempt=1))
    chain.judge()
    assert last_record(chain).outcome == "learnt"
