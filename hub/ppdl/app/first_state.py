"""The state before block 1: the model of the published seed, round 0 open, the feeders' past, the first validator set.

Not here: what the genesis says (`genesis_state`), the sections (`state`, `round_state`).
"""

from __future__ import annotations

from hub.ppdl.app.committee import draw_committee
from hub.ppdl.app.round_state import Model, Round, opening_record
from hub.ppdl.app.state import FOUR, Env, Grid, Offences, SetSpan, State
from openmg.forecast.model import initial_master, master_bytes
from openmg.learning.quantise import model_hash
from openmg.messages.learning import PHASE_COMMIT


def first_state(env: Env, validators: tuple[bytes, ...]) -> State:
    """What every replica starts from."""
    genesis, plan = env.genesis, env.genesis.plan
    master = initial_master(plan.spec, plan.seed)
    model = Model(master_bytes(master), bytes(plan.spec.master_bytes), model_hash(plan.spec, master))
    members = draw_committee(0, model.model_hash, env.devices, env.chain, plan)
    return State(
        model=model,
        round=Round(0, 0, PHASE_COMMIT, 0, 0, members, (), (), (), 0, 0, 0),
        commits=(),
        blob_votes=(),
        candidates=(),
        verdicts=(),
        ballots=(),
        losses=(),
        records=(opening_record(0, 0, model.model_hash),),
        scores=(),
        wrong_aggregates=(),
        grids=tuple(Grid(feeder.microgrid, feeder.start_hour, feeder.net_wh, ()) for feeder in genesis.feeders),
        answers=(),
        sets=(SetSpan(0, 1, validators, len(validators) >= FOUR),),
        proposals=(),
        offences=Offences(0, ()),
    )
