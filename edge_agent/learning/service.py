"""The agent's learning service: hears of a round, trains in a worker thread, publishes a signed answer.

A notice is unsigned. Its hash must be that of its parameters, and what the device signs names that hash, so the chain
refuses an answer to a model it does not know. The plan comes with the notice; the first one heard is kept while the
agent runs and another is refused, so that nobody can ask for ever new evaluation spans. Each round is trained and
evaluated once; a repeated notice (a retained message after a reconnect) brings the same answer again. A broker may
lose a message although it took it, so the losses of the rounds before, which the chain still counts, travel along with
each answer; what arrives twice counts once.
Rules: training runs in one thread of its own and takes tens of milliseconds, so metering does not notice it.
Not here: training (`learner`), proof that a notice is what the chain agreed on (header and certificate).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edge_agent.learning.learner import LocalLearner
from edge_agent.learning.spans import EnergyHistory, LearnerNotReady
from edge_agent.memory import give_back
from edge_agent.services import AgentContext
from openmg.forecast.model import master_from_bytes
from openmg.forecast.trainer import Trainer
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash
from openmg.messages import base, topics
from openmg.messages.learning import Evaluation, ModelNotice, ModelUpdate

log = logging.getLogger(__name__)
EARLIER_EVALUATIONS = 3
"""The chain counts evaluations of the open round and of the three before it."""


@dataclass(frozen=True)
class RoundAnswer:
    """What the device signs for a round; `earlier` are its evaluations of the rounds before, `cpu_ms` is what training
    and evaluation cost.
    """

    evaluation: Evaluation
    update: ModelUpdate
    earlier: tuple[Evaluation, ...]
    cpu_ms: int


class RoundAnswerer:
    """Turns notices into answers for one device, without threads or messages.

    history: see LocalLearner. trainer: None takes the best that runs here.
    """

    def __init__(self, device: bytes, history: EnergyHistory, trainer: Trainer | None = None) -> None:
        self._device, self._history, self._trainer = device, history, trainer
        self._learner: LocalLearner | None = None
        self._last: RoundAnswer | None = None
        self._evaluations: deque[Evaluation] = deque(maxlen=EARLIER_EVALUATIONS)

    def answer(self, notice: ModelNotice) -> RoundAnswer | None:
        """The answer to a notice, the same one again for the same round, None for an older round.

        Raises InvalidMessage when the notice is not consistent, LearnerNotReady when the home lacks history, ValueError
        when training diverged.
        """
        try:
            plan = LearningPlan.decode(notice.plan)
            master = master_from_bytes(plan.spec, notice.parameters)
        except ValueError as error:
            raise base.InvalidMessage(f"model notice: {error}") from error
        if model_hash(plan.spec, master) != notice.model_hash:
            raise base.InvalidMessage("model notice: its hash is not that of its parameters")
        if self._learner is None:
            self._learner = LocalLearner(self._device, plan, self._history, self._trainer)
        if plan != self._learner.plan:
            raise base.InvalidMessage("model notice: its plan is not the one this agent started with; restart the agent")
        last = self._last
        if last is not None and notice.round <= last.update.round:
            return last if notice.model_hash == last.update.base_hash else None
        result = self._learner.train(master, notice.round)
        evaluation = Evaluation(notice.round, notice.model_hash, result.loss_micro)
        update = ModelUpdate(notice.round, result.base_hash, result.update_int16)
        first = notice.round - EARLIER_EVALUATIONS
        earlier = tuple(item for item in self._evaluations if item.round >= first)
        self._evaluations.append(evaluation)
        self._last = RoundAnswer(evaluation, update, earlier, result.cpu_ms)
        return self._last


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
        self._answerer = RoundAnswerer(context.key.address, context.store.net_wh, self._trainer)
        context.subscribe(topics.MODEL)

    async def on_message(self, topic: str, payload: bytes) -> None:
        """Trains for the notice and publishes update and evaluation; anything unusable is counted and dropped."""
        context, answerer = self._context, self._answerer
        if topic != topics.MODEL or context is None or answerer is None:
            return
        try:
            notice = base.decode(ModelNotice, payload)
            answer = await asyncio.get_running_loop().run_in_executor(self._thread, answerer.answer, notice)
        except base.InvalidMessage as error:
            self.malformed += 1
            if self.malformed == 1:
                log.warning("a message on %s is ignored (more are only counted): %s", topic, error)
            return
        except (LearnerNotReady, ValueError) as error:
            self._complain(str(error))
            return
        finally:
            give_back()
        if answer is not None:
            self._publish(context, answer)

    def _publish(self, context: AgentContext, answer: RoundAnswer) -> None:
        evaluations = ((topics.EVALUATION, item) for item in (answer.evaluation, *answer.earlier))
        messages: tuple[tuple[str, Evaluation | ModelUpdate], ...] = (*evaluations, (topics.UPDATE, answer.update))
        for leaf, message in messages:
            signed = base.sign(message, context.config.hub.chain_id, context.key.signing_key)
            if not context.publish(topics.from_meter(context.config.device.name, leaf), signed):
                return  # the retained notice comes again with the connection, and the answer with it
        self.answered += 1
        log.info("round %d answered, %d ms", answer.update.round, answer.cpu_ms)

    def _complain(self, problem: str) -> None:
        if problem != self._complaint:
            log.warning("%s", problem)
            self._complaint = problem

    async def on_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        """Nothing: the spans that are trained and evaluated on are fixed by the plan."""

    async def stop(self) -> None:
        """Waits for the training at work."""
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
