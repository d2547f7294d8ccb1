"""The agent's learning service: hears of a round's phase, works in a thread of its own, publishes signed answers.

A broker may lose a message although it took it: notices are repeated while a meter is missing, and a repeated one brings the
same answer; what arrives twice counts once.
Rules: training runs in one thread of its own and takes tens of milliseconds, so metering does not notice it.
Not here: what is answered (`answers`), proof that a notice is what the chain agreed on (header and certificate).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor

from edge_agent.learning.answers import RoundAnswer, RoundAnswerer
from edge_agent.learning.pending import PendingFile
from edge_agent.learning.spans import LearnerNotReady
from edge_agent.memory import give_back
from edge_agent.services import AgentContext
from openmg.forecast.trainer import Trainer
from openmg.messages import base, topics
from openmg.messages.learning import ModelNotice

log = logging.getLogger(__name__)


def _answered(answerer: RoundAnswerer, notice: ModelNotice) -> RoundAnswer | None:
    """In the training thread, which alone uses the answerer."""
    try:
        return answerer.answer(notice)
    finally:
        answerer.rest()


class LearningService:
    """`edge_agent.services.Service` of learning."""

    name = "learning"

    def __init__(self, trainer: Trainer | None = None) -> None:
        self._trainer = trainer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="learning")
        self._context: AgentContext | None = None
        self._answerer: RoundAnswerer | None = None
        self._complaint = ""
        self.malformed = 0
        self.answered = 0
        """Answers published, repeated ones included."""

    async def start(self, context: AgentContext) -> None:
        """Subscribes to the model; nothing is loaded before the first notice."""
        self._context = context
        pending = PendingFile(context.config.device.state_dir)
        self._answerer = RoundAnswerer(context.key.address, context.store.net_wh, pending, secrets.token_bytes, self._trainer)
        context.subscribe(topics.MODEL)

    async def on_message(self, topic: str, payload: bytes) -> None:
        """Does what the notice's phase asks for and publishes it; anything unusable is counted and dropped."""
        context, answerer = self._context, self._answerer
        if topic != topics.MODEL or context is None or answerer is None:
            return
        try:
            notice = base.decode(ModelNotice, payload)
            answer = await asyncio.get_running_loop().run_in_executor(self._thread, _answered, answerer, notice)
        except base.InvalidMessage as error:
            self.malformed += 1
            if self.malformed == 1:
                log.warning("a message on %s is ignored (more are only counted): %s", topic, error)
            return
        except (LearnerNotReady, ValueError) as error:
            self._complain(str(error))
            return
        except OSError as error:
            self._complain(f"learning: the update cannot be kept ({error.strerror}); check state_dir and its free space")
            return
        finally:
            give_back()
        if answer is not None:
            self._publish(context, answer)

    def _publish(self, context: AgentContext, answer: RoundAnswer) -> None:
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
            log.info("round %d answered, %d ms", answer.round, answer.cpu_ms)

    @staticmethod
    def _signing(context: AgentContext) -> tuple[int, bytes]:
        return context.config.hub.chain_id, context.key.signing_key

    def _complain(self, problem: str) -> None:
        if problem != self._complaint:
            log.warning("%s", problem)
            self._complaint = problem

    async def on_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        """Nothing: the spans that are trained and evaluated on are fixed by the plan."""

    async def stop(self) -> None:
        """Waits for the training at work."""
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
