"""The latest model of each kind that this meter was told, on its disk, for whoever forecasts this home (`edge_agent.page`).

Rules: a file for each model, the notice itself as the round's first phase has it (no committee, no candidate), replaced as a
whole when the weights are others than before; who reads it checks the hashes again. A notice is unsigned: a broker that lies
gives this home a bad forecast, and nothing else. A disk that takes none costs no round: it is said once.
Not here: forecasting, answering notices (`answers`).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from edge_agent.learning.agreed_names import FILES, file_name
from openmg.durable import replace_durably
from openmg.messages import base
from openmg.messages.learning import PHASE_COMMIT, ModelNotice

log = logging.getLogger(__name__)
MAX_FILES = 8
"""Twice the models of one chain; whoever reads looks at no more."""


class AgreedFiles:
    """Those of one state folder; used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[bytes, bytes] = {}
        """Hash of the weights in the file, by the model's short name."""
        self._said = False

    def keep(self, notice: ModelNotice) -> None:
        """Keep a notice whose hashes hold."""
        if self._kept.get(notice.model) == notice.model_hash:
            return
        plain = replace(notice, phase=PHASE_COMMIT, committee=(), candidate_hash=b"", candidate=b"")
        try:
            replace_durably(self._folder / file_name(notice.model), base.encode(plain))
        except OSError as error:
            if not self._said:
                log.warning("the agreed model cannot be kept in %s (%s); check free space", self._folder, error.strerror)
            self._said = True
            return
        self._said = False
        self._kept[notice.model] = notice.model_hash


def load_agreed(folder: Path) -> list[ModelNotice]:
    """What is kept, in the order of the names; what does not read back is left out."""
    found = []
    for path in sorted(folder.glob(FILES))[:MAX_FILES]:
        try:
            found.append(base.decode(ModelNotice, path.read_bytes()))
        except (OSError, base.InvalidMessage):
            continue
    return found
