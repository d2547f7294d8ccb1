"""The first phase as a rule: which commitment enters the open round.

One commit of each registered device, while the phase lasts, to the round's own model. Members of the round's committee judge
and do not train; devices left out for their reputation wait for the next epoch.
Not here: when the phase ends (`learning_rounds`), what a commitment holds (`openmg.learning.blobs`).
"""

from __future__ import annotations

from bisect import insort
from dataclasses import replace

from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_view import LearningView
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.round_state import Commit
from openmg.messages.base import Signed
from openmg.messages.learning import PHASE_COMMIT, UpdateCommit


def require_device(address: bytes, env: LearningEnv, what: str) -> None:
    """Raises Rejected for a device that does not learn this model."""
    if address not in env.devices:
        raise Rejected(f"{what}: device 0x{address.hex()} is not registered for this model; it must be in the genesis")


def require_phase(state: LearningView, number: int, phase: str, what: str) -> None:
    """Raises Rejected when the round is not the open one or not in this phase."""
    if number != state.round.number:
        raise Rejected(f"{what}: round {number} is not open; the open round is {state.round.number}")
    if state.round.phase != phase:
        raise Rejected(f"{what}: round {number} is in its phase {state.round.phase}, not {phase}")


def admit_commit(state: LearningView, signed: Signed[UpdateCommit], env: LearningEnv) -> LearningView:
    """The state with the commit in its round. Raises Rejected."""
    device, message, now = signed.signer, signed.message, state.round
    require_device(device, env, "commit")
    require_phase(state, message.round, PHASE_COMMIT, "commit")
    if message.base_hash != state.model.model_hash:
        raise Rejected("commit: it is to another model than the round's; take the published one", device)
    if device in now.committee:
        raise Rejected(f"commit: device 0x{device.hex()} is in the committee of round {now.number} and does not train")
    if device in now.left_out:
        raise Rejected(f"commit: device 0x{device.hex()} is left out for its reputation until the epoch ends")
    if any(known.device == device for known in state.commits):
        raise Rejected(f"commit: device 0x{device.hex()} already has one in round {now.number}")
    commits = list(state.commits)
    insort(commits, Commit(device, message.commitment), key=lambda commit: commit.device)
    return replace(state, commits=tuple(commits))
