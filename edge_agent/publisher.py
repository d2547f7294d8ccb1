"""Sends the outbox over MQTT until the hub acknowledges it: store and forward.

Rules: reports go out in order of seq, at most WINDOW unacknowledged at a time; a new connection, or no acknowledgement for
`resend_seconds`, starts again from the oldest. When more wait than fit the window, the newest goes ahead: it tells the hub how
many there are, so that it does not wait for those that a full outbox gave up. Many meters never drown a hub that is slow or has
just come back: a backlog leaves at PER_SECOND at most, and each time that nothing was acknowledged AGAIN reports go once more,
after twice the wait; with acknowledgements the window doubles again (as slow start does for TCP, RFC 5681). A report that the
hub refuses for good is set aside after REFUSALS times, since its mistake may be over by then. Without acknowledgement the
subscription is made again too, since a broker may have lost it. An acknowledgement or a refusal counts only when the operator
signed it for this device. What others send wrongly is counted, said once per topic and dropped.
Not here: making reports (`reporting`), the connection (`openmg.mqtt`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

from edge_agent.config import AgentConfig
from edge_agent.store import OutboxRow, Store, StoreError
from openmg.hashing import keccak256
from openmg.messages import base, topics
from openmg.messages.telemetry import Ack, Refusal
from openmg.mqtt import MqttLink

log = logging.getLogger(__name__)
WINDOW = 256
"""Unacknowledged reports on the way: bounds memory here and at the broker."""
AGAIN = 8
"""Reports that go once more when none was acknowledged for so long."""
LONGEST_WAIT = 12
"""Times `resend_seconds`: how far apart they go in the end."""
SPREAD = 0.25
"""Part of a wait by which it is shortened by chance: meters that wait for one hub must not come all together."""
LOOK_ANYWAY = 12
"""Times `resend_seconds` after which the store is asked what waits, whatever was counted."""
PER_SECOND = 64
"""Reports that leave in a second of wall time; a month's backlog of a meter, 2,976, takes three quarters of a minute."""
PACE_S = 0.25
"""Wall time after which a part of a backlog that had to wait goes on."""
REFUSALS = 3
"""Times that the hub refuses a report, `resend_seconds` apart at least, before it is set aside."""
MAX_NAMED_SENDERS = 64


class OnlyOnce:
    """Counts malformed messages and logs the first one of each sender."""

    def __init__(self) -> None:
        self.count = 0
        self._named: set[str] = set()

    def note(self, sender: str, problem: str) -> None:
        self.count += 1
        if sender not in self._named and len(self._named) < MAX_NAMED_SENDERS:
            self._named.add(sender)
            log.warning("malformed message on %s dropped: %s (further ones are only counted)", sender, problem)


class Publisher:
    """The outbox's way out."""

    def __init__(self, config: AgentConfig, store: Store, link: MqttLink) -> None:
        self._config, self._store, self._link = config, store, link
        self._sent_to = 0
        self._in_flight = 0
        self._window = WINDOW
        """Reports that may be on the way now: AGAIN when none was acknowledged lately, up to WINDOW while they are."""
        self._progress = False
        self._all_sent = False
        """Whether the last `send` came to the end of what waits."""
        self._busy = asyncio.Event()
        """Set whenever a report may be waiting; `run` rests while none is."""
        self._sending = asyncio.Lock()
        self._answering = asyncio.Lock()
        """Keeps the hub's answers in order: a refusal goes before the acknowledgement that counts its number in."""
        self._allowed, self._allowed_at = float(PER_SECOND), time.monotonic()
        self._held = asyncio.Event()
        """Set while a part of the backlog waits for its turn."""
        self._refusals: dict[int, tuple[int, str]] = {}
        """Times that a report was refused, and why, by seq; at most WINDOW."""
        self.malformed = OnlyOnce()
        self.resends = 0

    async def restart(self) -> None:
        """Sends from the oldest unacknowledged report on; after each connection."""
        self._all_sent = False
        self._busy.set()
        async with self._sending:  # a `send` under way would count on from where it was
            self._sent_to = self._in_flight = 0
            if len(await asyncio.to_thread(self._store.pending, 0, WINDOW)) == WINDOW:
                newest = await asyncio.to_thread(self._store.newest)
                if newest is not None:
                    self._publish(newest)
        await self.send()

    async def send(self) -> None:
        """Sends what window and pace allow."""
        async with self._sending:
            self._all_sent = False
            self._busy.set()
            while self._link.connected and self._in_flight < self._window:
                allowed = self._allowance()
                if allowed < 1:
                    self._held.set()
                    return
                most = min(allowed, self._window - self._in_flight)
                rows = await asyncio.to_thread(self._store.pending, self._sent_to, most)
                if not rows:
                    self._all_sent = True
                    return
                for row in rows:
                    if not self._publish(row):
                        return
                    self._sent_to = row.seq
                    self._in_flight += 1
                    self._allowed -= 1

    def _allowance(self) -> int:
        """How many reports may leave now."""
        now = time.monotonic()
        self._allowed = min(float(PER_SECOND), self._allowed + (now - self._allowed_at) * PER_SECOND)
        self._allowed_at = now
        return int(self._allowed)

    async def pace(self) -> None:
        """Goes on with a backlog that had to wait; runs until cancelled."""
        while True:
            await self._held.wait()
            await asyncio.sleep(PACE_S)
            self._held.clear()
            with contextlib.suppress(StoreError):  # the store has said so; `run` tries again
                await self.send()

    def _publish(self, row: OutboxRow) -> bool:
        return self._link.publish(topics.from_meter(self._config.device.name, row.kind), row.payload)

    async def on_answer(self, topic: str, payload: bytes) -> None:
        """Removes what the hub holds, and sets aside what it never takes."""
        try:
            answer = self._opened(payload)
        except base.InvalidMessage as error:
            self.malformed.note(topic, str(error))
            return
        async with self._answering:
            if isinstance(answer, Ack):
                gone = await asyncio.to_thread(self._acknowledged, answer)
            else:
                gone = await asyncio.to_thread(self._refused, answer)
        self._in_flight = max(0, self._in_flight - gone)
        if gone:
            self._progress, self._window = True, min(WINDOW, 2 * self._window)
        await self.send()

    def _opened(self, payload: bytes) -> Ack | Refusal:
        signed: base.Signed[Ack] | base.Signed[Refusal]
        try:
            signed = base.open_signed(Ack, payload, self._config.hub.chain_id)
        except base.InvalidMessage:
            signed = base.open_signed(Refusal, payload, self._config.hub.chain_id)
        if signed.signer != self._config.hub.address or signed.message.device != self._config.device.name:
            raise base.InvalidMessage("acknowledgement is not the operator's for this device")
        return signed.message

    def _acknowledged(self, ack: Ack) -> int:
        """How many reports the hub holds now; one that it refused lies below because its number was used for another."""
        for seq in [seq for seq in self._refusals if seq <= ack.high_water]:
            self._set_aside(seq, self._refusals[seq][1])
        return self._store.acknowledge(ack.high_water)

    def _refused(self, refusal: Refusal) -> int:
        """How many reports were set aside now."""
        for row in self._store.pending(0, WINDOW):
            if keccak256(row.payload) == refusal.report:
                break
        else:
            return 0
        times = self._refusals.get(row.seq, (0, ""))[0] + 1
        if times >= REFUSALS:
            return int(self._set_aside(row.seq, refusal.reason))
        if row.seq in self._refusals or len(self._refusals) < WINDOW:
            self._refusals[row.seq] = times, refusal.reason
        return 0

    def _set_aside(self, seq: int, reason: str) -> bool:
        self._refusals.pop(seq, None)
        aside = self._store.set_aside(seq, reason)
        if aside:
            log.error("the hub refuses report %d for good (%s); it is set aside, see `openmg-agent store info`", seq, reason)
        return aside

    @property
    def _at_rest(self) -> bool:
        """Whether no report can be waiting, as far as is counted; whatever ends it sets `_busy`."""
        return self._all_sent and not self._in_flight

    async def run(self) -> None:
        """Sends again whatever waits too long; runs until cancelled. At rest neither the processor nor the store is asked for
        more than one look in LOOK_ANYWAY times `resend_seconds`."""
        in_vain, resend_s = 1, self._config.mqtt.resend_seconds
        while True:
            self._busy.clear()
            if self._at_rest:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_ANYWAY * resend_s):
                        await self._busy.wait()
            self._progress = False
            await asyncio.sleep(in_vain * resend_s * (1 - SPREAD * random.random()))
            if self._progress or not self._link.connected:
                in_vain = 1
                continue
            with contextlib.suppress(StoreError):  # the store has said so; the next time comes
                if await self.waiting():
                    in_vain, self._window = min(2 * in_vain, LONGEST_WAIT), AGAIN
                    self.resends += 1
                    self._link.subscribe_again()
                    await self.restart()

    async def waiting(self) -> bool:
        """Whether any report is not acknowledged."""
        return bool(await asyncio.to_thread(self._store.pending, 0, 1))

    async def drain(self, seconds: float) -> bool:
        """Waits until everything is acknowledged; False when that takes longer."""
        deadline = asyncio.get_running_loop().time() + seconds
        while await self.waiting():
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(0.05)
        return True
