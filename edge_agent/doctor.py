"""`openmg-agent doctor`: looks at everything an agent needs and says in one sentence each what is wrong.

Rules: each check is independent, touches nothing but what an agent would touch (it may make the key and the
store), and ends within seconds. `bench`, which is asked for by name, takes as long as some proofs and looks at nothing
else. Not here: mending anything.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edge_agent import certificates, key_tool
from edge_agent.agent import load_device_key, make_reader
from edge_agent.config import AgentConfig
from edge_agent.modbus.link import LinkError
from edge_agent.store import Store, StoreError
from openmg.config import ConfigError
from openmg.identity import KeyFileError
from openmg.messages import base, topics
from openmg.messages.market import ChainNotice
from openmg.mqtt import MqttLink
from openmg.zk.bench import BenchRow, measure

BROKER_SECONDS = 3.0
MIN_FREE_BYTES = 50 * 1024 * 1024
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MIN_RELAYS = 2
"""With fewer, carrier and relay of an envelope may be the same hub."""
BENCH_CIRCUIT = "transfer"
"""What is measured where no other is named: the statement of a private payment, which a wallet proves most often."""


class CheckFailed(Exception):
    """What a check found wrong; the text says what and what to do."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    ok: bool
    text: str


async def examine(config: AgentConfig) -> tuple[Finding, ...]:
    """All checks, in the order in which an agent depends on them."""
    checks: tuple[tuple[str, Callable[[AgentConfig], Awaitable[str]]], ...] = (
        ("key", _key),
        ("keys", _keys),
        ("store", _store),
        ("disk", _disk),
        ("clock", _clock),
        ("meter", _meter),
        ("certificate", _certificate),
        ("broker", _broker),
        ("relays", _relays),
    )
    findings = []
    for name, check in checks:
        try:
            findings.append(Finding(name, True, await check(config)))
        except (CheckFailed, KeyFileError, StoreError, LinkError, OSError) as error:
            findings.append(Finding(name, False, str(error)))
    return tuple(findings)


async def _key(config: AgentConfig) -> str:
    return f"device address 0x{load_device_key(config).address.hex()}"


async def _keys(config: AgentConfig) -> str:
    return key_tool.describe(config)


async def _store(config: AgentConfig) -> str:
    store = Store(config.store_path)
    try:
        totals = store.totals()
    finally:
        store.close()
    return f"{totals.slots} slots, {totals.outbox_rows} reports waiting, {totals.lost} lost"


async def _disk(config: AgentConfig) -> str:
    stat = os.statvfs(config.device.state_dir)
    free = stat.f_bavail * stat.f_frsize
    if free < MIN_FREE_BYTES:
        raise CheckFailed(f"only {free // 2**20} MiB free in {config.device.state_dir}; make room")
    return f"{free // 2**20} MiB free"


async def _clock(config: AgentConfig) -> str:
    clock = config.clock.clock()
    if clock.now() < 1_577_836_800:  # 1 January 2020: a board without battery wakes up in 1970
        raise CheckFailed("the clock stands before 2020; set the time (chrony, timedatectl) or correct [clock]")
    return f"slot {clock.slot()}, {clock.slot_wall_seconds():g} s each"


async def _meter(config: AgentConfig) -> str:
    reader = make_reader(config)
    reader.link.open()
    try:
        value = await reader.detect()
        point = reader.profile.point(reader.profile.detect)
        return f"{reader.profile.device.model} answers, {point.name} {value:.2f} {point.unit}"
    finally:
        await reader.link.close()


def _link(config: AgentConfig, hear: Callable[[str, bytes], None], connected: asyncio.Event) -> MqttLink:
    """A connection of the doctor's own, so that the agent's goes on meanwhile."""
    mqtt, name = config.mqtt, f"{config.device.name}-doctor"
    return MqttLink(mqtt.address, name, hear, connected.set, credentials=mqtt.credentials, tls=mqtt.tls)


async def _certificate(config: AgentConfig) -> str:
    if config.mqtt.tls is None:
        if config.mqtt.address.host not in LOOPBACK and not config.demo:
            raise CheckFailed(f"{config.mqtt.address} is spoken to in clear; run openmg-agent enroll, then write mqtts://")
        return "no TLS, so none is needed"
    try:
        certificates.require_usable(config)
        return certificates.describe(config.mqtt.tls, config.mqtt.renew_at, time.time())
    except (certificates.CertificateProblem, ConfigError) as error:
        raise CheckFailed(str(error)) from error


async def _broker(config: AgentConfig) -> str:
    connected = asyncio.Event()
    link = _link(config, lambda _topic, _payload: None, connected)
    link.start()
    try:
        await asyncio.wait_for(connected.wait(), BROKER_SECONDS)
    except TimeoutError:
        raise CheckFailed(f"broker {config.mqtt.address} {link.problem}") from None
    finally:
        await link.stop()
    return f"{config.mqtt.address} accepts the device"


async def _relays(config: AgentConfig) -> str:
    """Whether another hub than the home's own can open what the wallet sends: with one relay, hub and relay are the same."""
    if config.wallet is None:
        return "no wallet, nothing is sent through relays"
    heard: asyncio.Queue[bytes] = asyncio.Queue(1)

    def hear(_topic: str, payload: bytes) -> None:
        if not heard.full():
            heard.put_nowait(payload)

    link = _link(config, hear, asyncio.Event())
    link.subscribe(topics.CHAIN)
    link.start()
    try:
        notice = base.decode(ChainNotice, await asyncio.wait_for(heard.get(), BROKER_SECONDS))
    except TimeoutError:
        raise CheckFailed("the hub has not said which relays there are; start it, then look again") from None
    except base.InvalidMessage as error:
        raise CheckFailed(f"the hub's notice of relays cannot be read ({error}); update agent and hub together") from error
    finally:
        await link.stop()
    if len(set(notice.relays)) < MIN_RELAYS:
        raise CheckFailed("envelopes can go to one relay only, so its hub may see who sends what; ask for another operator's")
    return f"{len(set(notice.relays))} relays open envelopes"


def bench(config: AgentConfig | None, backend: str | None, runs: int, circuit: str = BENCH_CIRCUIT) -> BenchRow:
    """What a proof costs on this board, with the prover and the keys of the wallet in `config` where there is one.

    The row is that of `openmg zk bench`. Raises BenchError, BackendError or KeysError when nothing can be measured,
    ValueError for an impossible number of runs or an unknown circuit.
    """
    wallet = None if config is None else config.wallet
    chosen = backend or (wallet.prover if wallet else "auto")
    cache_dir = wallet.cache_dir if wallet else None
    return measure(circuit, chosen, runs, cache_dir=cache_dir, progress=_to_stderr).row()


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
