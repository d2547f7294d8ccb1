"""Equivocation as a record of the chain: proof is checked by every replica, kept once, and told to the EVM as an event.

The proof is two statements of one key that no honest validator signs both (`consensus.evidence`). It counts when its
signer was in the set of the height it is about, when that height is at most EVIDENCE_MAX_AGE old and at most the next
one's, and when nothing is recorded yet for (signer, height, view, kind). A record is a flag on the validator and a reason
to vote for its removal (`governance`); the stake is slashed by the relay contract, which takes the event.
Bounds: RECORDS_PER_OFFENDER kept records for one key, since whoever holds it can make as many as it likes; a record is
dropped once evidence for its height would be refused as old, so that none can be made twice.
Not here: how a replica notices (`consensus.evidence.Witness`), slashing.
"""

from __future__ import annotations

from dataclasses import replace

from hub.ppdl.app.governance import EVIDENCE_MAX_AGE, set_at
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.state import Env, Offence, Offences, State
from hub.ppdl.consensus.evidence import Evidence
from openmg.hashing import keccak256, words

EVIDENCE_EVENT_TAG = keccak256(b"openmg.event.evidence.v1")
RECORDS_PER_OFFENDER = 16
"""Enough to see that it was no single accident."""
MAX_OFFENCES = 1024
"""RECORDS_PER_OFFENDER for each of 64 validators."""


def event_of(offence: Offence, chain_id: int) -> bytes:
    """[tag, PPDL chain, validator, height, view, kind, digest a, digest b] as words."""
    place = offence.height, offence.view, offence.kind
    return words(EVIDENCE_EVENT_TAG, chain_id, offence.offender, *place, offence.digest_a, offence.digest_b)


def record_evidence(state: State, evidence: Evidence, signer: bytes, height: int, env: Env) -> tuple[State, bytes]:
    """The state with the record, and its event; `signer` made both statements. Raises Rejected."""
    if not height - EVIDENCE_MAX_AGE <= evidence.height <= height + 1:
        raise Rejected(f"evidence: height {evidence.height} is too old or not reached; at height {height} it is refused")
    span = set_at(state, evidence.height)
    if span is None or signer not in span.addresses:
        raise Rejected(f"evidence: 0x{signer.hex()} was not a validator at height {evidence.height}")
    kept = state.offences.kept
    place = signer, evidence.height, evidence.view, int(evidence.kind)
    if any((known.offender, known.height, known.view, known.kind) == place for known in kept):
        raise Rejected("evidence: this equivocation is recorded already")
    if sum(known.offender == signer for known in kept) >= RECORDS_PER_OFFENDER or len(kept) >= MAX_OFFENCES:
        raise Rejected(f"evidence: {RECORDS_PER_OFFENDER} records of 0x{signer.hex()} are enough; vote for its removal")
    offence = Offence(*place, evidence.digest_a, evidence.digest_b, height)
    offences = Offences(state.offences.total + 1, (*kept, offence))
    return replace(state, offences=offences), event_of(offence, env.chain_id)


def end_block(state: State, height: int) -> State:
    """Drops records whose evidence the next block would refuse as old."""
    kept = tuple(one for one in state.offences.kept if one.height >= height + 1 - EVIDENCE_MAX_AGE)
    if len(kept) == len(state.offences.kept):
        return state
    return replace(state, offences=Offences(state.offences.total, kept))
