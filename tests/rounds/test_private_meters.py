"""A meter in private rounds: what it holds to whatever its hub says, and that kill -9 between two steps changes no answer."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_world import NOISY, SECRET, PrivateChain
from round_homes import Notices, home
from round_world import CHAIN_ID, METERS, MODEL, START_HOUR

from edge_agent.learning.private_file import PrivateFile
from edge_agent.learning.private_rounds import Answer
from hub.learning.private_publisher import PrivatePublisher
from openmg.forecast.trainer import get_trainer
from openmg.learning.secure.terms import SecureError
from openmg.member.answers import RoundAnswerer
from openmg.member.pending import PendingFile
from openmg.member.spans import of_home
from openmg.messages import base, topics
from openmg.messages.private import PrivateNotice, Registered
from openmg.messages.secure import ShareDealing


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[PrivateChain]:
    one = PrivateChain(tmp_path)
    yield one
    one.close()


def test_a_meter_killed_after_every_step_gives_the_same_answers_and_never_a_second_one(chain: PrivateChain) -> None:
    """Each notice is heard three times, by a meter that lost all but its files in between; the round is opened in the end."""
    members = chain.join()
    killed = chain.meters[members[0]]
    drawn = killed.drawn

    def thrice(leaf: str) -> None:
        answers: list[Answer | None] = []
        for _ in range(3):
            killed.restart()
            answers.append(killed.hear(chain.notice))
        assert answers[0] is not None and answers[0][0] == leaf and answers.count(answers[0]) == 3

    steps = (chain.deal, chain.mask, chain.show, chain.sign, chain.unmask)
    leaves = (topics.DEALING, topics.MASK, topics.REVEAL, topics.SURVIVORS, topics.UNMASKING)
    for step, leaf in zip(steps, leaves, strict=True):
        thrice(leaf)
        step()
    assert killed.drawn == drawn + 1, "chance is drawn once a round"
    assert members[0] in chain.state.round.included
    mode = (killed.folder / f"learning-{MODEL.hex()}.private").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_what_a_step_must_remember_is_on_the_disk_before_the_answer_leaves(
    chain: PrivateChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = chain.join()
    meter = chain.meters[members[0]]

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    for take in (chain.deal, chain.mask, chain.show):
        with monkeypatch.context() as patch:
            patch.setattr("edge_agent.learning.private_file.replace_durably", full)
            if chain.state.round.phase != "reveal":  # which has nothing new to remember
                with pytest.raises(OSError, match="No space left"):
                    meter.hear(chain.notice)
        take()
    with monkeypatch.context() as patch:
        patch.setattr("edge_agent.learning.private_file.replace_durably", full)
        with pytest.raises(OSError, match="No space left"):
            meter.hear(chain.notice)


def changed(notice: PrivateNotice, **changes: object) -> PrivateNotice:
    return dataclasses.replace(notice, **changes)  # type: ignore[arg-type]


def test_other_members_for_the_same_round_get_no_second_masked_update(chain: PrivateChain) -> None:
    """Two sums that differ in one member would show its update."""
    members = chain.join()
    notice, meter = chain.notice, chain.meters[members[0]]
    assert meter.hear(notice) is not None
    meter.restart()
    for other in (changed(notice, members=notice.members[:-1]), changed(notice, seed=bytes(32))):
        with pytest.raises(SecureError, match="shown with other members than before"):
            meter.hear(other)


def test_a_hub_cannot_make_up_members_or_exchange_their_keys(chain: PrivateChain) -> None:
    members = chain.join()
    notice, meter = chain.notice, chain.meters[members[0]]
    stranger = bytes([255]) * 20
    with pytest.raises(SecureError, match="members that are not registered"):
        meter.hear(changed(notice, members=(*notice.members, stranger)))
    # The notice above told the meter its registered devices; from now on it takes no others, also after a restart.
    keys = METERS[0].mask_public, METERS[1].mask_public
    swapped = tuple(
        Registered(item.address, keys[1] if item.mask_public == keys[0] else item.mask_public) for item in notice.registered
    )
    meter.restart()
    for other in (changed(notice, registered=swapped), changed(notice, registered=notice.registered[:-1])):
        with pytest.raises(SecureError, match="not those this meter agreed to"):
            meter.hear(other)
    assert meter.hear(notice) is not None


def test_a_dealing_that_no_member_signed_is_not_masked_for(chain: PrivateChain) -> None:
    members = chain.join()
    chain.deal()
    notice, meter = chain.notice, chain.meters[members[0]]
    honest = base.open_signed(ShareDealing, notice.dealings[1], CHAIN_ID).message
    forged = base.sign(honest, CHAIN_ID, bytes([7]) * 32)
    for dealings in ((forged, *notice.dealings[1:]), (*notice.dealings, notice.dealings[0])):
        with pytest.raises(SecureError, match="not one of its members'"):
            meter.hear(changed(notice, dealings=dealings))
    assert meter.hear(notice) is not None


def test_an_older_round_and_one_without_an_update_are_not_answered(chain: PrivateChain) -> None:
    members = chain.join()
    notice, meter = chain.notice, chain.meters[members[0]]
    assert meter.hear(changed(notice, base_hash=bytes(32))) is None, "it committed to no update of that model"
    chain.to_sum()
    assert meter.hear(notice) is not None, "the same dealing again is no secret"
    before = meter.rounds.file.load()
    meter.rounds.file.save(dataclasses.replace(before, round=1))
    assert meter.hear(notice) is None


def test_a_survivor_that_did_not_sign_in_time_still_reveals_its_shares(chain: PrivateChain) -> None:
    members = chain.join()
    for take in (chain.deal, chain.mask, chain.show):
        take()
    chain.sign(members[:2])
    late = chain.meters[members[0]]
    assert not late.rounds.file.load().device[0].survivors
    chain.good(*chain.txs(members[:6], topics.UNMASKING))
    assert chain.phase == (0, "aggregate") and late.rounds.file.load().device[0].survivors


def test_a_meter_joins_and_judges_under_a_private_plan_and_shows_no_blob(tmp_path: Path) -> None:
    """Through the answers to the model's notices; with noise it tells no loss but a committee member's."""
    for plan, evaluations in ((SECRET, 1), (NOISY, 0)):
        folder = tmp_path / plan.privacy
        folder.mkdir()
        chain = PrivateChain(folder, plan)
        notices, meter = Notices(chain.query), chain.trainers()[0]
        own = folder / "meter"
        own.mkdir()

        def history(minutes: int) -> tuple[int, list[int]]:
            return START_HOUR, home(1)

        answerer = RoundAnswerer(
            meter.address,
            of_home(history),
            PendingFile(own, MODEL),
            bytes,
            get_trainer(plan.spec, "numpy"),
            PrivateFile(own, MODEL),
        )
        notice = notices.now()
        answer = answerer.answer(notice)
        assert answer is not None and answer.commit is not None and len(answer.evaluations) == evaluations
        shown = answerer.answer(dataclasses.replace(notice, phase="reveal"))
        assert shown is not None and shown.reveal is None
        judged = answerer.answer(
            dataclasses.replace(
                notice,
                phase="committee",
                committee=(meter.address,),
                candidate=notice.parameters,
                candidate_hash=notice.model_hash,
            )
        )
        assert judged is not None and judged.ballot is not None and len(judged.evaluations) == evaluations
        file = PrivateFile(own, MODEL)
        file.save(dataclasses.replace(file.load(), charged_rounds=2))
        answerer = RoundAnswerer(
            meter.address,
            of_home(history),
            PendingFile(own, MODEL),
            bytes,
            get_trainer(plan.spec, "numpy"),
            PrivateFile(own, MODEL),
        )
        again = answerer.answer(notice)
        assert again is not None and (again.commit is None) == (plan is NOISY), "by its own count two rounds spend the budget"
        spent = answerer.answer(dataclasses.replace(notice, phase="spent"))
        assert spent is not None and (spent.commit, spent.reveal, spent.ballot) == (None, None, None)
        chain.close()


def test_the_step_of_a_private_round_is_told_once_and_again_after_half_its_phase(chain: PrivateChain) -> None:
    told: list[tuple[str, PrivateNotice]] = []

    def publish(topic: str, payload: bytes) -> bool:
        told.append((topic, base.decode(PrivateNotice, payload)))
        return True

    publisher = PrivatePublisher(MODEL, chain.query, publish)
    publisher.step()
    assert told == [], "nothing is theirs to do before the members are fixed"
    chain.join()
    for _ in range(2):
        publisher.step()
    assert [(topic, notice.phase, notice.height) for topic, notice in told] == [(topics.private(MODEL), "deal", chain.height)]
    chain.block()
    publisher.step()
    assert [notice.height for _, notice in told] == [chain.height - 1, chain.height], "phases of three blocks: half is one"
    publisher.forget()
    publisher.step()
    assert len(told) == 3 and told[-1][1] == chain.notice
    models = Notices(chain.query)
    models.publisher.step()
    assert models.told == [], "the model's notice is told when there is something to do with the model"
