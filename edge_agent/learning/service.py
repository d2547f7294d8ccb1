"""The agent's learning service: hears of a round's phase, works in a thread of its own, publishes signed answers.

A broker may lose a message although it took it: notices are repeated while a meter is missing, and a repeated one brings the
same answer; what arrives twice counts once.
Rules: training runs in one thread, which all agents of a process share, one model after the other, and takes tens of
milliseconds each, so metering does not notice it.
Not here: what is answered (`models`, `answers`, `private_rounds`), proof that a notice is what the chain agreed on (header and
certificate).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from concurrent.futures import Future, ThreadPoolExecutor, wait

from edge_agent.learning.models import ModelAnswerers, NothingToLearn
from edge_agent.learning.private_rounds import Answer
from edge_agent.memory import give_back
from edge_agent.services import AgentContext
from openmg.forecast.trainer import Trainer
from openmg.member.answers import RoundAnswer
from openmg.member.spans import LearnerNotReady
from openmg.messages import base, topics
from openmg.messages.learning import ModelNotice
from openmg.messages.private import PrivateNotice

log = logging.getLogger(__name__)


def _notice(topic: str, payload: bytes) -> ModelNotice | PrivateNotice:
    return base.decode(ModelNotice, payload) if topics.is_model(topic) else base.decode(PrivateNotice, payload)


def _answered(answerers: ModelAnswerers, notice: ModelNotice | PrivateNotice) -> RoundAnswer | Answer | None:
    """In the training thread, which alone uses the answerers and their files."""
    return answerers.answer(notice) if isinstance(notice, ModelNotice) else answerers.step(notice)


class LearningService:
    """`edge_agent.services.Service` of learning; `thread` has one worker and is its maker's to end."""

    name = "learning"

    def __init__(self, trainer: Trainer | None = None, thread: ThreadPoolExecutor | None = None) -> None:
        self._trainer = trainer
        self._thread = thread or ThreadPoolExecutor(max_workers=1, thread_name_prefix="learning")
        self._working: Future[RoundAnswer | Answer | None] | None = None
        self._context: AgentContext | None = None
        self._answerers: ModelAnswerers | None = None
        self._complaints: dict[bytes, str] = {}
        """What was said last of each model."""
        self.malformed = 0
        self.answered = 0
        """Answers published, repeated ones included."""

    async def start(self, context: AgentContext) -> None:
        """Subscribes to the models; nothing is loaded before the first notice."""
        self._context = context
        folder = context.config.device.state_dir
        self._answerers = ModelAnswerers(
            context.key, context.config.hub.chain_id, context.store, folder, secrets.token_bytes, self._trainer
        )
        context.subscribe(topics.ALL_MODELS)
        context.subscribe(topics.ALL_PRIVATE)

    async def on_message(self, topic: str, payload: bytes) -> None:
        """Does what the notice's phase asks for and publishes it; anything unusable is counted and dropped."""
        context, answerers = self._context, self._answerers
        if not (topics.is_model(topic) or topics.is_private(topic)) or context is None or answerers is None:
            return
        name = b""
        try:
            notice = _notice(topic, payload)
            name = notice.model
            self._working = self._thread.submit(_answered, answerers, notice)
            answer = await asyncio.wrap_future(self._working)
        except base.InvalidMessage as error:
            self.malformed += 1
            if self.malformed == 1:
                log.warning("a message on %s is ignored (more are only counted): %s", topic, error)
            return
        except NothingToLearn as error:
            self._say(name, str(error), logging.INFO)
            return
        except (LearnerNotReady, ValueError) as error:
            self._say(name, str(error))
            return
        except OSError as error:
            self._say(name, f"learning: the update cannot be kept ({error.strerror}); check state_dir and its free space")
            return
        finally:
            give_back()
        if isinstance(answer, RoundAnswer):
            self._publish(context, name, answer)
        elif answer is not None and context.publish(topics.from_meter(context.config.device.name, answer[0]), answer[1]):
            self.answered += 1

    def _publish(self, context: AgentContext, name: bytes, answer: RoundAnswer) -> None:
        signed = [(topics.EVALUATION, base.sign(item, *self._signing(context))) for item in answer.evaluations]
        if answer.commit is not None:
            signed.append((topics.COMMIT, base.sign(answer.commit, *self._signing(context))))
        if answer.reveal is not None:
            signed.append((topics.REVEAL, base.encode(answer.reveal)))
        if answer.ballot is not None:
            signed.append((topics.BALLOT, base.sign(answer.ballot, *self._signing(context))))
        for leaf, payload in signed:
            if not context.publish(topics.from_meter(context.config.device.name, leaf), payload):
                return  # the retained notice comes again with the connection, and the answer with it
        self.answered += 1
        if answer.cpu_ms:
            log.info("round %d of model %s answered, %d ms", answer.round, name.hex(), answer.cpu_ms)

    @staticmethod
    def _signing(context: AgentContext) -> tuple[int, bytes]:
        return context.config.hub.chain_id, context.key.signing_key

    def _say(self, name: bytes, problem: str, level: int = logging.WARNING) -> None:
        """Why a model was not answered, unless that was the last thing said of it; there are few models (`ModelAnswerers`)."""
        if problem != self._complaints.get(name):
            log.log(level, "%s", problem)
            self._complaints[name] = problem

    async def on_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        """Nothing: the spans that are trained and evaluated on are fixed by the plan."""

    async def stop(self) -> None:
        """Waits for the training at work; one that waits for its turn is given up."""
        if self._working is not None and not self._working.cancel():
            await asyncio.to_thread(wait, (self._working,))
