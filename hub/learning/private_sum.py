"""The aggregate of a private round as every validator computes it: the survivors' sum, and what it makes of the model.

Rules: pure; the same masked updates, dealings and shares give the same bytes on every hub. A sum that cannot be opened, or that
is longer than clipped updates can make it, gives a proposal without a model: it says that the sum is not to be used, and
names the dealer where one is at fault.
Not here: the blobs' way between hubs (`exchange`), what a proposal leads to (`hub.ppdl.app.verdicts`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hub.ppdl.app.duties import AggregateProposal, Found, bitmap_of
from hub.ppdl.app.private_answers import OpenPrivate
from hub.ppdl.app.private_state import BAD_DEALING
from hub.ppdl.app.round_answers import Duties
from openmg.forecast.model import master_bytes, master_from_bytes
from openmg.learning.aggregate import ServerState, apply_step
from openmg.learning.plan import LearningPlan
from openmg.learning.secure.chain_round import masked_bytes, sum_bound
from openmg.learning.secure.groups import group_mean
from openmg.learning.secure.opening import DealerFault, open_sum
from openmg.learning.secure.plausible import require_plausible
from openmg.learning.secure.terms import SecureError


def check_masked(plan: LearningPlan, blob: bytes) -> None:
    """Raises ValueError, one sentence, when a masked update has not the form it must have."""
    if len(blob) != masked_bytes(plan):
        raise ValueError(f"masked update: {len(blob)} bytes instead of {masked_bytes(plan)}")


def private_aggregate(duties: Duties, private: OpenPrivate, blobs: Mapping[bytes, bytes]) -> AggregateProposal:
    """The proposal of attempt 0; `blobs` has the masked update of each survivor."""
    plan, spec, survivors = duties.plan, duties.plan.spec, duties.included
    dealers = [dealt.device for dealt in private.steps.dealings]
    nobody = bitmap_of([False] * len(dealers))
    masked = {device: blobs[device] for device in survivors}
    try:
        total, _ = open_sum(private.terms, private.dealings(), masked, private.unmaskings())
        require_plausible(total, sum_bound(plan, private.terms, len(survivors)))
    except SecureError as error:
        found: tuple[Found, ...] = ()
        if isinstance(error, DealerFault):
            found = (Found(BAD_DEALING, bitmap_of([dealer == error.dealer for dealer in dealers])),)
        return AggregateProposal(duties.name, duties.round, 0, b"", b"", 0, nobody, found)
    before = ServerState(master_from_bytes(spec, duties.model.master), master_from_bytes(spec, duties.model.momentum))
    after = apply_step(before, group_mean(total, len(survivors)), plan)
    master, momentum = master_bytes(after.master), master_bytes(np.asarray(after.momentum))
    return AggregateProposal(duties.name, duties.round, 0, master, momentum, 0, nobody, ())
