"""The models that this meter learns: an answerer for each that it hears of, fed with the series that the model is about, and
the steps of its private rounds.

Rules: one model at a time, whichever notice comes first, so that memory is that of one training. A model is known from its
first notice on; a meter takes at most MAX_MODELS, for notices are unsigned. Of exported energy a home that hardly feeds in
has nothing to learn; it says so once and takes part in the other models.
Not here: one model's answers (`openmg.member.answers`), threads and messages (`service`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from edge_agent.learning.agreed_file import AgreedFiles
from edge_agent.learning.private_file import PrivateFile
from edge_agent.learning.private_rounds import Answer, PrivateRounds
from edge_agent.store import SlotRow, Store
from openmg.forecast.quantities import METERED, feeds_in, metered_wh
from openmg.forecast.spec import EXPORT_ENERGY
from openmg.forecast.trainer import Trainer
from openmg.identity import DeviceKey
from openmg.learning.plan import MAX_MODELS, LearningPlan
from openmg.member.answers import RoundAnswer, RoundAnswerer
from openmg.member.pending import PendingFile
from openmg.member.spans import LearnerNotReady, of_home
from openmg.messages import base
from openmg.messages.learning import ModelNotice
from openmg.messages.private import PrivateNotice


class NothingToLearn(LearnerNotReady):
    """This home has no such series; nothing is wrong with it."""


class ModelAnswerers:
    """One device's; used by one thread at a time. Parameters as `RoundAnswerer` takes them; `folder`: for what is kept.

    random: see RoundAnswerer; also the chance of private rounds.
    """

    def __init__(
        self,
        key: DeviceKey,
        chain_id: int,
        store: Store,
        folder: Path,
        random: Callable[[int], bytes],
        trainer: Trainer | None = None,
    ) -> None:
        self._key, self._chain_id = key, chain_id
        self._store, self._folder, self._random, self._trainer = store, folder, random, trainer
        self._agreed = AgreedFiles(folder)
        self._of: dict[bytes, RoundAnswerer] = {}
        self._private: dict[bytes, PrivateRounds] = {}
        self._files: dict[bytes, PrivateFile] = {}

    def answer(self, notice: ModelNotice) -> RoundAnswer | None:
        """What `RoundAnswerer.answer` says for the notice's model, and what that raises; NothingToLearn besides."""
        known = self._of.get(notice.model)
        answerer = known or self._made(notice)
        try:
            answer = answerer.answer(notice)
        except LearnerNotReady:
            self._of[notice.model] = answerer
            self._agreed.keep(notice)
            raise
        finally:
            answerer.rest()
        self._of[notice.model] = answerer
        if answer is not None:  # else it is an older round's
            self._agreed.keep(notice)
        return answer

    def step(self, notice: PrivateNotice) -> Answer | None:
        """What `PrivateRounds.answer` says for the notice's model, and what that raises; None for a model not heard of yet."""
        if notice.model not in self._private:
            pending, file = PendingFile(self._folder, notice.model), self._file(notice.model)
            if not file.path.exists() or len(self._private) >= MAX_MODELS:
                return None  # no commit of this meter to that model has left
            self._private[notice.model] = PrivateRounds(self._key, self._chain_id, pending, file, self._random)
        return self._private[notice.model].answer(notice)

    def _file(self, name: bytes) -> PrivateFile:
        """One for both who keep something there, since each believes what it holds; of a model that is answered it stays."""
        if name in self._files and (name in self._of or name in self._private):
            return self._files[name]
        self._files = {known: file for known, file in self._files.items() if known in self._of or known in self._private}
        self._files[name] = PrivateFile(self._folder, name)
        return self._files[name]

    def _made(self, notice: ModelNotice) -> RoundAnswerer:
        try:
            spec = LearningPlan.decode(notice.plan).spec
        except ValueError as error:
            raise base.InvalidMessage(f"model notice: {error}") from error
        if spec.short_name != notice.model or spec.quantity not in METERED:
            raise base.InvalidMessage(f"model notice: it is not about its plan's forecaster, or a meter has no {spec.quantity}")
        if len(self._of) >= MAX_MODELS:
            raise base.InvalidMessage(f"model notice: more than {MAX_MODELS} models; restart the agent if the chain's changed")
        pending, private = PendingFile(self._folder, notice.model), self._file(notice.model)
        spans_of = of_home(partial(self._history, spec.quantity))
        return RoundAnswerer(self._key.address, spans_of, pending, self._random, self._trainer, private)

    def _history(self, quantity: str, resolution_minutes: int) -> tuple[int, Sequence[int | None]]:
        def energy_wh(row: SlotRow) -> int:
            return metered_wh(quantity, row.import_wh, row.export_wh)

        first, values = self._store.energy_wh(resolution_minutes, energy_wh)
        if quantity == EXPORT_ENERGY.quantity and not feeds_in(values):
            raise NothingToLearn(f"learning: this home hardly feeds in, so it does not take part in {quantity}")
        return first, values
