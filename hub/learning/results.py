"""The aggregate of a round as every validator computes it: from the included blobs to the proposal a leader must make.

Rules: pure; the same blobs give the same bytes on every hub, so a proposal is right when it equals one's own.
Not here: fetching blobs (`exchange`), the sum of a private round (`private_sum`), the aggregation itself
(`openmg.learning.aggregate`), what a proposal leads to (`hub.ppdl.app.verdicts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hub.learning.private_sum import private_aggregate
from hub.ppdl.app.duties import AggregateProposal, Found, bitmap_of
from hub.ppdl.app.round_answers import Duties
from openmg.forecast.model import master_bytes, master_from_bytes
from openmg.learning.aggregate import Aggregate, ServerState, aggregate, apply_step
from openmg.learning.blobs import open_blob


def aggregate_of(duties: Duties, blobs: Mapping[bytes, bytes]) -> AggregateProposal:
    """The proposal of attempt 0 for the included set; `blobs` has one for each included device.

    Raises ValueError when a blob's form is not good, which no included one's is.
    """
    if duties.private is not None:
        return private_aggregate(duties, duties.private, blobs)
    plan, spec, model = duties.plan, duties.plan.spec, duties.model
    updates = {device: open_blob(plan, blobs[device]) for device in duties.included}
    outcome = aggregate(updates, plan, duties.registered)
    before = ServerState(master_from_bytes(spec, model.master), master_from_bytes(spec, model.momentum))
    after = apply_step(before, outcome.step, plan)
    return AggregateProposal(
        model=duties.name,
        round=duties.round,
        attempt=0,
        master=master_bytes(after.master),
        momentum=master_bytes(np.asarray(after.momentum)),
        hostile=outcome.hostile,
        capped=bitmap_of([device in outcome.capped for device in duties.included]),
        rejected=_found(outcome, duties.included),
    )


def _found(outcome: Aggregate, included: Sequence[bytes]) -> tuple[Found, ...]:
    by_reason: dict[str, set[bytes]] = {}
    for rejection in outcome.rejected:
        by_reason.setdefault(str(rejection.reason), set()).add(rejection.device)
    return tuple(
        Found(reason, bitmap_of([device in devices for device in included])) for reason, devices in sorted(by_reason.items())
    )
