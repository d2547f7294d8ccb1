"""The process that trains one model and ends: `python -m hub.inference.train_child`, task on standard input, model on output.

Rules: as nice as the system allows, so that it takes only time that nobody else wants; whoever wants it to stop ends it, at
any step. Exit code 3 and a sentence on standard output when the history is too short.
Not here: who asks for it (`trainer_job`).
"""

from __future__ import annotations

import os
import sys

from hub.inference.hub_model import HistoryTooShort
from hub.inference.models import KeptModel
from hub.inference.training import TrainingTask, kept_to_json

TOO_SHORT_EXIT_CODE = 3
NICENESS = 19


def main() -> int:
    os.nice(NICENESS)
    task = TrainingTask.from_json(sys.stdin.read())
    try:
        kept = KeptModel.of(task.key, task.train(), task.hour)
    except HistoryTooShort as error:
        print(error)
        return TOO_SHORT_EXIT_CODE
    print(kept_to_json(kept))
    return 0


if __name__ == "__main__":
    sys.exit(main())
