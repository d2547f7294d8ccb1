"""Private rounds as a state machine: the opened sum, who may be missing and where, and what no device, hub or leader can do."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from private_world import MEMBERS, SECRET, PrivateChain, last_record, signed
from round_world import CHAIN_ID, METERS, MODEL, Chain

from hub.learning.results import aggregate_of
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.transactions import decode_tx, step_tx
from openmg.forecast.model import master_bytes
from openmg.hashing import word
from openmg.identity import DeviceKey
from openmg.learning.blobs import open_blob
from openmg.learning.plan import MAX_COMMITTEE, MAX_HOLIDAYS
from openmg.learning.secure import device
from openmg.learning.secure.chain_round import MAX_CHAIN_MEMBERS, chain_terms
from openmg.learning.secure.terms import SecureError
from openmg.messages import base, topics
from openmg.messages.private import STEP_MESSAGES, PrivateNotice, Registered
from openmg.messages.secure import MaskCommit, RevealedShare, ShareDealing, SurvivorSet, Unmasking

THRESHOLD = 6


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[PrivateChain]:
    one = PrivateChain(tmp_path)
    yield one
    one.close()


def test_the_model_of_a_private_round_is_that_of_the_plain_sum_of_its_survivors(chain: PrivateChain) -> None:
    """One is missing at each of the first two steps; the masks that they leave behind are taken off."""
    members = chain.join()
    assert len(members) == MEMBERS == 8 and chain.state.commits == ()
    no_dealer, no_mask = members[1], members[4]
    chain.to_sum(((no_dealer,), (no_mask,), (), (), ()))
    survivors = [device for device in members if device not in (no_dealer, no_mask)]
    assert chain.state.round.included == tuple(survivors)
    proposal = aggregate_of(chain.duties, chain.blobs)
    after = chain.stepped(chain.plain_sum(survivors), len(survivors))
    assert proposal.master == master_bytes(after.master) and proposal.momentum == master_bytes(np.asarray(after.momentum))
    chain.accept(proposal)
    chain.judge()
    record = last_record(chain)
    assert (record.outcome, record.participants, record.included) == ("learnt", tuple(members), tuple(survivors))
    assert {(item.device, item.reason) for item in record.rejected} == {(no_dealer, "not_revealed"), (no_mask, "not_revealed")}
    assert chain.state.model.master == proposal.master and chain.phase == (1, "commit")
    assert chain.state.private[0].members == () and chain.state.private[0].dealings == ()


@pytest.mark.parametrize("step", range(5))
def test_two_of_eight_may_drop_out_at_any_step(chain: PrivateChain, step: int) -> None:
    members = chain.join()
    gone = tuple(members[2:4])
    chain.to_sum(tuple(gone if step == place else () for place in range(5)))
    survivors = [device for device in members if device not in gone or step > 2]
    assert chain.state.round.included == tuple(survivors)
    after = chain.stepped(chain.plain_sum(survivors), len(survivors))
    assert aggregate_of(chain.duties, chain.blobs).master == master_bytes(after.master)


@pytest.mark.parametrize(
    ("step", "outcome"),
    [(0, "void_deal"), (1, "void_mask"), (2, "void_blobs"), (3, "void_sign"), (4, "void_unmask")],
)
def test_below_the_threshold_the_round_is_void_and_training_goes_on(chain: PrivateChain, step: int, outcome: str) -> None:
    members, before = chain.join(), chain.state.model
    steps = (chain.deal, chain.mask, chain.show, chain.sign, chain.unmask)
    for take in steps[:step]:
        take()
    with pytest.raises(AssertionError, match="no phase"):
        steps[step](members[: MEMBERS - THRESHOLD + 1])
    closed = next(record for record in chain.state.records if record.number == 0)
    assert (closed.outcome, closed.model_hash) == (outcome, closed.base_hash) and closed.participants == tuple(members)
    assert chain.state.model == before and chain.state.scores == ()
    chain.until("commit")
    number = chain.state.round.number
    chain.whole_private_round()
    assert last_record(chain).outcome == "learnt" and last_record(chain).number == number
    assert chain.state.model != before


def test_each_step_ends_as_soon_as_nothing_is_missing(chain: PrivateChain) -> None:
    chain.join()
    began = chain.height
    chain.to_sum()
    assert chain.height == began + 5


def test_signing_and_unmasking_end_with_the_threshold(chain: PrivateChain) -> None:
    members = chain.join()
    for take in (chain.deal, chain.mask, chain.show):
        take()
    began = chain.height
    chain.sign(members[:2])
    chain.unmask(members[6:])
    assert chain.height == began + 2


def test_who_did_not_commit_is_no_member(chain: PrivateChain) -> None:
    members = chain.join(count=6)
    outsider = next(m.address for m in METERS if m.address not in (*members, *chain.state.round.committee))
    assert chain.query(f"round/{MODEL.hex()}").ok and chain.meters[outsider].hear(chain.notice) is None
    dealing = base.open_signed(ShareDealing, chain.meters[members[0]].hear(chain.notice)[1], CHAIN_ID).message  # type: ignore[index]
    chain.refused(signed(chain, outsider, topics.DEALING, dealing), "did not commit in round 0")


def test_a_second_answer_an_answer_out_of_time_and_one_of_another_round_are_refused(chain: PrivateChain) -> None:
    members = chain.join()
    first = chain.txs(members[:1], topics.DEALING)
    chain.good(*first)
    chain.refused(first[0], "already has one")
    early = MaskCommit(chain.round_id, bytes(32))
    chain.refused(signed(chain, members[1], topics.MASK, early), "in its phase deal, not mask")
    chain.good(*chain.txs(members[1:], topics.DEALING))
    chain.refused(
        signed(chain, members[1], topics.MASK, MaskCommit(bytes(32), bytes(32))), "it is not of an open private round"
    )
    masks = chain.txs(members, topics.MASK)
    chain.good(masks[0])
    chain.refused(masks[0], "already promised a masked update")


def test_a_dealing_with_a_share_too_few_or_a_key_of_small_order_is_refused(chain: PrivateChain) -> None:
    members = chain.join()
    answer = chain.meters[members[0]].hear(chain.notice)
    assert answer is not None
    dealing = base.open_signed(ShareDealing, answer[1], CHAIN_ID).message
    short = dataclasses.replace(dealing, sealed=dealing.sealed[1:], digests=dealing.digests[32:])
    chain.refused(signed(chain, members[0], topics.DEALING, short), "not one for each neighbour")
    small = dataclasses.replace(dealing, round_public=bytes(32))
    chain.refused(signed(chain, members[0], topics.DEALING, small), "nobody can agree a secret")


def test_a_second_survivor_set_is_signed_by_no_meter_and_taken_by_no_replica(chain: PrivateChain) -> None:
    members = chain.join()
    for take in (chain.deal, chain.mask, chain.show):
        take()
    notice = chain.notice
    assert notice.survivors == tuple(members)
    smaller = dataclasses.replace(notice, survivors=tuple(members[:-1]))
    meter = chain.meters[members[0]]
    assert meter.hear(notice) is not None
    for again in (False, True):
        if again:
            meter.restart()
        with pytest.raises(SecureError, match="another survivor set of round 0 was already signed"):
            meter.hear(smaller)
    # A meter that saw only the smaller set signed it; the chain has another one, and the meter reveals nothing for that.
    fooled = chain.meters[members[1]]
    answer = fooled.hear(smaller)
    assert answer is not None
    chain.refused(step_tx(*answer), "has another set, or the signer is not in it")
    with pytest.raises(SecureError, match="another survivor set"):
        fooled.hear(notice)
    round_id = base.open_signed(SurvivorSet, answer[1], CHAIN_ID).message.round_id
    signers = [device for device in members if device != members[1]]
    chain.good(*chain.txs(signers[:THRESHOLD], topics.SURVIVORS))
    assert chain.phase == (0, "unmask")
    with pytest.raises(SecureError, match="another survivor set"):
        fooled.hear(chain.notice)
    assert base.open_signed(SurvivorSet, answer[1], CHAIN_ID).message == SurvivorSet(round_id, tuple(members[:-1]))


def test_shares_are_revealed_for_signatures_of_the_threshold_only(chain: PrivateChain) -> None:
    members = chain.join()
    for take in (chain.deal, chain.mask, chain.show, chain.sign):
        take()
    notice = chain.notice
    assert len(notice.signers) >= THRESHOLD
    few = dataclasses.replace(notice, signers=notice.signers[:5], signatures=notice.signatures[:5])
    with pytest.raises(SecureError, match="5 survivors signed the set; round 0 takes 6"):
        chain.meters[members[0]].hear(few)
    forged = dataclasses.replace(
        notice, signatures=(bytes(65), *notice.signatures[1:][: THRESHOLD - 1]), signers=notice.signers[:6]
    )
    with pytest.raises(SecureError, match="5 survivors signed"):
        chain.meters[members[0]].hear(forged)


def test_a_share_that_was_not_dealt_is_refused_by_every_replica(chain: PrivateChain) -> None:
    members = chain.join()
    for take in (chain.deal, chain.mask, chain.show, chain.sign):
        take()
    answer = chain.meters[members[0]].hear(chain.notice)
    assert answer is not None
    unmasking = base.open_signed(Unmasking, answer[1], CHAIN_ID).message
    wrong = (RevealedShare(unmasking.shares[0].owner, bytes(32)), *unmasking.shares[1:])
    chain.refused(
        signed(chain, members[0], topics.UNMASKING, Unmasking(unmasking.round_id, wrong)),
        "a share is not the one that was dealt",
    )
    stranger = (*unmasking.shares, RevealedShare(b"\xff" * 20, bytes(32)))
    chain.refused(signed(chain, members[0], topics.UNMASKING, Unmasking(unmasking.round_id, stranger)), "that dealt none")
    chain.good(step_tx(*answer))
    chain.refused(step_tx(*answer), "already revealed its shares")


def test_a_chain_in_the_clear_takes_no_step_and_no_proposal_without_a_model(tmp_path: Path) -> None:
    clear = Chain(tmp_path / "app.sqlite", dataclasses.replace(SECRET, privacy="none"))
    assert clear.state.private == () and not clear.query(f"private/{MODEL.hex()}").ok
    clear.to_aggregate()
    tx = step_tx(topics.MASK, base.sign(MaskCommit(bytes(32), bytes(32)), CHAIN_ID, METERS[0].signing_key))
    clear.refused(tx, "it is not of an open private round")
    empty = dataclasses.replace(clear.right(), master=b"", momentum=b"")
    clear.refused(clear.duty(empty, clear.leader()), "0 bytes instead of")
    clear.close()


def test_no_update_is_in_what_leaves_a_meter(chain: PrivateChain) -> None:
    """Not in clear, and not in the masked values: those are uniform, and their sum over the survivors is the masks' too."""
    members = chain.join()
    chain.to_sum()
    blobs = b"".join(b"".join(txs) for txs in chain.blocks) + b"".join(chain.blobs.values())
    for member in members:
        kept = chain.meters[member].pending.load()
        assert kept is not None
        update = open_blob(SECRET, kept.blob)
        assert update.astype("<i2").tobytes()[:32] not in blobs and update.astype("<u4").tobytes()[:64] not in blobs
        masked = np.frombuffer(chain.blobs[member], "<u4").astype(np.float64)
        assert abs(masked.mean() / 2**32 - 0.5) < 0.02 and abs(np.corrcoef(masked, update)[0, 1]) < 0.05


def test_a_replica_that_restarts_in_the_middle_of_a_private_round_has_the_same_state(
    chain: PrivateChain, tmp_path: Path
) -> None:
    chain.join()
    for take in (chain.deal, chain.mask, chain.show, chain.sign, chain.unmask):
        take()
        before, info = chain.state, chain.app.info()
        chain.app.close()
        chain.app = PpdlApplication(tmp_path / "app.sqlite")
        assert chain.state == before and chain.app.info() == info
    chain.accept(aggregate_of(chain.duties, chain.blobs))
    chain.judge()
    assert last_record(chain).outcome == "learnt"


def test_what_meters_are_told_of_the_largest_round_fits_into_a_message() -> None:
    keys = [DeviceKey(word(number)) for number in range(MAX_CHAIN_MEMBERS + MAX_COMMITTEE)]
    registered = {key.address: key.mask_public for key in keys}
    members = dict(sorted(registered.items())[:MAX_CHAIN_MEMBERS])
    holidays = dataclasses.replace(SECRET, holiday_days=tuple(range(20_000, 20_000 + MAX_HOLIDAYS)))
    terms = chain_terms(holidays, CHAIN_ID, 1, bytes(32), bytes(32), members)
    key = next(key for key in keys if key.address in members)
    dealing = base.sign(device.deal(key, terms, bytes(32))[1], CHAIN_ID, key.signing_key)
    names = tuple(members)
    notice = PrivateNotice(
        model=MODEL,
        round=2**32,
        phase="unmask",
        height=2**32,
        phase_end_height=2**32,
        base_hash=bytes(32),
        seed=bytes(32),
        members=names,
        dealings=(dealing,) * len(names),
        survivors=names,
        signers=names,
        signatures=(bytes(65),) * len(names),
        registered=tuple(Registered(address, registered[address]) for address in sorted(registered)),
        plan=holidays.encode(),
    )
    assert len(base.encode(notice)) < base.MAX_MESSAGE_BYTES
    assert base.decode(PrivateNotice, base.encode(notice)) == notice


def test_replicas_that_replay_the_blocks_agree_on_a_private_round(chain: PrivateChain, tmp_path: Path) -> None:
    chain.whole_private_round()
    other = Chain(tmp_path / "other.sqlite", SECRET)
    for txs in chain.blocks:
        other.block(*txs)
    assert other.app.info() == chain.app.info() and other.state == chain.state
    other.close()


def test_a_small_round_opens_nothing_over_fewer_than_the_plan_names(chain: PrivateChain) -> None:
    """Five members: two thirds of them would be four, which a hub that keeps commits away could aim at."""
    members = chain.join(count=5)
    assert chain.notice.members == tuple(members)
    with pytest.raises(AssertionError, match="no phase"):
        chain.deal(members[:1])
    closed = next(record for record in chain.state.records if record.number == 0)
    assert closed.outcome == "void_deal"


def test_steps_with_a_byte_changed_or_resigned_with_a_field_changed_never_stop_a_replica(chain: PrivateChain) -> None:
    """In every phase, what the members really say, bent: it is refused in a sentence, or is another word of the same sender."""
    random = np.random.default_rng(7)
    members, refused = chain.join(), 0
    steps = (
        (chain.deal, topics.DEALING),
        (chain.mask, topics.MASK),
        (chain.show, ""),
        (chain.sign, topics.SURVIVORS),
        (chain.unmask, topics.UNMASKING),
    )
    for take, leaf in steps:
        for tx in chain.txs(members[:2], leaf) if leaf else ():
            for place in random.integers(0, len(tx), 60):
                bent = tx[:place] + bytes([tx[place] ^ (1 << int(random.integers(8)))]) + tx[place + 1 :]
                refused += not chain.app.check_tx(bent).ok
            kind, payload = decode_tx(tx).kind, decode_tx(tx).payload
            message = base.open_signed(STEP_MESSAGES[leaf], payload, CHAIN_ID).message
            assert kind == leaf
            for field in dataclasses.fields(message):
                value = getattr(message, field.name)
                shorter = value[:-1] if isinstance(value, tuple) else bytes(len(value))
                with contextlib.suppress(ValueError):
                    changed = dataclasses.replace(message, **{field.name: shorter})
                    verdict = chain.app.check_tx(signed(chain, members[0], leaf, changed))
                    refused += not verdict.ok
        take()
    assert refused > 400
