"""Signed messages made by hand: for liars and for scripts, which say what no honest replica would.

A forger holds the keys it was given and nothing else; with them it can sign anything.
"""

from __future__ import annotations

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import (
    Commit,
    Decided,
    Kind,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    QuorumCert,
    ViewChange,
)
from hub.ppdl.sim.keys import Scheme
from openmg.hashing import merkle_root


class Forger:
    """Signs with the keys of a scheme, by address."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme

    def _sign(self, who: bytes, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
        return self._scheme.signers[who](self._scheme.domain.digest(kind, height, view, digest))

    def block(self, tip: Tip, proposer: bytes, txs: tuple[bytes, ...], timestamp_ms: int) -> Block:
        """A block that follows `tip`."""
        place = self._scheme.domain.chain_id, tip.height + 1, tip.hash, max(timestamp_ms, tip.timestamp_ms + 1), proposer
        state = merkle_root(txs), tip.app_hash, tip.validators.hash, tip.next_validators.hash
        return Block(Header(*place, *state), txs)

    def pre_prepare(self, who: bytes, view: int, block: Block) -> PrePrepare:
        """A proposal."""
        return PrePrepare(view, block, self._sign(who, Kind.PRE_PREPARE, block.height, view, block.hash))

    def prepare(self, who: bytes, height: int, view: int, digest: bytes) -> Prepare:
        """A PREPARE vote."""
        return Prepare(height, view, digest, self._sign(who, Kind.PREPARE, height, view, digest))

    def commit(self, who: bytes, height: int, view: int, digest: bytes) -> Commit:
        """A COMMIT vote."""
        return Commit(height, view, digest, self._sign(who, Kind.COMMIT, height, view, digest))

    def prepared(self, signers: tuple[bytes, ...], view: int, block: Block) -> PreparedCert:
        """A prepared certificate, as far as the signers are a quorum."""
        votes = (self.prepare(who, block.height, view, block.hash).signature for who in sorted(signers))
        return PreparedCert(view, block.header, tuple(votes))

    def view_change(self, who: bytes, height: int, view: int, cert: PreparedCert | None = None) -> ViewChange:
        """A VIEW-CHANGE."""
        digest = ViewChange(height, view, cert, b"").digest
        return ViewChange(height, view, cert, self._sign(who, Kind.VIEW_CHANGE, height, view, digest))

    def new_view(self, who: bytes, view: int, changes: tuple[ViewChange, ...], block: Block) -> NewView:
        """A NEW-VIEW on these VIEW-CHANGEs."""
        proposal = self.pre_prepare(who, view, block)
        digest = NewView(block.height, view, changes, proposal, b"").digest
        return NewView(block.height, view, changes, proposal, self._sign(who, Kind.NEW_VIEW, block.height, view, digest))

    def decided(self, signers: tuple[bytes, ...], view: int, block: Block) -> Decided:
        """A block with the seals of these signers, be they a quorum or not."""
        seals = (self.commit(who, block.height, view, block.hash).signature for who in sorted(signers))
        return Decided(block, QuorumCert(view, tuple(seals)))
