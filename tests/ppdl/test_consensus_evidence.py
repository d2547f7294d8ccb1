"""How a replica notices equivocation, whatever way the two statements reach it, and that honest validators never make any."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pbft_lab import Lab

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.certs import CertError, Domain
from hub.ppdl.consensus.effects import Broadcast, Complaint, Effect, Event, Received, Send, Tick
from hub.ppdl.consensus.evidence import (
    ACCUSATIONS_PER_SIGNER,
    EVIDENCE_KINDS,
    WITNESSED_PER_SIGNER,
    Evidence,
    EvidenceError,
    Witness,
    make_evidence,
    verify_evidence,
)
from hub.ppdl.consensus.messages import Commit, Decided, Kind, Message, NewView, Prepare, PrePrepare, ViewChange, kind_of
from hub.ppdl.consensus.quorum import ValidatorSet

Said = PrePrepare | Prepare | Commit | ViewChange


def found(lab: Lab, i: int = 0) -> list[Evidence]:
    """What replica i would send to its chain, each proved."""
    reports = [r for r in lab.members[i].reports if r.complaint is Complaint.EQUIVOCATION]
    for report in reports:
        assert report.evidence is not None and verify_evidence(lab.domain, report.evidence) == report.sender
    return [report.evidence for report in reports if report.evidence is not None]


def hear(lab: Lab, sender: int, *messages: Message, i: int = 0) -> None:
    for message in messages:
        lab.step(i, Received(lab.addresses[sender], message))


def two_blocks(lab: Lab, proposer: int = 1) -> tuple[Block, Block]:
    return lab.block(proposer, b"A"), lab.block(proposer, b"B")


def pair(lab: Lab, kind: Kind) -> tuple[Said, Said]:
    """Two statements of a validator: of number 1 a proposal, of number 2 anything else."""
    a, b = two_blocks(lab)
    if kind is Kind.PRE_PREPARE:
        return lab.pre_prepare(1, 0, a), lab.pre_prepare(1, 0, b)
    if kind is Kind.PREPARE:
        return lab.prepare(2, 0, a), lab.prepare(2, 0, b)
    if kind is Kind.COMMIT:
        return lab.commit(2, 0, a), lab.commit(2, 0, b)
    return lab.view_change(2, 1), lab.view_change(2, 1, lab.cert(0, a))


def speaker(kind: Kind) -> int:
    return 1 if kind is Kind.PRE_PREPARE else 2


@pytest.mark.parametrize("kind", EVIDENCE_KINDS)
def test_two_statements_become_one_proof(kind: Kind) -> None:
    lab = Lab()
    for message in (*pair(lab, kind), *pair(lab, kind)):
        hear(lab, speaker(kind), message)
    (proof,) = found(lab)
    assert (proof.kind, proof.height) == (kind, 1) and proof.digest_a < proof.digest_b
    assert {proof.digest_a, proof.digest_b} == {message.digest for message in pair(lab, kind)}
    assert Evidence.decode(proof.encoded) == proof


@pytest.mark.parametrize("kind", EVIDENCE_KINDS)
def test_both_orders_give_the_same_bytes(kind: Kind) -> None:
    proofs = []
    for step in (1, -1):
        lab = Lab()
        hear(lab, speaker(kind), *pair(lab, kind)[::step])
        proofs += found(lab)
    assert proofs[0].encoded == proofs[1].encoded


@pytest.mark.parametrize("kind", EVIDENCE_KINDS)
def test_the_second_statement_counts_when_the_height_is_over(kind: Kind) -> None:
    """As a rule it arrives then: the first one has helped to decide."""
    lab = Lab()
    first, second = pair(lab, kind)
    hear(lab, speaker(kind), first)
    block = two_blocks(lab)[0]
    hear(lab, 3, Decided(block, lab.qc(0, block, (1, 2, 3))))
    assert lab.members[0].replica.height == 2 and found(lab) == []
    hear(lab, speaker(kind), second)
    assert [proof.height for proof in found(lab)] == [1]
    block2 = lab.block(2, b"C", tip=lab.members[0].replica.tip)
    hear(lab, 3, Decided(block2, lab.qc(0, block2, (1, 2, 3))))
    lab.members[0].reports.clear()
    hear(lab, speaker(kind), first, second)
    assert found(lab) == []  # height 1 is forgotten at height 3


def test_statements_of_the_next_height_count() -> None:
    """Only one message of each kind and sender waits for the next height; the other one is noticed all the same."""
    lab = Lab()
    tip = dataclasses.replace(lab.tip, height=1, hash=b"\1" * 32)
    hear(lab, 2, *(lab.pre_prepare(2, 0, lab.block(2, tx, tip=tip)) for tx in (b"A", b"B")))
    assert [(proof.kind, proof.height) for proof in found(lab)] == [(Kind.PRE_PREPARE, 2)]


def test_whoever_passes_a_vote_on_its_signer_is_accused() -> None:
    lab = Lab()
    a, b = two_blocks(lab)
    hear(lab, 3, lab.prepare(2, 0, a), lab.prepare(2, 0, b))
    (report,) = [r for r in lab.members[0].reports if r.complaint is Complaint.EQUIVOCATION]
    assert report.sender == lab.addresses[2] and len(found(lab)) == 1


def test_two_proposals_for_a_later_view_are_noticed() -> None:
    lab = Lab()
    changes = tuple(lab.view_change(i, 1) for i in (0, 1, 3))
    news = [lab.new_view(2, 1, changes, block) for block in two_blocks(lab, 2)]
    hear(lab, 2, *news)
    assert lab.members[0].replica.view == 1
    (proof,) = found(lab)
    assert (proof.kind, proof.view) == (Kind.PRE_PREPARE, 1)


def test_votes_sent_to_different_replicas_meet_in_certificates() -> None:
    """Number 2 prepares A with one half and B with the other; the halves' certificates give it away."""
    lab = Lab()
    a, b = two_blocks(lab)
    hear(lab, 3, lab.view_change(3, 1, lab.cert(0, a, (0, 2, 3))))
    assert found(lab) == []
    hear(lab, 1, lab.view_change(1, 2, lab.cert(0, b, (0, 1, 2))))
    proofs = found(lab)
    assert {(proof.kind, proof.view) for proof in proofs} == {(Kind.PREPARE, 0)}
    assert {r.sender for r in lab.members[0].reports} == {lab.addresses[0], lab.addresses[2]}


def test_a_seal_inside_a_synced_block_is_held_against_the_vote_that_was_heard() -> None:
    lab = Lab()
    a, b = two_blocks(lab)
    hear(lab, 2, lab.commit(2, 0, b))
    hear(lab, 3, Decided(a, lab.qc(0, a, (1, 2, 3))))
    (proof,) = found(lab)
    assert proof.kind is Kind.COMMIT and {proof.digest_a, proof.digest_b} == {a.hash, b.hash}
    assert lab.members[0].replica.height == 2


def test_attack_noise_between_the_two_statements_hides_nothing() -> None:
    """An unsigned statement takes no place that a signed one has, before or after it."""
    lab = Lab()
    a, b = two_blocks(lab)
    noise = [dataclasses.replace(lab.prepare(2, 0, a), digest=bytes([i]) * 32) for i in range(1, 6)]
    broken = dataclasses.replace(lab.prepare(2, 0, a), digest=b"\7" * 32, signature=bytes(65))
    hear(lab, 2, *noise[:3], broken, lab.prepare(2, 0, a), *noise[3:], broken, lab.prepare(2, 0, b))
    (proof,) = found(lab)
    assert {proof.digest_a, proof.digest_b} == {a.hash, b.hash}


def test_attack_a_vote_under_anothers_name_accuses_nobody() -> None:
    """Number 3 sends what number 2 signed once and its own forgeries of it: number 2 is honest."""
    lab = Lab()
    a, b = two_blocks(lab)
    forged = dataclasses.replace(lab.prepare(2, 0, b), signature=lab.prepare(2, 0, a).signature)
    hear(lab, 3, lab.prepare(2, 0, a), forged, lab.prepare(3, 0, b))
    hear(lab, 2, lab.prepare(2, 0, a), forged)
    assert found(lab) == []


def test_attack_who_is_in_no_set_is_not_remembered() -> None:
    lab = Lab(5)
    validators = ValidatorSet(tuple(lab.addresses[:4]))
    witness = Witness(1, validators)
    for digest in (b"\1" * 32, b"\2" * 32):
        said = Kind.PREPARE, 0, digest, lab.sign(4, Kind.PREPARE, 1, 0, digest)
        assert witness.hear(lab.domain, lab.addresses[4], *said) is None
    assert len(witness) == 0


def test_attack_a_flood_of_statements_costs_a_bounded_memory() -> None:
    lab = Lab()
    witness = Witness(1, lab.set)
    for view in range(10 * WITNESSED_PER_SIGNER):
        witness.hear(lab.domain, lab.addresses[2], Kind.VIEW_CHANGE, view, b"\1" * 32, bytes(65))
        witness.hear(lab.domain, lab.addresses[3], Kind.VIEW_CHANGE, 0, b"\1" * 32, bytes(65))
    assert len(witness) == WITNESSED_PER_SIGNER + 1  # the flooder pushed out only its own


def test_attack_a_key_that_equivocates_in_every_view_is_accused_often_enough() -> None:
    lab = Lab()
    a, b = two_blocks(lab)
    for view in range(1, 2 * ACCUSATIONS_PER_SIGNER):
        hear(lab, 2, lab.view_change(2, view), lab.view_change(2, view, lab.cert(0, a)))
    assert len(found(lab)) == ACCUSATIONS_PER_SIGNER
    hear(lab, 1, lab.prepare(1, 0, a), lab.prepare(1, 0, b))
    assert len(found(lab)) == ACCUSATIONS_PER_SIGNER + 1


def test_attack_a_proof_for_another_place_or_chain_does_not_verify() -> None:
    lab = Lab()
    hear(lab, 2, *pair(lab, Kind.PREPARE))
    (proof,) = found(lab)
    for changed in ({"kind": Kind.COMMIT}, {"height": 2}, {"view": 1}):
        forged = dataclasses.replace(proof, **changed)  # type: ignore[arg-type]
        with pytest.raises(CertError):
            verify_evidence(lab.domain, forged)
    for domain in (Domain(10, lab.domain.genesis_hash), Domain(lab.domain.chain_id, bytes(32))):
        with pytest.raises(CertError):
            verify_evidence(domain, proof)


def test_fields_out_of_range_are_no_evidence() -> None:
    lab = Lab()
    good = make_evidence(Kind.PREPARE, 1, 0, (b"\1" * 32, bytes(65)), (b"\2" * 32, bytes(65)))
    bad = (
        {"height": 0},
        {"height": 2**64},
        {"view": -1},
        {"view": 2**32},
        {"digest_a": b"\1" * 31},
        {"digest_b": b"\1" * 32},
        {"signature_a": bytes(64)},
        {"signature_b": bytes(66)},
        {"kind": Kind.NEW_VIEW},
    )
    for fields in bad:
        with pytest.raises(EvidenceError):
            dataclasses.replace(good, **fields)  # type: ignore[arg-type]
    assert lab.members[0].reports == []


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_are_refused_with_a_sentence(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="evidence: "):
        Evidence.decode(data)


# An honest validator, restarted at any moment, never makes any.


class RestartingLab(Lab):
    """Keeps all that is ever said; before message number `cut` some replicas restart from what they persisted."""

    def __init__(self, restarted: tuple[int, ...], cut: int) -> None:
        self.said: list[Message] = []
        self.restarted, self.left = restarted, cut
        super().__init__()

    def carry(self, i: int, effects: list[Effect]) -> None:
        self.said += [effect.message for effect in effects if isinstance(effect, Broadcast | Send)]
        super().carry(i, effects)

    def step(self, i: int, event: Event) -> list[Effect]:
        if isinstance(event, Received):
            self.left -= 1
            if self.left == 0:
                for number in self.restarted:
                    self.restart(number)
        return super().step(i, event)

    def accused(self) -> list[Evidence]:
        """What witnesses that hear everything would find."""
        witnesses = {height: Witness(height, self.set) for height in range(1, 9)}
        proofs = []
        for message in self.said:
            said = message.proposal if isinstance(message, NewView) else message
            if isinstance(said, PrePrepare | Prepare | Commit | ViewChange):
                fields = kind_of(said), said.view, said.digest, said.signature
                signer = self.domain.signer(fields[0], said.height, *fields[1:])
                proofs.append(witnesses[said.height].hear(self.domain, signer, *fields))
        return [proof for proof in proofs if proof is not None]


def two_heights_and_a_view_change(lab: RestartingLab) -> None:
    """Number 1 proposes; then everybody suspects everybody, twice; what was lost in a restart is said again."""
    lab.propose(1, b"A")
    lab.deliver()
    for _ in range(2):
        lab.time_out(0, 1, 2, 3)
        lab.deliver()
        for _, i in itertools.product(range(2), range(4)):
            lab.step(i, Tick())
        lab.deliver()


@pytest.mark.parametrize("restarted", [(1,), (0, 2), (0, 1, 2, 3)])
def test_honest_restarts_at_any_message_never_make_evidence(restarted: tuple[int, ...]) -> None:
    whole = RestartingLab(restarted, 0)
    two_heights_and_a_view_change(whole)
    assert min(whole.heights()) >= 2 and any(isinstance(message, NewView) for message in whole.said)
    for cut in range(1, -whole.left, 7):
        lab = RestartingLab(restarted, cut)
        two_heights_and_a_view_change(lab)
        assert lab.accused() == []
        assert [r for m in lab.members for r in m.reports if r.complaint is Complaint.EQUIVOCATION] == []
        assert min(lab.heights()) >= 1


def test_a_restart_that_forgets_is_what_the_test_above_would_see() -> None:
    """An empty log that claims to be complete: the validator speaks on and gives evidence against itself."""
    lab = RestartingLab((), 0)
    a, b = two_blocks(lab)
    hear(lab, 1, lab.pre_prepare(1, 0, a))
    lab.members[0].records.clear()
    lab.restart(0)
    hear(lab, 1, lab.pre_prepare(1, 0, b))
    (proof,) = lab.accused()
    assert proof.kind is Kind.PREPARE and verify_evidence(lab.domain, proof) == lab.addresses[0]
