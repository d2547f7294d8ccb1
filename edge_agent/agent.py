"""The agent: meter, store, reports, MQTT and services put together in one asyncio loop.

Rules: every part works without the others: without broker the outbox grows, without meter the broker still
hears the device, a failing service or a full disk ends nothing. No single MQTT message is needed: birth and
state are told again with each closed slot, and every `resend_seconds` while a roster is missing. Two agents
never share a store. At the end the outbox is given a short time to empty.
Not here: any of the parts; the command line (`cli`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

from edge_agent.certificates import CertificateKeeper, require_usable
from edge_agent.config import AgentConfig
from edge_agent.meter import MeterPoller, OnReading
from edge_agent.modbus.errors import ProxyError
from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.reader import MeterReader, Reader
from edge_agent.notify import STILL_S, Notifier, Pulse, Watch
from edge_agent.publisher import Publisher
from edge_agent.reporting import Reporter
from edge_agent.services import AgentContext, Service, ServiceRunner
from edge_agent.slot_prover import slot_prover
from edge_agent.slots import ClosedSlot
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
MAX_THREADS = 4
"""Database, training and file work; each thread costs memory."""
MAX_TASKS = 256
"""Messages being worked on; what comes beyond is dropped, and asked for or sent again later."""
LONGEST_ASK = 12
"""Times `resend_seconds`: how far apart an agent with a roster asks for an older one, which may not exist."""
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


def make_reader(config: AgentConfig) -> Reader:
    """A reader of the configured meter on a link that is not open yet."""
    profile = config.meter.load_profile()
    unit = ModbusLink(config.meter.target(profile)).unit(config.meter.unit)
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

    return ModbusProxy(reader.link, config.meter.unit, section.listen, section.port, config.meter.poll_seconds)


class Agent:
    """One running agent; `run` returns after `stop` was set and everything is closed."""

    def __init__(
        self,
        config: AgentConfig,
        services: Sequence[Service] = (),
        payment: PaymentIdentity | None = None,
        listeners: Sequence[OnReading] = (),
    ) -> None:
        self.config = config
        self.payment = payment or PaymentIdentity()
        if config.mqtt.tls is not None:
            require_usable(config)
        prover = slot_prover(config)
        self._lock = _lock_state(config)  # before the store, which would set a file aside that it finds damaged
        self.key = load_device_key(config)
        self.store = Store(config.store_path)
        name = config.device.name
        self._state_topic = topics.from_meter(name, topics.STATE)
        self._ack_topic, self._roster_topic = topics.ack(name), topics.roster(config.home.microgrid)
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
        self.reader = make_reader(config)
        self.proxy = make_proxy(config, self.reader)
        self.reporter = Reporter(config, self.key, self.store, prover)
        self.publisher = Publisher(config, self.store, self.link)
        clock = config.clock.clock()
        self.poller = MeterPoller(self.reader, self.store, clock, config.meter.poll_seconds, self._on_slot, self._on_reading)
        self._clock = clock
        self._runners = [ServiceRunner(service) for service in services]
        self._listeners = tuple(listeners)
        self._metering: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_report = asyncio.Lock()
        self._closing = False
        self._began = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="agent"))
        self.link.subscribe(self._ack_topic)
        if self.config.home.role == "home":
            self.link.subscribe(self._roster_topic)
            self.link.subscribe(self._opening_topic)
        for runner in self._runners:
            runner.start(self._context(runner))
        self.reader.link.open()
        await self._start_proxy()
        self.link.start()
        self._metering = loop.create_task(self.poller.run(), name="metering")
        self._spawn(self.publisher.run())
        self._spawn(self._look_after())
        self._spawn(self._tell_status())
        if self.config.mqtt.tls is not None:
            self._spawn(CertificateKeeper(self.config, self.link).run())
        self._watching = loop.create_task(self._watch().run(), name="watch")
        try:
            await stop.wait()
        finally:
            await self._close()

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
        await end_task(self._watching)
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
        last = self.poller.last_reading
        return {
            "device": self.config.device.name,
            "profile": self.config.meter.profile,
            "uptime_s": round(time.monotonic() - self._began),
            "polls": self.poller.polls,
            "poll_errors": self.poller.poll_errors,
            "implausible": self.reader.implausible,
            "last_reading": None if last is None else asdict(last),
            "bus": self.reader.link.status(),
            "broker": {"url": self.config.mqtt.url, "connected": self.link.connected, "problem": self.link.problem},
            "has_roster": self.reporter.has_roster,
            "proxy": None if self.proxy is None else self.proxy.status(),
        }

    async def _tell_status(self) -> None:
        """Writes the status file again and again; runs until cancelled. A full disk is the store's to tell."""
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(write_status, self.config.device.state_dir, self.status())
            await asyncio.sleep(FIRST_STATUS_SECONDS if self.poller.last_reading is None else WRITE_SECONDS)

    def _watch(self) -> Watch:
        """What has to move for systemd's watchdog to be fed."""
        meter = self.config.meter
        longest_s = meter.poll_seconds + LONGEST_POLL_TIMEOUTS * meter.timeout_seconds + STILL_S
        pulses = (
            Pulse("poll", lambda: None if self._metering is None else self.poller.rounds, longest_s),
            Pulse("store", lambda: self.store.operations, STILL_S),
            Pulse("mqtt", lambda: self.link.turns, LONGEST_TURN_S),
        )
        return Watch(pulses, Notifier(), lambda: asyncio.to_thread(self.store.touch))

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
        """Repeats what a full disk put off, and asks for a roster that is missing; runs until cancelled."""
        pause = self.config.mqtt.resend_seconds
        wait, asked = pause, pause
        while True:
            await asyncio.sleep(wait)
            wait = pause
            with contextlib.suppress(StoreError):
                await self._report()
                if not await asyncio.to_thread(self.reporter.lacks_roster):
                    asked = pause
                    continue
                if self.link.connected:
                    self.link.subscribe_again()
                    self._announce()
                if self.reporter.has_roster:
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
            profile=self.config.meter.profile,
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
            self._spawn(self.publisher.on_ack(topic, payload))
        elif topic == self._roster_topic:
            self._spawn(self._on_roster(topic, payload))
        elif topic == self._opening_topic:
            self._spawn(self._on_opening(topic, payload))
        for runner in self._runners:
            if runner.wants(topic):
                runner.offer((topic, payload))

    async def _on_roster(self, topic: str, payload: bytes) -> None:
        try:
            news = await asyncio.to_thread(self.reporter.accept_roster, payload)
        except base.InvalidMessage as error:
            self.publisher.malformed.note(topic, str(error))
            return
        if news:
            await self._report()

    async def _on_opening(self, topic: str, payload: bytes) -> None:
        """Answers a question to open a slot; an answer that is lost is asked for again."""
        try:
            answer = await asyncio.to_thread(self.reporter.openings.answer, payload)
        except base.InvalidMessage as error:
            self.publisher.malformed.note(topic, str(error))
            return
        if answer is not None:
            self.link.publish(topics.from_meter(self.config.device.name, topics.OPENING), answer)

    async def _on_slot(self, closed: ClosedSlot) -> None:
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
        """Reports what is due; one thread at a time proves, whoever asks. At the end of the agent a backlog waits."""
        async with self._one_report:
            self.reporter.polls, self.reporter.poll_errors = self.poller.polls, self.poller.poll_errors
            while await asyncio.to_thread(self.reporter.report_due):
                await self.publisher.send()
                if self._closing:
                    return


async def _guarded(call: Coroutine[Any, Any, None]) -> None:
    try:
        await call
    except StoreError:
        pass  # the store has said so
    except Exception:
        log.exception("handling an event failed; the agent goes on")


def _lock_state(config: AgentConfig) -> IO[bytes]:
    """Holds the state folder, made when missing, for this process; StoreError when another agent does."""
    folder = config.device.state_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / "lock").open("wb")
    except OSError as error:
        raise StoreError(f"state folder {folder} cannot be used ({error.strerror}); check its owner and free space") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise StoreError(f"another agent uses {folder}; stop it or choose another state_dir") from error
    return file
