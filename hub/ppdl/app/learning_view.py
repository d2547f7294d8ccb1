"""One model of the agreed state as the rules of its rounds see it, and the way back into the state.

Rules: what a rule changes in its view goes to the place of that model and no other; so rounds of different models cannot touch
each other. A message finds its model by the short name that it is signed with, and an unknown one is refused.
Not here: the rules (`learning_rounds` and the files it names).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.round_state import Learning
from hub.ppdl.app.state import LEARNING_SECTIONS, Env, SetSpan, State

SHOWN_BYTES = 16
"""Of an unknown name that its refusal repeats."""


@dataclass(frozen=True, slots=True)
class LearningView(Learning):
    """The sections of one model, and the validator sets by which its votes are counted; those are only read here."""

    sets: tuple[SetSpan, ...]


@dataclass(frozen=True, slots=True)
class OpenModel:
    """One model of a state: its place among the plans, what its rules see, and what never changes for it."""

    state: State
    place: int
    view: LearningView
    env: LearningEnv

    def with_view(self, view: LearningView) -> State:
        """The state with this model's sections as they are in `view`; the same state when nothing changed."""
        if view is self.view:
            return self.state
        learning = Learning(*(getattr(view, name) for name in LEARNING_SECTIONS))
        models = (*self.state.models[: self.place], learning, *self.state.models[self.place + 1 :])
        return replace(self.state, models=models)


def model_at(state: State, place: int, env: Env) -> OpenModel:
    """The model of the plan with this number."""
    learning = state.models[place]
    values = [*(getattr(learning, name) for name in LEARNING_SECTIONS), state.sets]
    return OpenModel(state, place, LearningView(*values), env.learning[place])


def model_named(state: State, name: bytes, env: Env, what: str) -> OpenModel:
    """The model with this short name. Raises Rejected."""
    place = next((place for place, known in enumerate(env.learning) if known.name == name), None)
    if place is None:
        raise Rejected(f"{what}: model 0x{name[:SHOWN_BYTES].hex()} is not one of this chain; its genesis names them")
    return model_at(state, place, env)
