"""The second phase as a rule: validators say which blobs they hold, and a quorum of them decides what is included.

A validator may vote again with a larger set, at most once in a block; its last vote counts. A commit is included when a quorum
(n + f) // 2 + 1 of the set of that height holds its blob and found its form good, and malformed when a quorum says so.
Why that is safe: of such a quorum at least one honest validator holds the blob (q > f) and hands it to whoever asks, so f
validators that vote for blobs nobody has include nothing. A commitment opens to one blob only and the form of a blob is a pure
function of it, so honest validators never disagree about one; a commit cannot be included and malformed at once.
Not here: fetching and checking blobs (`hub.learning`), when the phase ends (`learning_rounds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from hub.ppdl.app.commits import require_phase
from hub.ppdl.app.duties import Availability, marks_of
from hub.ppdl.app.governance import require_validator
from hub.ppdl.app.learning_view import LearningView
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.round_state import BlobVote
from hub.ppdl.consensus.quorum import quorum
from openmg.messages.base import Signed
from openmg.messages.learning import PHASE_REVEAL


def admit_availability(state: LearningView, signed: Signed[Availability], height: int) -> LearningView:
    """The state with the vote in the place of the validator's former one. Raises Rejected."""
    validator, message = signed.signer, signed.message
    require_validator(state, validator, height, "availability")
    require_phase(state, message.round, PHASE_REVEAL, "availability")
    try:
        for bitmap in (message.present, message.malformed):
            marks_of(bitmap, len(state.commits))
    except ValueError as error:
        raise Rejected(f"availability: {error}") from error
    former = next((vote for vote in state.blob_votes if vote.validator == validator), None)
    if former is not None:
        _require_larger(former, message, height)
    others = [vote for vote in state.blob_votes if vote.validator != validator]
    vote = BlobVote(validator, height, message.present, message.malformed)
    return replace(state, blob_votes=tuple(sorted((*others, vote), key=lambda item: item.validator)))


def _require_larger(former: BlobVote, message: Availability, height: int) -> None:
    pairs = ((former.present, message.present), (former.malformed, message.malformed))
    if former.height == height:
        raise Rejected(f"availability: 0x{former.validator.hex()} already voted in block {height}; vote again in the next")
    if any(a & ~b for old, new in pairs for a, b in zip(old, new, strict=True)) or all(old == new for old, new in pairs):
        raise Rejected("availability: a later vote names all that the former did, and more")


def decided_blobs(state: LearningView, validators: Sequence[bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """(included, malformed) devices, ascending, by the votes of those who are validators now."""
    need = quorum(len(validators))
    votes = [vote for vote in state.blob_votes if vote.validator in validators]
    devices = [commit.device for commit in state.commits]
    included = compress(devices, _tally([vote.present for vote in votes], len(devices)) >= need)
    malformed = compress(devices, _tally([vote.malformed for vote in votes], len(devices)) >= need)
    return tuple(included), tuple(malformed)


def _tally(bitmaps: Sequence[bytes], count: int) -> NDArray[np.int64]:
    """How many of the bitmaps mark each of `count` commits."""
    total = np.zeros(count, dtype=np.int64)
    for bitmap in bitmaps:
        total += np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), count=count, bitorder="little")
    return total
