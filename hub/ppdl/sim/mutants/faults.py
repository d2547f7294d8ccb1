"""The bugs themselves: faulty replicas and faulty pure functions, each as small as the mistake it copies.

What each stands for is said in `catalogue.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hub.ppdl.application import Verdict
from hub.ppdl.consensus import certs
from hub.ppdl.consensus.certs import CertError, Domain
from hub.ppdl.consensus.effects import Broadcast, Effect, Persist, Restored, SetTimer, Timeout, Tip, Validated, VoteRecord
from hub.ppdl.consensus.messages import (
    Commit,
    Decided,
    DecidedAnnouncement,
    Kind,
    NewView,
    NewViewAnnouncement,
    Prepare,
    PreparedCert,
    ViewChange,
)
from hub.ppdl.consensus.quorum import ValidatorSet, max_faulty
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.consensus.votes import ViewChangeBox, VoteBox

# Quorums and certificates


def quorum_of_2f(n: int) -> int:
    """One vote too few."""
    return max(1, 2 * max_faulty(n))


def quorum_of_2f_plus_1(n: int) -> int:
    """Right for n = 3f + 1 only."""
    return 2 * max_faulty(n) + 1


def signers_not_distinct(validators: ValidatorSet, signers: Iterable[bytes]) -> None:
    """Counts signatures, not signers."""
    members = [signer for signer in signers if signer in validators]
    if len(members) < validators.quorum:
        raise CertError("certificate has too few signatures")


def unchecked_certificate(domain: Domain, validators: ValidatorSet, cert: PreparedCert) -> None:
    """Believes a prepared certificate without looking at its signatures."""


def lowest_certificate(changes: Sequence[ViewChange]) -> PreparedCert | None:
    """Takes the certificate of the lowest view."""
    found = [vc.cert for vc in changes if vc.cert is not None]
    return min(found, key=lambda cert: cert.view, default=None)


def no_certificate(changes: Sequence[ViewChange]) -> PreparedCert | None:
    """Proposes fresh whatever was prepared."""
    return None


def any_proposal_in_new_view(domain: Domain, validators: ValidatorSet, message: NewView) -> PreparedCert | None:
    """Takes the highest certificate, but does not compare it with what is proposed."""
    senders = [certs.verify_view_change(domain, validators, change) for change in message.view_changes]
    certs._ascending_quorum(validators, senders)
    cert = certs.select_certificate(message.view_changes)
    certs.verify_pre_prepare(domain, validators, message.proposal)
    return cert if cert is not None and cert.header.hash == message.proposal.digest else None


# Boxes of votes


def counted_over_views(box: VoteBox, view: int, digest: bytes) -> int:
    """Senders that voted for the block in any view."""
    votes = [(sender, vote) for one in box._views.values() for sender, vote in one.items()]
    return len({sender for sender, vote in votes if vote.digest == digest})


def redeemed_over_views(box: VoteBox, view: int, digest: bytes, needed: int) -> list[tuple[bytes, Prepare | Commit]]:
    """Claims for the block in any view."""
    claims = [(of, sender) for of, said in box._claims.items() for sender, vote in said.items() if vote.digest == digest]
    return [(sender, box._claims[of].pop(sender)) for of, sender in claims]


def signatures_over_views(box: VoteBox, view: int, digest: bytes) -> tuple[bytes, ...]:
    """One vote of each sender for the block, from any view."""
    found = {s: vote.signature for one in box._views.values() for s, vote in one.items() if vote.digest == digest}
    return tuple(found[sender] for sender in sorted(found))


def counted_over_digests(box: VoteBox, view: int, digest: bytes) -> int:
    """Senders that voted for any block in the view."""
    return len(box._views.get(view, {}))


def signatures_over_digests(box: VoteBox, view: int, digest: bytes) -> tuple[bytes, ...]:
    """The votes of a view, whatever they are for."""
    votes = box._views.get(view, {})
    return tuple(votes[sender].signature for sender in sorted(votes))


def every_view_wanted(box: VoteBox, view: int, current: int) -> bool:
    """Keeps votes of all views."""
    return True


def joins_one_sender(box: ViewChangeBox, faulty: int, me: bytes) -> int:
    """Follows the highest VIEW-CHANGE of anybody."""
    said = {**box._by_sender, **box._claims}
    return max((vc.view for sender, vc in said.items() if sender != me), default=0)


# What a signature binds

_signed_digest = Domain.digest


def view_not_signed(domain: Domain, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
    """Leaves the view out."""
    return _signed_digest(domain, kind, height, 0, digest)


def height_not_signed(domain: Domain, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
    """Leaves the height out."""
    return _signed_digest(domain, kind, 0, view, digest)


def kind_not_signed(domain: Domain, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
    """Signs every kind alike."""
    return _signed_digest(domain, Kind.PREPARE, height, view, digest)


# Replicas


class ForgetsItsCertificate(Replica):
    """Sends VIEW-CHANGE without the certificate it holds."""

    def _carried_certificate(self) -> PreparedCert | None:
        return None


class NeverUnlocks(Replica):
    """Once it prepared a block it votes for no other, whatever the NEW-VIEW proves."""

    def _prepare(self, before: tuple[VoteRecord, ...] = (), announcements: tuple[Broadcast, ...] = ()) -> None:
        lock, proposal = self.state.prepared, self.state.proposal
        if lock is None or proposal is None or lock.block.hash == proposal.block.hash:
            super()._prepare(before, announcements)


class SpeaksFirst(Replica):
    """Sends before it writes."""

    def _take(self) -> list[Effect]:
        effects = super()._take()
        writes = [effect for effect in effects if isinstance(effect, Persist)]
        return [effect for effect in effects if not isinstance(effect, Persist)] + writes


class ForgetsItsVotes(Replica):
    """Starts every life in view 0 with an empty memory of what it signed."""

    def _restore(self, restored: Restored) -> None:
        super()._restore(Restored((), restored.prepared, restored.complete))


class ForgetsItsLock(Replica):
    """Comes back from a crash with its votes, but without the certificate under them."""

    def _restore(self, restored: Restored) -> None:
        super()._restore(Restored(restored.votes, None, restored.complete))


class VotesWithoutItsLog(Replica):
    """Lost its vote log and speaks all the same."""

    def may_vote(self) -> bool:
        return self.address in self.tip.validators


class TakesTheApplicationForGranted(Replica):
    """Votes for what the application refused."""

    def _on_validated(self, event: Validated) -> None:
        super()._on_validated(replace(event, verdict=Verdict.ACCEPT))


class ChecksAgainstTheNextSet(Replica):
    """Verifies the block of a height with the validators of the next."""

    def _on_decided(self, sender: bytes, message: Decided | DecidedAnnouncement) -> None:
        if isinstance(message, Decided) and message.height == self.height and not self.state.deciding:
            certs.verify_qc(self.domain, self.tip.next_validators, message.header, message.qc)
            self._decide(message)


class BelievesPeers(Replica):
    """Takes a decided block on a peer's word."""

    def _on_decided(self, sender: bytes, message: Decided | DecidedAnnouncement) -> None:
        if isinstance(message, Decided) and message.height == self.height and not self.state.deciding:
            self._decide(message)


class DeafWhileViewChanging(Replica):
    """Hears of no decision while it waits for a NEW-VIEW."""

    def _on_decided(self, sender: bytes, message: Decided | DecidedAnnouncement) -> None:
        if self.state.active:
            super()._on_decided(sender, message)


class KeepsTheProposal(Replica):
    """Begins a height with the proposal of the last."""

    def _on_advanced(self, tip: Tip) -> None:
        stale, before = self.state.proposal, self.height
        super()._on_advanced(tip)
        if self.height != before and self.state.proposal is None:
            self.state.proposal = stale


class GoesBack(Replica):
    """Enters an earlier view when its NEW-VIEW comes late."""

    def _on_new_view(self, sender: bytes, message: NewView | NewViewAnnouncement) -> None:
        if message.view < self.state.view:
            self.state.enter(message.view, active=False)
        super()._on_new_view(sender, message)


class RunsAhead(Replica):
    """Counts down in a view that nobody else wants."""

    def _on_timeout(self, event: Timeout) -> None:
        super()._on_timeout(event)
        self._emit(SetTimer(self.height, self.state.view, idle=False))


class WatchesNobody(Replica):
    """Sets no timer while there is nothing to agree on."""

    def _open_height(self) -> None:
        super()._open_height()
        self._out = [effect for effect in self._out if not isinstance(effect, SetTimer)]
