"""Brings events of the PPDL chain to the contracts that wait for them: slots to the registries, answers to Inference.

Theory of operation. Every decided block gives its events; one that a contract cares for waits here until the relay has
the next header, which proves it. An event leaves the queue when its transaction has succeeded or the contract says that
it has it (somebody else was faster); whatever else happens, it is tried again at the next step, up to MAX_REFUSALS times.
After a restart the last REPLAY_HEIGHTS blocks are looked through again; contracts refuse what they have, so nothing is
delivered twice. Bound: MAX_WAITING events. Not here: relaying headers (`hub.relay.relayer`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from hub.chain.client import Contract, EvmClient
from hub.chain.deploy import PlasmaContracts
from hub.chain.errors import CallReverted
from hub.ppdl.app.answers import EventsAnswer, InferenceAnswer
from hub.ppdl.app.inference import INFERENCE_EVENT_TAG
from hub.ppdl.app.slots import SLOT_EVENT_TAG, SLOT_ROOT_EVENT_TAG
from hub.ppdl.application import QueryResult
from openmg.messages.base import decode

log = logging.getLogger(__name__)

MAX_WAITING = 4096
REPLAY_HEIGHTS = 256
EVENTS_PER_STEP = 16
MAX_REFUSALS = 240
"""Two minutes of steps: longer than any race or reordering between relay and contract."""
_WORD = 32
TAGS = (SLOT_EVENT_TAG, SLOT_ROOT_EVENT_TAG, INFERENCE_EVENT_TAG)
HAS_IT = ("SlotAlreadyRecorded", "SlotRootAlreadyRecorded", "NotOpen")
"""What a contract answers to an event that somebody else has brought."""

Query = Callable[[str], QueryResult]


@dataclass(frozen=True)
class WaitingEvent:
    """An event of the block at `height`."""

    height: int
    event: bytes

    @property
    def tag(self) -> bytes:
        return self.event[:_WORD]

    def number(self, index: int) -> int:
        """Word `index` of the event as an unsigned integer."""
        return int.from_bytes(self.event[_WORD * index : _WORD * (index + 1)], "big")


class EventCourier:
    """Waiting events and their delivery; `step` blocks on the chain, so it runs in a thread."""

    def __init__(self, client: EvmClient, contracts: PlasmaContracts, query: Query) -> None:
        self._client = client
        self._contracts = contracts
        self._query = query
        self._waiting: dict[WaitingEvent, None] = {}
        """In the order of arrival. The hub's loop adds while a step in its thread removes, so each change is one operation."""
        self._refusals: dict[WaitingEvent, int] = {}
        self.delivered = 0

    def on_block(self, height: int, events: tuple[bytes, ...]) -> None:
        """The events of a decided block, in order."""
        for event in events:
            if event[:_WORD] in TAGS:
                self._waiting[WaitingEvent(height, event)] = None
        for item in list(self._waiting)[:-MAX_WAITING]:
            log.error("event of PPDL block %d is given up: more than %d are waiting", item.height, MAX_WAITING)
            self._drop(item)

    def replay(self, last_height: int) -> None:
        """Look through the latest committed blocks again, after a restart."""
        for height in range(max(1, last_height - REPLAY_HEIGHTS), last_height + 1):
            result = self._query(f"events/{height}")
            if result.ok:
                answer = decode(EventsAnswer, result.value)
                self.on_block(height, tuple(item.event for item in answer.events))

    def step(self) -> None:
        """Deliver what the relay can prove by now, oldest first; what fails for any reason stays in the queue."""
        relayed = int(self._client.call(self._contracts.relay, "height"))
        ready = [item for item in list(self._waiting) if item.height < relayed][:EVENTS_PER_STEP]
        sent: list[tuple[WaitingEvent, bytes | None]] = []
        for item in ready:
            try:
                sent.append((item, self._send(item)))
            except CallReverted as error:
                if self._gives_up(item, error):
                    sent.append((item, None))
        for item, tx_hash in sent:
            if tx_hash is None or self._client.wait_mined(tx_hash).succeeded:
                self._drop(item)
                self.delivered += tx_hash is not None

    def _drop(self, item: WaitingEvent) -> None:
        self._waiting.pop(item, None)
        self._refusals.pop(item, None)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def _send(self, waiting: WaitingEvent) -> bytes | None:
        """Hash of the transaction that brings the event; None when the contract has it or it cannot be brought."""
        try:
            if waiting.tag == SLOT_EVENT_TAG:
                return self._record(waiting, self._contracts.registry, "recordSlot", 5)
            if waiting.tag == SLOT_ROOT_EVENT_TAG:
                return self._record(waiting, self._contracts.energy_registry, "recordSlotRoot", 4)
            return self._fulfil(waiting)
        except CallReverted as error:
            if error.error in HAS_IT:
                return None
            raise

    def _gives_up(self, waiting: WaitingEvent, error: CallReverted) -> bool:
        """Counts a refusal; the first is logged, the last ends the attempts."""
        refusals = self._refusals[waiting] = self._refusals.get(waiting, 0) + 1
        if refusals == 1:
            log.warning("event of PPDL block %d was refused: %s; it is tried again", waiting.height, error)
        if refusals < MAX_REFUSALS:
            return False
        log.error("event of PPDL block %d is given up after %d refusals: %s", waiting.height, refusals, error)
        return True

    def _record(self, waiting: WaitingEvent, registry: Contract, function: str, numbers: int) -> bytes | None:
        """Bring an event of tag, chain id and so many numbers, which are the fields of the registry's struct."""
        proof = self._proof(waiting)
        if proof is None:
            return None
        return self._client.send(registry, function, tuple(waiting.number(i) for i in range(2, 2 + numbers)), proof)

    def _fulfil(self, waiting: WaitingEvent) -> bytes | None:
        if waiting.event[2 * _WORD : 3 * _WORD][12:] != self._contracts.inference.address:
            return None  # a request of another contract: its own hub delivers it
        request_id, place = waiting.number(4), f"{waiting.number(3)}/0x{self._contracts.inference.address.hex()}"
        result, proof = self._query(f"inference/{request_id}/{place}"), self._proof(waiting)
        if not result.ok or proof is None:
            return None
        answer = decode(InferenceAnswer, result.value).answer
        return self._client.send(
            self._contracts.inference,
            "fulfil",
            request_id,
            answer.as_of_slot,
            answer.model_hash,
            list(answer.answer_wh),
            proof,
        )

    def _proof(self, waiting: WaitingEvent) -> tuple[int, int, int, list[bytes], bytes, bytes] | None:
        """The contracts' EventProof struct; None when the block is too old to be kept."""
        result = self._query(f"events/{waiting.height}")
        if not result.ok:
            log.error("event of PPDL block %d cannot be proved any more: %s", waiting.height, result.reason)
            return None
        answer = decode(EventsAnswer, result.value)
        item = next(item for item in answer.events if item.event == waiting.event)
        return waiting.height, item.index, item.count, list(item.proof), answer.state_hash, answer.model_hash
