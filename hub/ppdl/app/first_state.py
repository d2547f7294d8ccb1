"""The state before block 1: each model from its published seed with round 0 open, the feeders' past, the first validator set.

Not here: what the genesis says (`genesis_state`), the sections (`state`, `round_state`).
"""

from __future__ import annotations

from hub.ppdl.app.committee import draw_committee
from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.private_rounds import first_private
from hub.ppdl.app.round_state import Learning, Model, Round, opening_record
from hub.ppdl.app.state import FOUR, Env, Grid, Offences, SetSpan, State
from openmg.forecast.model import initial_master, master_bytes
from openmg.learning.quantise import model_hash
from openmg.messages.learning import PHASE_COMMIT


def first_state(env: Env, validators: tuple[bytes, ...]) -> State:
    """What every replica starts from."""
    return State(
        models=tuple(_first_learning(learning) for learning in env.learning),
        grids=tuple(Grid(feeder.microgrid, feeder.start_hour, feeder.net_wh, ()) for feeder in env.genesis.feeders),
        answers=(),
        sets=(SetSpan(0, 1, validators, len(validators) >= FOUR),),
        proposals=(),
        offences=Offences(0, ()),
    )


def _first_learning(env: LearningEnv) -> Learning:
    plan = env.plan
    master = initial_master(plan.spec, plan.seed)
    model = Model(master_bytes(master), bytes(plan.spec.master_bytes), model_hash(plan.spec, master))
    members = draw_committee(0, model.model_hash, env.devices, env.chain, plan)
    return Learning(
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
        private=first_private(plan),
    )
