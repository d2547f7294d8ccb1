"""The certificate of one agent of a group ends: real mosquitto over mutual TLS 1.3, real enrolment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from edge_kit import CHAIN_ID, wait_for
from enrol_kit import Meter, Operator, TlsBroker, place_of
from faults_kit import HOMES, PATIENCE_S, World

from edge_agent.certificates import times
from edge_agent.enrol import load_or_make_tls_key
from hub.devices.authority import DEVICE_DAYS
from hub.devices.server import EnrolmentServer
from openmg.durable import replace_durably
from openmg.enrolment.certificates import SECONDS_PER_DAY

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]
LEFT_S = 6.0
"""What is left of the certificate when the agent gets it."""
NAME = HOMES[2]


def with_tls(folder: Path) -> Callable[[str, str], str]:
    def edit(name: str, text: str) -> str:
        files = folder / name
        lines = "".join(
            f'{key} = "{files / file}"\n'
            for key, file in (("ca_file", "ca.crt"), ("certificate_file", "tls.crt"), ("key_file", "tls.key"))
        )
        return text.replace("resend_seconds", lines + "resend_seconds")

    return edit


async def test_a_certificate_ends_and_a_new_one_is_enrolled(
    tls_broker: TlsBroker, operator: Operator, server: EnrolmentServer, tmp_path: Path, make_world: Callable[..., World]
) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    meters = {name: Meter(folder, name, 1) for name in HOMES}
    world = make_world(tls_broker, edit=with_tls(folder), hub_tls=tls_broker.hub_files)
    for name, meter in meters.items():
        meter.key = world.agents[name].key
        await meter.enrol(place_of(server), operator)
    tls_broker.reload()
    await asyncio.to_thread(world.start)
    await asyncio.to_thread(world.delivered, 1)

    give_one_that_ends_soon(operator, meters[NAME])
    await asyncio.to_thread(the_end_comes, world, tls_broker, times(meters[NAME].files).ends_s)
    recovering = world.recovering(NAME)  # its waits must not hold up the enrolment server, which is in this loop
    await asyncio.to_thread(recovering.__enter__)
    meters[NAME].files.key.unlink()  # the hub would give the first certificate again for the first key
    await meters[NAME].enrol(place_of(server), operator)
    await asyncio.to_thread(recovering.__exit__, None, None, None)
    await asyncio.to_thread(world.delivered, 2)
    await asyncio.to_thread(world.judge)


def give_one_that_ends_soon(operator: Operator, meter: Meter) -> None:
    """A certificate of the authority for the meter's key in place of the one that it has."""
    key, then_s = load_or_make_tls_key(meter.files.key), int(time.time() + LEFT_S) - DEVICE_DAYS * SECONDS_PER_DAY
    made = operator.desk.authority.issue_device(meter.name, meter.key.address, CHAIN_ID, key.public_key(), then_s)
    replace_durably(meter.files.certificate, made.public_bytes(Encoding.PEM), mode=0o644)


def the_end_comes(world: World, broker: TlsBroker, ends_s: float) -> None:
    """The broker starts anew after the certificate's end: the agent is refused, says so, and goes on metering."""
    agent = world.agents[NAME]
    wait_for(lambda: "new TLS files are taken up" in agent.said(), PATIENCE_S)
    wait_for(lambda: time.time() > ends_s, PATIENCE_S)
    world.remember()
    broker.close()
    broker.start()
    wait_for(lambda: "has expired, so the broker refuses this device; metering goes on" in agent.said(), PATIENCE_S)
    wait_for(lambda: "it has expired" in agent.said(), PATIENCE_S)  # what the broker's refusal is told as
    metered = agent.count("slots")
    wait_for(lambda: agent.count("slots") >= metered + 2 and agent.count("outbox") >= 2, PATIENCE_S)
    world.remember(NAME)
