"""Changes of the validator set: a quorum of the height's set, one vote each, two blocks later, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_world import CHAIN_ID, METERS, block, ctx, genesis, started
from governance_support import (
    ADDRESSES,
    CHAIN,
    EXPIRES,
    KEYS,
    NEW_KEYS,
    change,
    hash_of,
    members_at,
    passing,
    proposal,
    proposals,
    validators,
    vote,
)

from hub.ppdl.app import governance
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.set_change import SetChange, propose_tx, sign_consent, sign_vote, vote_tx
from hub.ppdl.app.transactions import InferenceRequest, inference_tx
from hub.ppdl.application import ValidatorUpdate, Verdict
from hub.ppdl.consensus.quorum import ValidatorSet, quorum
from hub.ppdl.genesis import MAX_VALIDATORS
from openmg.messages import base
from openmg.signing import address_of

NEWCOMER = NEW_KEYS[0]
ADD = change(add=NEWCOMER)
ROTATE = change(add=NEWCOMER, remove=ADDRESSES[1])


@pytest.fixture
def app(tmp_path: Path) -> PpdlApplication:
    return started(tmp_path / "app.sqlite")


def ok(app: PpdlApplication, txs: list[bytes]) -> tuple[ValidatorUpdate, ...]:
    """Commits a block in which every transaction takes effect; returns the changes of the set."""
    result = block(app, txs)
    assert [one.reason for one in result.tx_results if not one.ok] == []
    return result.validator_updates


def refused(app: PpdlApplication, tx: bytes, reason: str, malformed: bool = False) -> None:
    """The transaction gets neither into the mempool nor, effective, into a block."""
    verdict = app.check_tx(tx)
    assert not verdict.ok and reason in verdict.reason and verdict.malformed == malformed, verdict
    assert app.process_proposal(ctx(app.info().last_height + 1), [tx]) is Verdict.REJECT
    (result,) = block(app, [tx]).tx_results
    assert not result.ok and reason in result.reason


def test_a_quorum_of_votes_changes_the_set_two_blocks_later(app: PpdlApplication) -> None:
    assert ok(app, passing(ADD, KEYS[:2], NEWCOMER)) == ()  # 2 of 4: q - 1
    assert [len(one.votes) for one in proposals(app).proposals] == [2]
    updates = ok(app, [vote(ADD, KEYS[2])])  # block 2
    assert updates == (ValidatorUpdate(address_of(NEWCOMER), True),)
    assert members_at(app, 2) == members_at(app, 3) == ADDRESSES
    following = ValidatorSet(ADDRESSES).updated(tuple((u.address, u.active) for u in updates))
    assert members_at(app, 4) == following.addresses and len(following) == 5
    assert not app.query("validators/5", b"").ok  # block 3 may still change it
    known = validators(app)
    assert [(one.number, one.from_height) for one in known.sets] == [(0, 1), (1, 4)]
    assert known.quorum == quorum(4) == 3 and known.flagged == ()
    assert (proposals(app).proposals, proposals(app).number) == ((), 1)
    ok(app, [])
    assert validators(app).quorum == quorum(5) == 4  # of block 4


def test_a_key_is_rotated_in_one_step(app: PpdlApplication) -> None:
    updates = ok(app, passing(ROTATE, KEYS[:3], NEWCOMER))
    assert updates == (ValidatorUpdate(ADDRESSES[1], False), ValidatorUpdate(address_of(NEWCOMER), True))
    assert set(members_at(app, 3)) == set(ADDRESSES) - {ADDRESSES[1]} | {address_of(NEWCOMER)}
    assert members_at(app, 2) == ADDRESSES


def test_a_validator_votes_once_for_each_proposal(app: PpdlApplication) -> None:
    ok(app, passing(ADD, KEYS[:2], NEWCOMER))
    for key in KEYS[:2]:
        refused(app, vote(ADD, key), "has voted")
    assert len(proposals(app).proposals[0].votes) == 2


def test_only_validators_of_the_height_propose_and_vote(app: PpdlApplication) -> None:
    refused(app, proposal(ADD, NEWCOMER, NEWCOMER), "not signed by a validator")
    refused(app, proposal(ADD, METERS[0].key.signing_key, NEWCOMER), "not signed by a validator")
    ok(app, [proposal(ADD, KEYS[0], NEWCOMER)])
    refused(app, vote(ADD, NEWCOMER), "not signed by a validator")
    height = app.info().last_height + 1
    ok(app, [vote(ADD, key) for key in KEYS[1:3]])
    later = change(number=1, remove=ADDRESSES[0])
    assert app.info().last_height == height
    refused(app, proposal(later, NEWCOMER), "not signed by a validator")  # its first height is height + 2
    ok(app, [proposal(later, NEWCOMER)])


def test_votes_of_who_has_left_the_set_do_not_count(app: PpdlApplication) -> None:
    """Number 3 votes for the newcomer and is then removed: three members are left, two of whom must agree."""
    leave = change(remove=ADDRESSES[3], below_four=True)
    ok(app, [proposal(ADD, KEYS[3], NEWCOMER), *passing(leave, KEYS[:3])])
    ok(app, [])
    assert members_at(app, 3) == ADDRESSES[:3]
    refused(app, vote(ADD, KEYS[3]), "not signed by a validator")
    assert ok(app, [vote(ADD, KEYS[0])]) == ()  # with number 3's old vote there would be two
    assert ok(app, [vote(ADD, KEYS[1])]) == (ValidatorUpdate(address_of(NEWCOMER), True),)


def test_a_proposal_expires_after_its_height(app: PpdlApplication) -> None:
    short = change(add=NEWCOMER, expires=2)
    ok(app, passing(short, KEYS[:2], NEWCOMER))
    copy = change(add=NEW_KEYS[1], expires=2)
    ok(app, passing(copy, KEYS[:3], NEW_KEYS[1]))  # block 2: the last in which it may pass
    assert validators(app).sets[-1].from_height == 4
    assert proposals(app).proposals == ()
    refused(app, vote(short, KEYS[2]), "no such proposal")
    refused(app, proposal(change(1, NEW_KEYS[2], expires=3), KEYS[0], NEW_KEYS[2]), "it must expire")  # in block 4
    far = change(1, NEW_KEYS[2], expires=app.info().last_height + 2 + governance.MAX_PROPOSAL_BLOCKS)
    assert "it must expire" in app.check_tx(proposal(far, KEYS[0], NEW_KEYS[2])).reason
    ok(app, [])
    ok(app, [proposal(far, KEYS[0], NEW_KEYS[2])])


def test_attack_old_votes_cannot_be_replayed_after_the_set_changed_back(app: PpdlApplication) -> None:
    """Everything that made the newcomer a validator is public; shown again, it must not bring it back."""
    recorded = passing(ADD, KEYS[:3], NEWCOMER)
    ok(app, recorded)
    ok(app, [])
    ok(app, passing(change(number=1, remove=address_of(NEWCOMER)), KEYS))
    ok(app, [])
    assert members_at(app, 5) == ADDRESSES
    refused(app, recorded[0], "starts from set 0, the latest is 2")
    for again in recorded[1:]:
        refused(app, again, "no such proposal")
    assert members_at(app, app.info().last_height + 2) == ADDRESSES


def test_attack_votes_of_another_chain_or_purpose_are_worth_nothing(app: PpdlApplication) -> None:
    hash_ = hash_of(ADD)
    ok(app, [proposal(ADD, KEYS[0], NEWCOMER)])
    elsewhere = (
        sign_vote(hash_, CHAIN_ID + 1, CHAIN, KEYS[1]),
        sign_vote(hash_, CHAIN_ID, bytes(32), KEYS[1]),
        sign_vote(hash_of(ROTATE), CHAIN_ID, CHAIN, KEYS[1]),
        sign_consent(hash_, CHAIN_ID, CHAIN, KEYS[1]),
    )
    for signature in elsewhere:
        refused(app, vote_tx(hash_, signature), "not signed by a validator")  # recovers to some other address
    refused(app, vote_tx(hash_, bytes(65)), "signature", malformed=True)
    refused(app, vote_tx(hash_[:31], sign_vote(hash_, CHAIN_ID, CHAIN, KEYS[1])), "32-byte hash", malformed=True)
    assert len(proposals(app).proposals[0].votes) == 1


def test_nobody_is_added_without_its_own_consent(app: PpdlApplication) -> None:
    own = sign_vote(hash_of(ADD), CHAIN_ID, CHAIN, KEYS[0])
    for consent in (b"", bytes(65), sign_consent(hash_of(ADD), CHAIN_ID, CHAIN, KEYS[0]), own):
        assert app.check_tx(propose_tx(ADD, consent, own)).malformed
    leave = change(remove=ADDRESSES[0], below_four=True)
    superfluous = sign_consent(hash_of(leave), CHAIN_ID, CHAIN, KEYS[0])
    refused(app, propose_tx(leave, superfluous, sign_vote(hash_of(leave), CHAIN_ID, CHAIN, KEYS[0])), "adds nobody", True)


def test_changes_that_do_not_fit_the_set_are_refused(app: PpdlApplication) -> None:
    refused(app, proposal(change(remove=address_of(NEWCOMER)), KEYS[0]), "is not a validator")
    refused(app, proposal(change(add=KEYS[1]), KEYS[0], KEYS[1]), "is a validator already")
    for fields in (
        (0, b"", b"", False, 9),
        (0, b"\1" * 20, b"\1" * 20, False, 9),
        (0, b"\1" * 19, b"", False, 9),
        (-1, b"\1" * 20, b"", False, 9),
        (0, b"\1" * 20, b"", False, 2**64),
    ):
        with pytest.raises(ValueError, match="set change"):
            SetChange(*fields)  # type: ignore[arg-type]


def test_a_set_shrinks_below_four_only_when_the_proposal_says_so(app: PpdlApplication) -> None:
    refused(app, proposal(change(remove=ADDRESSES[3]), KEYS[0]), "below_four")
    ok(app, passing(change(remove=ADDRESSES[3], below_four=True), KEYS[:3]))
    ok(app, [])
    refused(app, proposal(change(1, remove=ADDRESSES[2]), KEYS[0]), "below_four")  # from three to two as well
    ok(app, passing(change(1, add=NEWCOMER, remove=ADDRESSES[2]), KEYS[:2], NEWCOMER))  # a rotation shrinks nothing
    ok(app, [])
    assert len(members_at(app, app.info().last_height + 1)) == 3


def test_a_set_is_never_empty_and_never_too_large(tmp_path: Path, app: PpdlApplication) -> None:
    for number, gone in enumerate(ADDRESSES[:3]):
        ok(app, passing(change(number, remove=gone, below_four=True), KEYS[number:]))
        ok(app, [])
    assert members_at(app, app.info().last_height + 1) == ADDRESSES[3:]
    refused(app, proposal(change(3, remove=ADDRESSES[3], below_four=True), KEYS[3]), "1 to 64 validators, not 0")
    full = governance.SetSpan(0, 1, tuple(i.to_bytes(20, "big") for i in range(1, MAX_VALIDATORS + 1)), True)
    with pytest.raises(governance.Rejected, match="not 65"):
        governance._members_after(full, address_of(NEWCOMER), b"", False)
    assert len(governance._members_after(full, address_of(NEWCOMER), full.addresses[0], False)) == MAX_VALIDATORS


def test_one_faulty_validator_cannot_fill_the_list_of_proposals(app: PpdlApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    spam = [change(add=NEWCOMER, expires=EXPIRES + i) for i in range(3)]
    ok(app, [proposal(one, KEYS[0], NEWCOMER) for one in spam[:2]])
    refused(app, proposal(spam[2], KEYS[0], NEWCOMER), "2 open proposals")
    refused(app, proposal(spam[0], KEYS[1], NEWCOMER), "open already")
    monkeypatch.setattr(governance, "MAX_OPEN_PROPOSALS", 3)
    ok(app, [proposal(spam[2], KEYS[1], NEWCOMER)])
    refused(app, proposal(ROTATE, KEYS[1], NEWCOMER), "3 proposals are open")


def test_one_change_passes_in_a_block_and_the_next_one_follows(app: PpdlApplication) -> None:
    second = change(add=NEW_KEYS[1])
    pointless = change(add=NEWCOMER, remove=ADDRESSES[2])
    opening = [proposal(ADD, KEYS[0], NEWCOMER), proposal(second, KEYS[1], NEW_KEYS[1]), proposal(pointless, KEYS[2], NEWCOMER)]
    votes = [vote(one, key) for one, keys in ((ADD, KEYS[1:3]), (second, KEYS[2:])) for key in keys]
    assert ok(app, [*opening, *votes]) == (ValidatorUpdate(address_of(NEWCOMER), True),)
    assert [one.proposal_hash for one in proposals(app).proposals] == [hash_of(second)]  # the newcomer cannot be added twice
    assert ok(app, []) == (ValidatorUpdate(address_of(NEW_KEYS[1]), True),)
    heights = [(one.from_height, len(one.addresses)) for one in validators(app).sets]
    assert heights == [(1, 4), (3, 5), (4, 6)]


def test_sets_are_forgotten_when_they_are_old_and_when_there_are_many(
    app: PpdlApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(governance, "EVIDENCE_MAX_AGE", 3)
    ok(app, passing(ADD, KEYS[:3], NEWCOMER))  # set 1 from height 3
    for height in range(2, 7):
        ok(app, [])
        assert len(validators(app).sets) == (2 if height < 6 else 1)  # height 3 is 3 old in block 6
    assert not app.query("validators/2", b"").ok and len(members_at(app, 3)) == 5
    monkeypatch.setattr(governance, "EVIDENCE_MAX_AGE", 1000)
    monkeypatch.setattr(governance, "MAX_SPANS", 2)
    ok(app, passing(change(1, remove=ADDRESSES[0]), KEYS))
    ok(app, passing(change(2, remove=ADDRESSES[1], below_four=True), KEYS))
    assert [one.number for one in validators(app).sets] == [2, 3]


def test_a_removed_validator_asks_for_no_more_forecasts_and_an_added_one_may(app: PpdlApplication) -> None:
    """The set of the height counts, not the genesis."""
    ok(app, passing(ROTATE, KEYS[:3], NEWCOMER))
    request = InferenceRequest(1337, b"\xc0" * 20, 5, 2)
    old, new = (inference_tx(request, CHAIN_ID, key) for key in (KEYS[1], NEWCOMER))
    assert app.check_tx(old).ok and not app.check_tx(new).ok  # in block 2
    ok(app, [])
    assert app.check_tx(new).ok
    refused(app, old, "not signed by a validator")


def test_a_restart_keeps_sets_and_proposals(tmp_path: Path) -> None:
    twin, app = started(tmp_path / "a.sqlite"), started(tmp_path / "b.sqlite")
    script = [[proposal(ADD, KEYS[0], NEWCOMER)], [vote(ADD, KEYS[1])], [vote(ADD, KEYS[2])], []]
    for txs in script:
        hashes = [block(one, txs).app_hash for one in (twin, app)]
        assert hashes[0] == hashes[1]
        app.close()
        app = PpdlApplication(tmp_path / "b.sqlite")
        app.init_chain(genesis())
        assert (proposals(app), validators(app)) == (proposals(twin), validators(twin))
    assert len(members_at(app, 5)) == 5


def test_transactions_about_one_vote_have_one_subject(app: PpdlApplication) -> None:
    ok(app, [proposal(ADD, KEYS[0], NEWCOMER)])
    subjects = [app.check_tx(vote(ADD, key)).subject for key in KEYS[1:]]
    assert len(set(subjects)) == 3 and b"" not in subjects
    same = [app.check_tx(proposal(ROTATE, key, NEWCOMER)).subject for key in KEYS[:2]]
    assert same[0] == same[1] != b""


def test_a_proposal_answers_what_it_would_change(app: PpdlApplication) -> None:
    ok(app, [proposal(ROTATE, KEYS[2], NEWCOMER)])
    (one,) = proposals(app).proposals
    assert (one.add, one.remove, one.proposer) == (address_of(NEWCOMER), ADDRESSES[1], ADDRESSES[2])
    assert (one.opened_height, one.expires_height, one.votes) == (1, EXPIRES, (ADDRESSES[2],))
    assert one.proposal_hash == hash_of(ROTATE) and base.encode(ROTATE)
    assert not app.query("validators/x", b"").ok
