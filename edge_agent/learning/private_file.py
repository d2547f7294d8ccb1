"""What this meter must not forget of private rounds, kept on its disk before each answer leaves.

    plan, registry    hashes of the plan and of the chain's registered devices, that it heard first: it answers no other
    round, device     the latest round it took a step in, and what it remembers of it (`openmg.learning.secure.device`)
    masked            the masked update it sent there
    charged_rounds    rounds in which it sent one, which it counts against the plan's budget itself
Rules: one file for each model, replaced durably. A file that does not read back is never taken for none, because a meter that
forgets could be led to mask or to sign twice: it then takes part in no round of that model, and shows no update in the clear.
Not here: when it changes (`private_rounds`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from openmg.durable import replace_durably
from openmg.hashing import keccak256
from openmg.learning.plan import LearningPlan
from openmg.learning.secure.chain_round import may_open
from openmg.learning.secure.device import DeviceMemory
from openmg.learning.secure.terms import SecureError
from openmg.messages import base

FILES = "learning-*.private"
NO_ROUND = -1


@dataclass(frozen=True)
class PrivateMemory:
    """The file's content; `device` holds at most one memory, that of `round`."""

    PURPOSE: ClassVar[str] = "private-memory"
    plan: bytes = b""
    registry: bytes = b""
    round: int = NO_ROUND
    device: tuple[DeviceMemory, ...] = ()
    masked: bytes = b""
    charged_rounds: int = 0


class PrivateFile:
    """The file of one model in the agent's state folder; used by one thread at a time. `name`: the model's short name."""

    def __init__(self, folder: Path, name: bytes) -> None:
        self.path = folder / f"learning-{name.hex()}.private"
        self._memory: PrivateMemory | None = None

    def load(self) -> PrivateMemory:
        """What was saved last. Raises SecureError for a file that cannot be used."""
        if self._memory is None:
            self._memory = _read(self.path)
        return self._memory

    def registry(self) -> bytes:
        """The registered devices that the meter heard first, of whichever model; empty before. Raises SecureError as `load`."""
        known = [_read(path).registry for path in sorted(self.path.parent.glob(FILES))]
        return next((item for item in known if item), b"")

    def save(self, memory: PrivateMemory) -> None:
        """Make it durable; raises OSError when the disk refuses."""
        replace_durably(self.path, base.encode(memory))
        self._memory = memory

    def may_mask(self, plan: LearningPlan) -> bool:
        """Whether one more masked update stays within the plan's budget, by this meter's own count."""
        return may_open(plan, self.load().charged_rounds)

    def agree(self, plan: LearningPlan) -> None:
        """Hold the meter to the first private plan it heard. Raises SecureError for any other one from then on, and for a plan
        in the clear of any model."""
        memory, name = self.load(), keccak256(plan.encode())
        if memory.plan not in (b"", name):
            raise SecureError(
                "learning: the plan is not the private one this meter agreed to; if the chain was begun anew, move"
                f" {self.path} away"
            )
        if plan.privacy == "none" and any(self.path.parent.glob(FILES)):
            raise SecureError(
                "learning: this meter agreed to hide its updates and shows none of another model either; if the chain was begun"
                f" anew, move {self.path.parent / FILES} away"
            )
        if not memory.plan and plan.privacy != "none":
            self.save(replace(memory, plan=name))


def _read(path: Path) -> PrivateMemory:
    try:
        return base.decode(PrivateMemory, path.read_bytes())
    except FileNotFoundError:
        return PrivateMemory()
    except (OSError, base.InvalidMessage) as error:
        raise SecureError(
            f"{path} cannot be used ({error}); no learning round is answered until it is restored, or moved away after the open"
            " round: the meter then forgets which plan it agreed to and what privacy it spent"
        ) from error
