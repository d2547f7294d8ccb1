"""The update this member promised, kept on its disk until the round is over.

A member may restart between commit and reveal, and a second commit of one round would be refused; so the blob is durable
before its commitment leaves (`durable`). One file for each model. One that does not read back is treated as none: the
member sits the round out.
Not here: what is in a blob (`openmg.learning.blobs`), when it is shown (`service`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from openmg import codec
from openmg.durable import replace_durably
from openmg.learning.blobs import MAX_BLOB_BYTES
from openmg.units import HASH_BYTES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PendingUpdate:
    """The blob promised for a round on the base model with this hash, and the loss of that model in millionths."""

    round: int
    base_hash: bytes
    blob: bytes
    loss_micro: int


class PendingFile:
    """The file of one model in its owner's state folder; `name`: the model's short name."""

    def __init__(self, folder: Path, name: bytes) -> None:
        self.path = folder / f"learning-{name.hex()}.pending"

    def load(self) -> PendingUpdate | None:
        """What was saved last; None when there is nothing usable."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s cannot be read (%s); the open learning round is sat out", self.path, error.strerror)
            return None
        try:
            number, base_hash, blob, loss_micro = codec.decode(data, max_bytes=MAX_BLOB_BYTES + 256)
        except (ValueError, TypeError):
            log.warning("%s is damaged; the open learning round is sat out", self.path)
            return None
        shapes = [type(value) for value in (number, base_hash, blob, loss_micro)]
        if shapes != [int, bytes, bytes, int] or len(base_hash) != HASH_BYTES:
            return None
        return PendingUpdate(number, base_hash, blob, loss_micro)

    def save(self, pending: PendingUpdate) -> None:
        """Make it durable; raises OSError when the disk refuses."""
        data = codec.encode([pending.round, pending.base_hash, pending.blob, pending.loss_micro])
        replace_durably(self.path, data)
