"""What agreed rejections do to a device: a score, and rounds without it.

A score is in thousandths and follows from closed rounds alone: it falls for each reason on record and rises when the device was
included without one. Below LEFT_OUT_BELOW_MILLI the device may not commit until the epoch (`epoch_rounds` rounds) ends; then
every low score rises to PROBATION_MILLI, so that a repaired meter gets in again. Never are so many left out that fewer than
`min_participants` remain: those with the lowest scores go first.

Pseudonyms. Answers and the console name a device by keccak(tag | epoch | address | chain id | model). That hides a device
from whoever sees answers only, and keeps them from following it beyond an epoch, or from one model to another. It hides
nothing from whoever can list the registered addresses (operators, utility, anybody with the genesis): they hash each of
them. Nor does it hide a commit's or a ballot's signer from whoever reads blocks. The committee is named by address in the
notice to meters, since its members must know.
Not here: the reasons themselves (`learning_rounds`, the aggregation rules).
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.ppdl.app.private_state import BAD_DEALING
from hub.ppdl.app.round_state import MALFORMED, NOT_REVEALED, RoundRecord, Score
from openmg.hashing import keccak256, word
from openmg.learning.plan import LearningPlan

PSEUDONYM_TAG = keccak256(b"openmg.learning.pseudonym.v1")
FULL_MILLI = 1000
LEFT_OUT_BELOW_MILLI = 400
PROBATION_MILLI = 600
CLEAN_GAIN_MILLI = 50
CAPPED_LOSS_MILLI = 50
RULE_LOSS_MILLI = 100
"""A rule may find an honest home far off now and then: one such round costs what two clean ones give back."""
LOSS_MILLI = {MALFORMED: 400, BAD_DEALING: 400, NOT_REVEALED: 50, "not_selected": 0}
"""By reason; any other one is a rule's. Krum leaves out all rows but one, which says nothing about the others."""


def pseudonym(epoch: int, device: bytes, chain_id: int, model: bytes) -> bytes:
    """The 32-byte name of a device in the answers about a model's epoch; `model`: its short name."""
    return keccak256(PSEUDONYM_TAG + word(epoch) + device + word(chain_id) + model)


def epoch_of(number: int, plan: LearningPlan) -> int:
    """The epoch of a round."""
    return number // plan.epoch_rounds


def scores_after(scores: tuple[Score, ...], closed: RoundRecord, plan: LearningPlan) -> tuple[Score, ...]:
    """The scores once a round is closed; those at FULL_MILLI are not kept."""
    table = {score.device: score.score_milli for score in scores}
    faults = {device: CAPPED_LOSS_MILLI for device in closed.capped}
    for rejection in closed.rejected:
        faults[rejection.device] = faults.get(rejection.device, 0) + LOSS_MILLI.get(rejection.reason, RULE_LOSS_MILLI)
    for device in closed.included:
        if not faults.get(device):
            table[device] = min(FULL_MILLI, table.get(device, FULL_MILLI) + CLEAN_GAIN_MILLI)
    for device, loss in faults.items():
        table[device] = max(0, table.get(device, FULL_MILLI) - loss)
    if epoch_of(closed.number + 1, plan) != epoch_of(closed.number, plan):
        table = {device: max(PROBATION_MILLI, score) for device, score in table.items()}
    return tuple(Score(device, score) for device, score in sorted(table.items()) if score < FULL_MILLI)


def left_out(scores: tuple[Score, ...], devices: Iterable[bytes], plan: LearningPlan) -> tuple[bytes, ...]:
    """Devices that may not commit, ascending."""
    low = sorted((score.score_milli, score.device) for score in scores if score.score_milli < LEFT_OUT_BELOW_MILLI)
    room = max(0, len(set(devices)) - plan.min_participants)
    return tuple(sorted(device for _, device in low[:room]))
