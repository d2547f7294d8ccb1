"""Homes with a past that answer a hub's notices, for tests of learning rounds with real training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from round_world import CHAIN_ID, HISTORY_HOURS, PLAN, START_HOUR

from hub.learning.publisher import ModelPublisher
from hub.ppdl.application import QueryResult
from openmg.forecast.trainer import get_trainer
from openmg.identity import DeviceKey
from openmg.learning.blobs import make_blob, open_blob
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import norm_units, update_bytes
from openmg.member.answers import RoundAnswer, RoundAnswerer
from openmg.member.pending import PendingFile
from openmg.member.spans import of_home
from openmg.messages import base, topics
from openmg.messages.learning import ModelNotice


def home(number: int) -> list[int]:
    """Hourly net Wh of a home."""
    random = np.random.default_rng(number)
    hour = (START_HOUR + np.arange(HISTORY_HOURS) + 9) % 24
    shape = 300 + 200 * np.sin(2 * np.pi * (hour - 8 + number / 3) / 24)
    return [round(v) for v in shape * random.lognormal(sigma=0.2, size=HISTORY_HOURS)]


class Notices:
    """What the hub's publisher would tell the meters of a chain now."""

    def __init__(self, query: Callable[[str], QueryResult], name: bytes = PLAN.spec.short_name) -> None:
        self.told: list[ModelNotice] = []
        self.publisher = ModelPublisher(name, query, self._publish, lambda: 0)

    def _publish(self, topic: str, payload: bytes) -> bool:
        assert topics.is_model(topic)
        self.told.append(base.decode(ModelNotice, payload))
        return True

    def now(self) -> ModelNotice:
        self.publisher.forget()
        self.publisher.step()
        return self.told[-1]


class Home:
    """A meter that answers notices; `poison` replaces its update by one as long as the clip allows, turned around."""

    def __init__(self, folder: Path, key: DeviceKey, number: int, poison: bool = False) -> None:
        folder.mkdir()
        self.key, self.poison = key, poison
        self.file = PendingFile(folder, PLAN.spec.short_name)
        hours = home(number)
        trainer = get_trainer(PLAN.spec, "numpy")
        self.answerer = RoundAnswerer(
            key.address, of_home(lambda minutes: (START_HOUR, hours)), self.file, lambda size: bytes([number]) * size, trainer
        )

    def answer(self, notice: ModelNotice) -> RoundAnswer:
        answer = self.answerer.answer(notice)
        assert answer is not None
        if answer.commit is not None and self.poison:
            self._turn(notice)
            answer = self.answerer.answer(notice)
            assert answer is not None
        return answer

    def _turn(self, notice: ModelNotice) -> None:
        kept = self.answerer._pending
        assert kept is not None
        plan = LearningPlan.decode(notice.plan)
        update = open_blob(plan, kept.blob).astype(np.int64)
        factor = plan.clip_units / norm_units(update.astype(np.int16))
        longer = np.clip(np.trunc(-update * factor), -32767, 32767)
        blob = make_blob(bytes(16), update_bytes(longer.astype(np.int16)))
        open_blob(plan, blob)
        self.answerer._pending = dataclasses.replace(kept, blob=blob)

    def signed(self, message: base.Message) -> bytes:
        return base.sign(message, CHAIN_ID, self.key.signing_key)
