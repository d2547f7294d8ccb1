"""`openmg-agent doctor`: looks at everything an agent needs and says in one sentence each what is wrong.

Rules: each check touches nothing but what an agent would touch (it may make the key and the store), and ends within
seconds. A check whose ground another one found missing is left out: without broker nobody knows what the hub says. `bench`,
which is asked for by name, takes as long as some proofs and looks at nothing else.
Not here: mending anything; the board (`doctor_host`), the meter (`doctor_meter`) and what the hub was refused
(`doctor_masking`).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from edge_agent import certificates, doctor_host, doctor_masking, doctor_meter, key_tool
from edge_agent.agent import load_device_key
from edge_agent.config import AgentConfig
from edge_agent.doctor_finding import CheckFailed, Finding
from edge_agent.modbus.errors import LinkError
from edge_agent.store import StoreError
from openmg.config import ConfigError
from openmg.identity import KeyFileError
from openmg.masking import MIN_GROUP
from openmg.messages import base, topics
from openmg.messages.market import ChainNotice
from openmg.messages.telemetry import Roster
from openmg.mqtt import MqttLink
from openmg.zk.bench import BenchRow, measure

__all__ = ["CheckFailed", "Finding", "bench", "examine"]
BROKER_SECONDS = 3.0
MAX_HEARD = 64
"""More than a microgrid has groups."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MIN_RELAYS = 2
"""With fewer, carrier and relay of an envelope may be the same hub."""
BENCH_CIRCUIT = "transfer"
"""What is measured where no other is named: the statement of a private payment, which a wallet proves most often."""


async def examine(config: AgentConfig) -> tuple[Finding, ...]:
    """All checks, in the order in which an agent depends on them."""
    checks: tuple[tuple[str, str, Callable[[AgentConfig], Awaitable[str]]], ...] = (
        ("key", "", _key),
        ("keys", "", _keys),
        ("folder", "", doctor_host.folder),
        ("store", "", doctor_host.store),
        ("disk", "store", doctor_host.disk),
        ("clock", "", doctor_host.clock),
        ("meter", "", doctor_meter.meter),
        ("wiring", "meter", doctor_meter.wiring),
        ("certificate", "", _certificate),
        ("broker", "", _broker),
        ("group", "broker", _group),
        ("relays", "broker", _relays),
        ("masking", "", doctor_masking.refusals),
    )
    findings: list[Finding] = []
    for name, ground, check in checks:
        if any(finding.check == ground and not finding.ok for finding in findings):
            continue
        try:
            findings.append(Finding(name, True, await check(config)))
        except (CheckFailed, KeyFileError, StoreError, LinkError, OSError) as error:
            findings.append(Finding(name, False, str(error)))
    return tuple(findings)


async def _key(config: AgentConfig) -> str:
    return f"device address 0x{load_device_key(config).address.hex()}"


async def _keys(config: AgentConfig) -> str:
    return key_tool.describe(config)


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


async def _heard(config: AgentConfig, topic: str, enough: Callable[[bytes], bool] = lambda _payload: True) -> list[bytes]:
    """What the hub told everybody last on the topics of a filter, up to a message that is enough; at most MAX_HEARD."""
    came: asyncio.Queue[bytes] = asyncio.Queue(MAX_HEARD)

    def hear(_topic: str, payload: bytes) -> None:
        if payload and not came.full():
            came.put_nowait(payload)

    heard: list[bytes] = []
    link = _link(config, hear, asyncio.Event())
    link.subscribe(topic)
    link.start()
    try:
        async with asyncio.timeout(BROKER_SECONDS):
            while len(heard) < MAX_HEARD and not (heard and enough(heard[-1])):
                heard.append(await came.get())
    except TimeoutError:
        pass
    finally:
        await link.stop()
    return heard


def _roster(config: AgentConfig, payload: bytes) -> Roster:
    """A roster of the operator. Raises CheckFailed."""
    try:
        signed = base.open_signed(Roster, payload, config.hub.chain_id)
    except base.InvalidMessage as error:
        raise CheckFailed(f"the hub's roster cannot be read ({error}); compare [hub] with the operator's words") from error
    if signed.signer != config.hub.address:
        raise CheckFailed(f"the roster is signed by 0x{signed.signer.hex()}, not by [hub] operator; ask the operator")
    return signed.message


async def _group(config: AgentConfig) -> str:
    """Whether the home has a group to hide in, as the hub said last."""
    microgrid = config.home.microgrid
    if config.home.role == "feeder":
        return "a feeder reports in clear and needs no group"
    own = load_device_key(config).address

    def is_own(payload: bytes) -> bool:
        return own in {member.address for member in _roster(config, payload).members}

    payloads = await _heard(config, topics.rosters_of(microgrid), is_own)
    if not payloads:
        raise CheckFailed(
            f"the hub has named no group for microgrid {microgrid}: it needs {MIN_GROUP} homes that have announced themselves,"
            " and a smaller one publishes nothing; start the agents of the others, or ask the operator"
        )
    if not is_own(payloads[-1]):
        raise CheckFailed(f"no group of microgrid {microgrid} holds this home; is it registered, and does it run?")
    roster = _roster(config, payloads[-1])
    if len(roster.members) < MIN_GROUP:
        raise CheckFailed(
            f"the group of microgrid {microgrid} has {len(roster.members)} homes, fewer than {MIN_GROUP}: nothing is published,"
            " since a sum would say too much of each; it begins by itself when more have joined"
        )
    return f"one of {len(roster.members)} homes from slot {roster.from_slot} on"


async def _relays(config: AgentConfig) -> str:
    """Whether another hub than the home's own can open what the wallet sends: with one relay, hub and relay are the same."""
    if config.wallet is None:
        return "no wallet, nothing is sent through relays"
    payloads = await _heard(config, topics.CHAIN)
    if not payloads:
        raise CheckFailed("the hub has not said which relays there are; start it, then look again")
    try:
        notice = base.decode(ChainNotice, payloads[0])
    except base.InvalidMessage as error:
        raise CheckFailed(f"the hub's notice of relays cannot be read ({error}); update agent and hub together") from error
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
