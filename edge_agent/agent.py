"""The agent: meter, store, reports, MQTT and services put together in one asyncio loop.

Rules: every part works without the others: without broker the outbox grows, without meter the broker still
hears the device, a failing service or a full disk ends nothing. No single MQTT message is needed: birth and
state are told again with each closed slot, and ever more seldom while a roster is missing. Two agents
never share a store. At the end the outbox is given a short time to empty.
Not here: any of the parts; several agents in one process, starting again, the watchdog (`gateway`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.certificates import CertificateKeeper, require_usable
from edge_agent.config import AgentConfig
from edge_agent.meter import MeterPoller, OnReading
from edge_agent.modbus.errors import ProxyError
from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.reader import MeterReader, Reader
from edge_agent.notify import STILL_S, Pulse
from edge_agent.publisher import Publisher
from edge_agent.reporting import Reporter
from edge_agent.services import AgentContext, Service, ServiceRunner
from edge_agent.shared import Shared
from edge_agent.slot_prover import slot_prover
from edge_agent.slots import ClosedSlot
from edge_agent.state_folder import lock_state
from edge_agent.status import WRITE_SECONDS, remove_status, write_status
from edge_agent.store import RawReading, Store, StoreError
from openmg.identity import DeviceKey, KeyFileError, load_or_create_key
from openmg.messages import base, topics
from openmg.messages.feeder import FEEDER_LIVE, FeederLive
from openmg.messages.telemetry import Birth
from openmg.mqtt import LONGEST_TURN_S, MqttLink, Will
from openmg.tasks import end_task, end_tasks

if TYPE_CHECKING:  # most agents have no proxy
    from edge_agent.modbus.proxy import ModbusProxy

log = logging.getLogger(__name__)
DRAIN_SECONDS = 5.0
MAX_TASKS = 256
"""Messages being worked on; what comes beyond is dropped, and asked for or sent again later."""
LONGEST_ASK = 12
"""Times `resend_seconds`: how far apart an agent asks for a roster in the end, which may not exist yet, or no more."""
FIRST_STATUS_SECONDS = 2.0
"""Wall time between status files while the meter has not answered yet."""
LONGEST_POLL_TIMEOUTS = 8
"""Times `timeout_seconds` that one poll may take before its loop counts as hung: connecting and every block of it."""
ONLINE, OFFLINE = b"online", b"offline"


@dataclass(frozen=True)
class PaymentIdentity:
    """How the device's owner is paid: account, key of notes, key that notes are encrypted to (zeros: no wallet)."""

    owner: bytes = bytes(20)
    payment_key: int = 0
    payment_box: bytes = bytes(32)


def load_device_key(config: AgentConfig) -> DeviceKey:
    """The device's key, made at first use; KeyFileError when its file cannot be used."""
    folder = config.device.key_file.parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise KeyFileError(f"folder {folder} of the key file cannot be made ({error.strerror}); check key_file") from error
    return DeviceKey(load_or_create_key(config.device.key_file, config.passphrases))


def make_reader(config: AgentConfig, shared: Shared | None = None) -> Reader:
    """A reader of the configured meter on a link that is not open yet, or on that of the process for its port."""
    profile = config.meter.load_profile()
    if config.meter.protocol == "dlms":
        from edge_agent.dlms.make import make_dlms_reader

        return make_dlms_reader(config, profile, shared)
    target = config.meter.target(profile)
    link = ModbusLink(target) if shared is None else shared.bus(target)
    unit = link.unit(config.meter.unit)
    if profile.sunspec is None:
        return MeterReader(unit, profile)
    from edge_agent.modbus.sunspec_reader import SunSpecReader

    return SunSpecReader(unit, profile)


def make_proxy(config: AgentConfig, reader: Reader) -> ModbusProxy | None:
    """The proxy of the reader's bus, not started; None when none is configured."""
    section = config.proxy
    if section is None:
        return None
    from edge_agent.modbus.proxy import ModbusProxy

    assert isinstance(reader.link, ModbusLink)  # AgentConfig allows a proxy for no other
    return ModbusProxy(reader.link, config.meter.unit, section.listen, section.port, config.meter.poll_seconds)


class Agent:
    """One running agent; `run` returns after `stop` was set and everything is closed."""

    def __init__(
        self,
        config: AgentConfig,
        services: Sequence[Service] = (),
        payment: PaymentIdentity | None = None,
        listeners: Sequence[OnReading] = (),
        shared: Shared | None = None,
    ) -> None:
        self.config = config
        self._shared = shared or Shared()
        self.payment = payment or PaymentIdentity()
        if config.mqtt.tls is not None:
            require_usable(config)
        prover = slot_prover(config)
        with contextlib.ExitStack() as opened:
            self._lock = opened.enter_context(lock_state(config.device.state_dir))  # before the store opens
            self.key = load_device_key(config)
            self.store = Store(config.store_path, budget_bytes=config.store.budget_bytes)
            opened.callback(self.store.close)
            self.reader = make_reader(config, self._shared)
            self.reporter = Reporter(config, self.key, self.store, prover)
            opened.pop_all()  # an agent that cannot be made leaves nothing open for the next try
        name = config.device.name
        self._state_topic = topics.from_meter(name, topics.STATE)
        self._ack_topic = topics.ack(name)
        self._opening_topic = topics.opening(config.home.microgrid)
        self.link = MqttLink(
            config.mqtt.address,
            config.mqtt.client_id or name,
            self._on_message,
            self._on_connected,
            Will(self._state_topic, OFFLINE),
            config.mqtt.credentials,
            config.mqtt.tls,
        )
        self.proxy = make_proxy(config, self.reader)
        self.publisher = Publisher(config, self.store, self.link)
        clock = config.clock.clock()
        rhythm, shared = config.meter.poll_seconds, self._shared
        self.poller = MeterPoller(self.reader, self.store, clock, rhythm, self._on_slot, self._on_reading, shared)
        self._clock = clock
        self._runners = [ServiceRunner(service) for service in services]
        self._listeners = tuple(listeners)
        self._metering: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_report = asyncio.Lock()
        self._closing = False
        self._news = asyncio.Event()
        """Set by slots and rosters that come: after each, something may be due."""
        self._began = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set."""
        try:
            await self._start()
            await stop.wait()
        finally:
            await self._close()

    async def _start(self) -> None:
        self.link.subscribe(self._ack_topic)
        if self.config.home.role == "home":
            self.link.subscribe(topics.rosters_of(self.config.home.microgrid))
            self.link.subscribe(self._opening_topic)
        for runner in self._runners:
            runner.start(self._context(runner))
        self.reader.link.open()
        await self._start_proxy()
        self.link.start()
        self._metering = asyncio.get_running_loop().create_task(self.poller.run(), name="metering")
        self._spawn(self.publisher.run())
        self._spawn(self.publisher.pace())
        self._spawn(self._look_after())
        self._spawn(self._tell_status())
        if self.config.mqtt.tls is not None:
            self._spawn(CertificateKeeper(self.config, self.link).run())

    async def _start_proxy(self) -> None:
        try:
            if self.proxy is not None:
                await self.proxy.start()
        except ProxyError as error:
            log.error("%s; metering goes on without it", error)

    async def stop_metering(self) -> None:
        """Ends polling; reports, services and the connection go on."""
        task, self._metering = self._metering, None
        await end_task(task)

    async def _close(self) -> None:
        self._closing = True
        await self.stop_metering()
        if self.proxy is not None:
            await self.proxy.stop()
        await self.reader.link.close()
        with contextlib.suppress(StoreError):  # said by the store; everything else is closed all the same
            await self._report()
            if self.link.connected and not await self.publisher.drain(DRAIN_SECONDS):
                log.warning("the hub did not acknowledge everything; the rest stays in %s", self.config.store_path)
        for runner in self._runners:
            await runner.stop()
        await end_tasks(self._tasks)
        await self.link.stop()
        self.store.close()
        self.reporter.close()
        remove_status(self.config.device.state_dir)
        self._lock.close()

    def status(self) -> dict[str, Any]:
        """What the agent says of itself: meter, bus, broker, roster, proxy."""
        last, watch = self.poller.last_reading, self.poller.clock_watch
        return {
            "device": self.config.device.name,
            "profile": self.config.meter.profile_name,
            "uptime_s": round(time.monotonic() - self._began),
            "polls": self.poller.polls,
            "poll_errors": self.poller.poll_errors,
            "implausible": self.reader.implausible,
            "last_reading": None if last is None else dict(vars(last)),
            "clock": {"set_back": watch.set_back, "set_ahead": watch.set_ahead, "last": watch.last_effect},
            "bus": self.reader.link.status(self.config.meter.unit),
            "broker": {"url": self.config.mqtt.url, "connected": self.link.connected, "problem": self.link.problem},
            "has_roster": self.reporter.has_roster,
            "proxy": None if self.proxy is None else self.proxy.status(),
        }

    async def _tell_status(self) -> None:
        """Writes the status file again and again; runs until cancelled. A full disk is the store's to tell."""
        while True:
            said = self.status()
            with contextlib.suppress(OSError):
                await asyncio.to_thread(write_status, self.config.device.state_dir, said)
            await asyncio.sleep(FIRST_STATUS_SECONDS if said["last_reading"] is None else WRITE_SECONDS)

    def pulses(self, name: str = "") -> tuple[Pulse, ...]:
        """What has to move for systemd's watchdog to be fed; `name` goes before each."""
        meter = self.config.meter
        longest_s = meter.poll_seconds + LONGEST_POLL_TIMEOUTS * meter.timeout_seconds + STILL_S
        return (
            Pulse(f"{name}poll", self._polls_made, longest_s),
            Pulse(f"{name}store", lambda: self.store.operations, STILL_S),
            Pulse(f"{name}mqtt", lambda: self.link.turns, LONGEST_TURN_S),
        )

    def _polls_made(self) -> int | None:
        """Rounds of the poll loop. What a meter is asked that is away waits behind its neighbours: then it is enough that the
        bus serves those."""
        if self._metering is None:
            return None
        link = self.reader.link
        return self.poller.rounds + (link.served if link.is_away(self.config.meter.unit) else 0)

    def _context(self, runner: ServiceRunner) -> AgentContext:
        def subscribe(topic_filter: str) -> None:
            runner.filters.append(topic_filter)
            self.link.subscribe(topic_filter)

        return AgentContext(self.config, self.key, self.store, self._clock, self.link.publish, subscribe)

    def _spawn(self, call: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= MAX_TASKS:
            call.close()
            return
        task = asyncio.get_running_loop().create_task(_guarded(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_after(self) -> None:
        """Repeats what a full disk put off, and asks for a roster that is missing; runs until cancelled. It rests while neither
        can be, which news ends."""
        pause = self.config.mqtt.resend_seconds
        wait, asked = pause, pause
        while True:
            await asyncio.sleep(wait)
            wait = pause
            self._news.clear()
            with contextlib.suppress(StoreError):
                await self._report()
                if not await asyncio.to_thread(self.reporter.lacks_roster):
                    asked = pause
                    if not self.reporter.unproved:
                        await self._news.wait()
                    continue
                if self.link.connected:
                    self.link.subscribe_again()
                    self._announce()
                wait = asked = min(2 * asked, LONGEST_ASK * pause)

    # Events

    def _on_connected(self) -> None:
        self._announce()
        self._spawn(self.publisher.restart())

    def _announce(self) -> None:
        """Tells who this is, and that it is there; the hub answers with the rosters of the microgrid."""
        name, home = self.config.device.name, self.config.home
        birth = Birth(
            device=name,
            microgrid=home.microgrid,
            profile=self.config.meter.profile_name,
            mask_public=self.key.mask_public,
            owner=self.payment.owner,
            payment_key=self.payment.payment_key,
            payment_box=self.payment.payment_box,
        )
        signed = base.sign(birth, self.config.hub.chain_id, self.key.signing_key)
        self.link.publish(topics.from_meter(name, topics.BIRTH), signed, retain=True)
        self.link.publish(self._state_topic, ONLINE, retain=True)

    def _on_message(self, topic: str, payload: bytes) -> None:
        if topic == self._ack_topic:
            self._spawn(self.publisher.on_answer(topic, payload))
        elif self._is_roster(topic):
            if payload:  # an empty one takes back that of a group that there is no more
                self._spawn(self._on_roster(topic, payload))
        elif topic == self._opening_topic:
            self._spawn(self._on_opening(topic, payload))
        for runner in self._runners:
            if runner.wants(topic):
                runner.offer((topic, payload))

    def _is_roster(self, topic: str) -> bool:
        """Whether it is for this agent; services may have subscribed to more of them."""
        return self.config.home.role == "home" and topics.is_roster_of(topic, self.config.home.microgrid)

    async def _on_roster(self, topic: str, payload: bytes) -> None:
        try:
            news = await asyncio.to_thread(self.reporter.accept_roster, payload)
        except base.InvalidMessage as error:
            self.publisher.malformed.note(topic, str(error))
            return
        if news:
            self._news.set()
            await self._report()

    async def _on_opening(self, topic: str, payload: bytes) -> None:
        """Answers a question to open a slot; an answer that is lost is asked for again."""
        openings = self.reporter.openings
        if openings is None:
            return
        try:
            answer = await asyncio.to_thread(openings.answer, payload)
        except base.InvalidMessage as error:
            self.publisher.malformed.note(topic, str(error))
            return
        if answer is not None:
            self.link.publish(topics.from_meter(self.config.device.name, topics.OPENING), answer)

    async def _on_slot(self, closed: ClosedSlot) -> None:
        self._news.set()
        if self.link.connected:
            self._announce()
        for runner in self._runners:
            runner.offer(closed)
        self._spawn(self._report())  # a proof takes longer than the metering may wait

    def _on_reading(self, reading: RawReading) -> None:
        for listener in self._listeners:
            listener(reading)
        if self.config.home.role != "feeder" or not self.link.connected:
            return
        live = FeederLive(self.config.device.name, reading.sim_time, reading.power_w)
        signed = base.sign(live, self.config.hub.chain_id, self.key.signing_key)
        self.link.publish(topics.from_meter(self.config.device.name, FEEDER_LIVE), signed, qos=0)

    async def _report(self) -> None:
        """Reports what is due; one slot of the process is proved at a time, whoever asks. At the end a backlog waits."""
        async with self._one_report:
            self.reporter.polls, self.reporter.poll_errors = self.poller.polls, self.poller.poll_errors
            while await self._report_some():
                await self.publisher.send()
                if self._closing:
                    return

    async def _report_some(self) -> int:
        async with self._shared.one_slot_proof:
            return await asyncio.to_thread(self.reporter.report_due)


async def _guarded(call: Coroutine[Any, Any, None]) -> None:
    try:
        await call
    except StoreError:
        pass  # the store has said so
    except Exception:
        log.exception("handling an event failed; the agent goes on")
