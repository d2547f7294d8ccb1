"""Consensus messages out of a tape: well formed, signed by any of the keys or by nobody, near the place in hand or far off.

What is drawn is what a coalition of all keys could say, and a stranger beside them. One block in two was said before, so
that votes meet.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass, field

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.messages import (
    MAX_VIEW,
    Commit,
    Decided,
    Kind,
    Message,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    QuorumCert,
    Status,
    SyncRequest,
    SyncResponse,
    ViewChange,
)
from hub.ppdl.genesis import MAX_U64
from hub.ppdl.sim.forge import Forger
from hub.ppdl.sim.keys import Scheme
from openmg.signing import SIGNATURE_BYTES
from workbench.ppdl_fuzz.tape import Tape

BLOCKS_REMEMBERED = 6
NO_SIGNATURE_IN = 8
"""One message in so many is signed by nobody."""
_HASHES = ("parent_hash", "tx_root", "app_hash", "validators_hash", "next_validators_hash")


@dataclass
class Speech:
    """Draws messages about the block after `tip`, in views around `view`. `voices`: the addresses whose keys there are."""

    scheme: Scheme
    voices: list[bytes]
    tip: Tip
    view: int = 0
    blocks: deque[Block] = field(default_factory=lambda: deque(maxlen=BLOCKS_REMEMBERED))

    def __post_init__(self) -> None:
        self.forger = Forger(self.scheme)

    def _signature(self, tape: Tape, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
        if tape.rarely(NO_SIGNATURE_IN):
            return tape.take(SIGNATURE_BYTES)
        return self.signed(tape.pick(self.voices), kind, height, view, digest)

    def signed(self, voice: bytes, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
        """A voice's signature."""
        return self.scheme.signers[voice](self.scheme.domain.digest(kind, height, view, digest))

    def some_view(self, tape: Tape) -> int:
        """A view, mostly near."""
        return tape.number(MAX_VIEW, self.view)

    def some_height(self, tape: Tape) -> int:
        """A height, mostly that in hand."""
        near = self.tip.height + 1
        return near if tape.below(4) < 3 else max(1, tape.number(MAX_U64, near))

    def block(self, tape: Tape) -> Block:
        """A block: a remembered one, one that may follow the tip, or one with a field changed."""
        if self.blocks and tape.below(2) == 0:
            return tape.pick(self.blocks)
        txs = tuple(dict.fromkeys(tape.chunk(6) for _ in range(tape.below(4))))
        proposer = tape.pick(self.voices) if tape.rarely(8) else self._turn(tape)
        block = self.forger.block(self.tip, proposer, txs, self.tip.timestamp_ms + 1 + tape.below(4))
        if tape.rarely(6):
            block = Block(dataclasses.replace(block.header, **self._other_field(tape)), txs)  # type: ignore[arg-type]
        self.blocks.append(block)
        return block

    def _turn(self, tape: Tape) -> bytes:
        """Whose turn it is in this view or the next."""
        return self.tip.validators.proposer(self.tip.height + 1, self.view + tape.below(2))

    def _other_field(self, tape: Tape) -> dict[str, object]:
        how = tape.below(8)
        if how < 3:
            # Its end is left out: a quorum that decides a block of the last millisecond ends the chain, and no clock reads it.
            return {("chain_id", "height", "timestamp_ms")[how]: tape.number(MAX_U64 - 2**32, self.tip.height + 1)}
        if how == 3:
            return {"proposer": tape.take(20)}
        name = tape.pick([name for name in _HASHES if name != "tx_root"])
        return {name: tape.take(32)}

    def _voices(self, tape: Tape) -> list[bytes]:
        """Some of the voices, ascending; mostly a quorum of the first four."""
        if tape.below(4) < 3:
            return sorted(self.voices[:4])[tape.below(2) :]
        mask = tape.below(1 << len(self.voices))
        return sorted(voice for i, voice in enumerate(self.voices) if mask >> i & 1) or [self.voices[0]]

    def _signatures(self, tape: Tape, kind: Kind, view: int, block: Block) -> tuple[bytes, ...]:
        voices = self._voices(tape)
        signatures = [self.signed(voice, kind, block.height, view, block.hash) for voice in voices]
        match tape.below(10):
            case 9:
                signatures.reverse()
            case 8:
                signatures.append(signatures[-1])
            case 7:
                signatures[-1] = tape.take(SIGNATURE_BYTES)
        return tuple(signatures)

    def certificate(self, tape: Tape) -> PreparedCert:
        """A prepared certificate, good or bad."""
        block, view = self.block(tape), self.some_view(tape)
        return PreparedCert(view, block.header, self._signatures(tape, Kind.PREPARE, view, block))

    def qc(self, tape: Tape, block: Block) -> QuorumCert:
        """A quorum certificate, good or bad."""
        view = self.some_view(tape)
        return QuorumCert(view, self._signatures(tape, Kind.COMMIT, view, block))

    def pre_prepare(self, tape: Tape) -> PrePrepare:
        """A proposal."""
        block, view = self.block(tape), self.some_view(tape)
        if tape.below(2) == 0:
            voice = self.tip.validators.proposer(block.height, view)
            if voice in self.scheme.signers:
                return self.forger.pre_prepare(voice, view, block)
        return PrePrepare(view, block, self._signature(tape, Kind.PRE_PREPARE, block.height, view, block.hash))

    def vote(self, tape: Tape) -> Prepare | Commit:
        """A PREPARE or COMMIT."""
        height, view = self.some_height(tape), self.some_view(tape)
        digest = tape.take(32) if tape.rarely(8) else self.block(tape).hash
        if tape.below(2) == 0:
            return Prepare(height, view, digest, self._signature(tape, Kind.PREPARE, height, view, digest))
        return Commit(height, view, digest, self._signature(tape, Kind.COMMIT, height, view, digest))

    def view_change(self, tape: Tape, view: int | None = None, voice: bytes | None = None) -> ViewChange:
        """A VIEW-CHANGE with or without certificate and block."""
        height = self.some_height(tape)
        if view is None:
            view = max(1, self.some_view(tape))
        cert = self.certificate(tape) if tape.below(3) == 2 else None
        digest = ViewChange(height, view, cert, b"").digest
        place = Kind.VIEW_CHANGE, height, view, digest
        signature = self._signature(tape, *place) if voice is None else self.signed(voice, *place)
        block = None
        if cert is not None and tape.below(2) == 0:
            block = next((known for known in self.blocks if known.hash == cert.header.hash), None)
        elif tape.rarely(10):
            block = self.block(tape)
        return ViewChange(height, view, cert, signature, block)

    def new_view(self, tape: Tape) -> NewView:
        """A NEW-VIEW: of one view and its own proposer more often than not."""
        view, block = max(1, self.some_view(tape)), self.block(tape)
        changes = tuple(self.view_change(tape, view, voice).bare() for voice in self._voices(tape))
        proposer = self.tip.validators.proposer(block.height, view)
        voice = proposer if proposer in self.scheme.signers and tape.below(4) < 3 else tape.pick(self.voices)
        message = self.forger.new_view(voice, view, changes, block)
        if tape.rarely(8):
            return dataclasses.replace(message, signature=tape.take(SIGNATURE_BYTES))
        if tape.rarely(8):
            return dataclasses.replace(message, proposal=self.pre_prepare(tape))
        return message

    def decided(self, tape: Tape) -> Decided:
        """A block with its proof, or what passes for one."""
        block = self.block(tape)
        return Decided(block, self.qc(tape, block))

    def message(self, tape: Tape) -> Message:
        """Any message."""
        match tape.below(12):
            case 0 | 1 | 2:
                return self.vote(tape)
            case 3 | 4:
                return self.pre_prepare(tape)
            case 5 | 6:
                return self.view_change(tape)
            case 7 | 8:
                return self.new_view(tape)
            case 9:
                return self.decided(tape)
            case 10:
                return SyncResponse(tuple(self.decided(tape) for _ in range(1 + tape.below(3))))
            case _:
                height = max(1, tape.number(MAX_U64, self.tip.height + 1))
                return Status(height) if tape.below(2) else SyncRequest(height)
