"""Pure verification: who signed a message, and whether a certificate proves what it claims.

`Domain` binds every signature to message kind, chain id, genesis, height and view, so that none can be
replayed elsewhere. Every digest is computed here from decoded fields; a recovered address counts only if it
belongs to the validator set of that height. All functions raise CertError with a reason and change nothing
(the domain remembers recovered signers in a bounded cache, since certificates repeat votes seen before).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hub.ppdl.consensus.header import Header, seal_digest
from hub.ppdl.consensus.messages import (
    Announcement,
    Commit,
    Kind,
    NewView,
    NewViewAnnouncement,
    Prepare,
    PreparedCert,
    PrePrepare,
    QuorumCert,
    ViewChange,
)
from hub.ppdl.consensus.quorum import ValidatorSet
from openmg.hashing import word
from openmg.signing import InvalidSignature, domain_digest, recover

PURPOSE = "ppdl.consensus.v1"
SIGNER_CACHE_ENTRIES = 16_384  # 64 validators x 4 kinds x a few views; oldest are forgotten first
DIGEST_CACHE_ENTRIES = 64  # votes for one block sign the same 32 bytes: a few (kind, height, view) are in work at a time


class CertError(ValueError):
    """A message or certificate proves nothing; the text says why."""


@dataclass
class Domain:
    """The signing domain of one chain: chain id and genesis hash."""

    chain_id: int
    genesis_hash: bytes
    _signers: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict, repr=False)
    _digests: dict[tuple[Kind, int, int, bytes], bytes] = field(default_factory=dict, repr=False)

    def digest(self, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
        """The 32 bytes that a message of this kind signs."""
        place = kind, height, view, digest
        signed = self._digests.get(place)
        if signed is None:
            signed = self._signed(*place)
            if len(self._digests) >= DIGEST_CACHE_ENTRIES:
                del self._digests[next(iter(self._digests))]
            self._digests[place] = signed
        return signed

    def _signed(self, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
        if kind is Kind.COMMIT:
            return seal_digest(self.chain_id, self.genesis_hash, height, view, digest)
        payload = self.genesis_hash + word(int(kind)) + word(height) + word(view) + digest
        return domain_digest(PURPOSE, self.chain_id, payload)

    def signer(self, kind: Kind, height: int, view: int, digest: bytes, signature: bytes) -> bytes:
        """Address that signed. Raises CertError for a malformed signature."""
        signed = self.digest(kind, height, view, digest)
        known = self._signers.get((signed, signature))
        if known is not None:
            return known
        try:
            address = recover(signed, signature)
        except InvalidSignature as error:
            raise CertError(f"signature of a {kind.name} is invalid") from error
        if len(self._signers) >= SIGNER_CACHE_ENTRIES:
            del self._signers[next(iter(self._signers))]
        self._signers[(signed, signature)] = address
        return address


def _member(validators: ValidatorSet, address: bytes) -> bytes:
    if address not in validators.members:
        raise CertError(f"signer {address.hex()} is not a validator of this height")
    return address


def vote_signer(domain: Domain, validators: ValidatorSet, vote: Prepare | Commit) -> bytes:
    """Validator that cast the vote."""
    return _member(validators, domain.signer(vote.kind, vote.height, vote.view, vote.digest, vote.signature))


def verify_pre_prepare(domain: Domain, validators: ValidatorSet, message: PrePrepare | Announcement) -> bytes:
    """Check that the proposer of (height, view) signed the proposal; return its address."""
    place = message.height, message.view
    signer = domain.signer(Kind.PRE_PREPARE, *place, message.digest, message.signature)
    if signer != validators.proposer(*place):
        raise CertError("proposal is not signed by the proposer of its view")
    return signer


def _ascending_quorum(validators: ValidatorSet, signers: Iterable[bytes]) -> None:
    last, count = b"", 0
    for signer in signers:
        if signer <= last:
            raise CertError("signers of a certificate are not strictly ascending")
        last, count = _member(validators, signer), count + 1
    if count < validators.quorum:
        raise CertError(f"certificate has {count} signers, a quorum is {validators.quorum}")


def verify_qc(domain: Domain, validators: ValidatorSet, header: Header, qc: QuorumCert) -> None:
    """Check that a quorum of `validators` sealed the header in one view (what PpdlRelay checks on the EVM)."""
    place = header.height, qc.view, header.hash
    _ascending_quorum(validators, (domain.signer(Kind.COMMIT, *place, seal) for seal in qc.seals))


def verify_prepared(domain: Domain, validators: ValidatorSet, cert: PreparedCert) -> None:
    """Check that a quorum of `validators` sent PREPARE for the certificate's header in its view."""
    place = cert.header.height, cert.view, cert.header.hash
    _ascending_quorum(validators, (domain.signer(Kind.PREPARE, *place, s) for s in cert.signatures))


def verify_view_change(domain: Domain, validators: ValidatorSet, message: ViewChange) -> bytes:
    """Check signature, certificate and attached block; return the sender."""
    sender = _view_change_signer(domain, validators, message)
    _check_carried(domain, validators, message)
    return sender


def _view_change_signer(domain: Domain, validators: ValidatorSet, message: ViewChange) -> bytes:
    place = Kind.VIEW_CHANGE, message.height, message.view, message.digest
    return _member(validators, domain.signer(*place, message.signature))


def _check_carried(domain: Domain, validators: ValidatorSet, message: ViewChange) -> None:
    """Check the certificate and the block that a VIEW-CHANGE carries."""
    cert = message.cert
    if cert is None:
        if message.block is not None:
            raise CertError("view change attaches a block without a certificate")
        return
    if cert.header.height != message.height or cert.view >= message.view:
        raise CertError("view change carries a certificate of another height or of a later view")
    if message.block is not None and message.block.hash != cert.header.hash:
        raise CertError("view change attaches another block than its certificate names")
    verify_prepared(domain, validators, cert)


def select_certificate(changes: Sequence[ViewChange]) -> PreparedCert | None:
    """The certificate that the new view must propose again.

    The one of the highest view, or None when there is none.
    """
    certs = [vc.cert for vc in changes if vc.cert is not None]
    return max(certs, key=lambda cert: (cert.view, cert.header.hash), default=None)


def verify_new_view(domain: Domain, validators: ValidatorSet, message: NewView | NewViewAnnouncement) -> PreparedCert | None:
    """Check a NEW-VIEW whole: signer, quorum of VIEW-CHANGEs for exactly this view, and the proposal they force.

    Returns the certificate that forced the proposal, or None when it is a fresh block.
    """
    place = message.height, message.view
    signer = domain.signer(Kind.NEW_VIEW, *place, message.digest, message.signature)
    if signer != validators.proposer(*place):
        raise CertError("new view is not signed by the proposer of its view")
    proposal = message.proposal
    if (proposal.height, proposal.view) != place or any((vc.height, vc.view) != place for vc in message.view_changes):
        raise CertError("new view holds a message of another height or view")
    # One sender's second message ends the check before any certificate costs a quorum of signatures.
    _ascending_quorum(validators, (_view_change_signer(domain, validators, vc) for vc in message.view_changes))
    for change in message.view_changes:
        _check_carried(domain, validators, change)
    verify_pre_prepare(domain, validators, proposal)
    cert = select_certificate(message.view_changes)
    if cert is not None and cert.header.hash != proposal.digest:
        raise CertError("new view does not propose the block of the highest prepared certificate again")
    return cert


Signer = Callable[[bytes], bytes]
"""Signs a 32-byte digest with the validator's key: r || s || v, 65 bytes."""
