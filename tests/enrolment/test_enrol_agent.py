"""The agent and its certificate: expiry costs no reading, renewal needs nobody, the doctor says how it stands."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from dataclasses import replace

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, until
from enrol_kit import Client, Meter, place_of, tls_agent_toml

from edge_agent import certificates, doctor
from edge_agent.agent import Agent
from edge_agent.certificates import CertificateKeeper, CertificateProblem, describe, times
from edge_agent.cli import main
from edge_agent.config import AgentConfig
from edge_agent.enrol import renew
from firmware_sim.meter import Meter as SimulatedMeter
from firmware_sim.server import MeterServer
from hub.ingest.events import IngestEvents
from hub.ingest.registry import FEEDER, Device, Registry
from hub.ingest.status import IngestSettings
from openmg.clock import VirtualClock
from openmg.config import ConfigError, load_toml
from openmg.enrolment.certificates import SECONDS_PER_DAY
from openmg.profiles.profile import load_profile

SPEED = 900 / 0.6
"""A slot each 0.6 s of wall time."""


@pytest.fixture
async def simulated():
    clock = VirtualClock(T0, time.time(), SPEED)
    meter = SimulatedMeter(lambda _step: 1_200, T0 - 900, seed=3)
    server = MeterServer(meter, load_profile("sdm630"), clock, "127.0.0.1", 0)
    await server.start()
    yield server, clock
    await server.stop()


def config_of(path, clock) -> AgentConfig:
    text = path.read_text(encoding="utf-8").replace('role = "home"', 'role = "feeder"')
    text = text.replace("speed = 1.0", f"speed = {clock.speed}")
    lines = [f"w0 = {clock.w0}" if line.startswith("w0 =") else line for line in text.splitlines()]
    path.write_text("\n".join(lines), encoding="utf-8")
    return load_toml(path, AgentConfig)


async def test_an_expired_certificate_costs_no_reading_and_a_new_one_catches_up(
    tls_broker, operator, server, tmp_path, hubs, simulated, monkeypatch, caplog
):
    monkeypatch.setattr(certificates, "CHECK_SECONDS", 0.2)
    meter, (source, clock) = Meter(tmp_path, "meter-1", 1), simulated
    operator.clock.offset_s = -200 * SECONDS_PER_DAY
    await meter.enrol(place_of(server), operator)
    operator.clock.offset_s = 0.0
    tls_broker.reload()
    registry = Registry([Device("meter-1", meter.key.address, 1, FEEDER)])
    settings = IngestSettings(tls_broker.address, "hub-1", CHAIN_ID, OPERATOR_KEY, tls=tls_broker.hub_files)
    hub = hubs.make(settings, registry, tmp_path / "hub.sqlite", clock, IngestEvents(), [meter.key])
    await hub.start()
    agent, stop = Agent(config_of(tls_agent_toml(tmp_path / "agents", source.port, tls_broker, meter), clock)), asyncio.Event()
    running = asyncio.create_task(agent.run(stop))
    await until(lambda: agent.store.totals().outbox_rows >= 3)
    assert hub.connected and hub.stats().stored == 0 and not agent.link.connected
    assert "it has expired" in agent.link.problem
    assert "has expired, so the broker refuses this device; metering goes on and readings are kept" in caplog.text
    await meter.enrol(place_of(server), operator)
    kept = agent.store.totals()
    await until(lambda: agent.link.connected, 25)
    await until(lambda: agent.store.totals().outbox_rows == 0)
    stop.set()
    await running
    assert kept.lost == 0 and hub.stats().stored >= kept.outbox_rows and hub.stats().lost == 0
    seqs = sorted(row[0] for row in hub.store._db.execute("SELECT seq FROM reports WHERE device = 'meter-1'"))
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))) and len(seqs) == hub.stats().stored
    assert caplog.text.count("has expired, so the broker") == 1


async def test_the_agent_renews_its_certificate_by_itself_and_keeps_its_connection(tls_broker, operator, server, tmp_path):
    meter = Meter(tmp_path, "meter-1", 1)
    operator.clock.offset_s = -70 * SECONDS_PER_DAY
    await meter.enrol(place_of(server), operator)
    operator.clock.offset_s = 0.0
    tls_broker.reload()
    path = tls_agent_toml(tmp_path / "agents", 1, tls_broker, meter, place_of(server))
    config, old = load_toml(path, AgentConfig), times(meter.files)
    async with Client(tls_broker, meter.files, "meter-1") as client:
        await until(lambda: client.link.connected)
        early = CertificateKeeper(config, client.link, lambda: old.renew_s - 1.0)
        await early.look()
        assert times(meter.files) == old
        keeper = CertificateKeeper(config, client.link)
        await keeper.look()
        await keeper.look()
        assert keeper.renewals == 1 and times(meter.files).days_left(time.time()) in (89, 90)
        assert client.link.connected and client.link.counts().connects == 1
    async with Client(tls_broker, meter.files, "meter-1") as client:
        await until(lambda: client.link.connected)


async def test_a_renewal_that_fails_is_tried_ever_more_seldom_and_said_once(tls_broker, operator, server, tmp_path, caplog):
    meter = Meter(tmp_path, "meter-1", 1)
    operator.clock.offset_s = -70 * SECONDS_PER_DAY
    await meter.enrol(place_of(server), operator)
    await server.stop()
    config = load_toml(tls_agent_toml(tmp_path / "agents", 1, tls_broker, meter, place_of(server)), AgentConfig)
    now = [time.time()]
    caplog.set_level(logging.WARNING)
    keeper = CertificateKeeper(config, Client(tls_broker, meter.files, "meter-1").link, lambda: now[0])
    for _ in range(600):  # ten minutes, a look each second
        now[0] += 1.0
        await keeper.look()
    assert keeper.failures == 4  # at once, and after 60, 120 and 240 s
    assert caplog.text.count("could not be renewed") == 1 and "days left" in caplog.text


async def test_doctor_says_how_the_certificate_stands(tls_broker, operator, server, tmp_path):
    meter = Meter(tmp_path, "meter-1", 1)
    await meter.enrol(place_of(server), operator)
    tls_broker.reload()
    config = load_toml(tls_agent_toml(tmp_path / "agents", 1, tls_broker, meter, place_of(server)), AgentConfig)
    assert "days left" in await doctor._certificate(config)
    assert "accepts the device" in await doctor._broker(config)
    now = time.time()
    with pytest.raises(CertificateProblem, match="expired 10 days ago: readings are kept"):
        describe(meter.files, "hub:1", now + 100 * SECONDS_PER_DAY)
    with pytest.raises(CertificateProblem, match="nothing renews it"):
        describe(meter.files, "", now + 80 * SECONDS_PER_DAY)
    with pytest.raises(CertificateProblem, match="clock"):
        describe(meter.files, "hub:1", 0.0)
    operator.desk.revoke("meter-1")
    tls_broker.reload()
    with pytest.raises(doctor.CheckFailed, match="was revoked"):
        await doctor._broker(config)
    meter.files.certificate.unlink()
    with pytest.raises(doctor.CheckFailed, match="openmg-agent enroll"):
        await doctor._certificate(config)


def test_a_development_authority_is_refused_outside_a_demo(tls_broker, operator, tmp_path):
    meter = Meter(tmp_path, "meter-1", 1)
    meter.files.ca.write_bytes(operator.folder.authority_certificate.read_bytes())
    path = tls_agent_toml(tmp_path / "agents", 1, tls_broker, meter)
    certificates.require_usable(load_toml(path, AgentConfig))
    path.write_text(path.read_text(encoding="utf-8").replace("[slot_proof]\ndemo = true\n", ""), encoding="utf-8")
    with pytest.raises(ConfigError, match="only a demo may use"):
        Agent(load_toml(path, AgentConfig))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("mqtts://", "mqtt://"), "ca_file is for TLS"),
        (("certificate_file =", "#"), "certificate_file is missing"),
        (('renew_at = "127.0.0.1:1"', 'renew_at = "nowhere"'), "write host:port"),
    ],
)
def test_a_section_that_does_not_fit_together_is_refused(tls_broker, tmp_path, change, words):
    path = tls_agent_toml(tmp_path / "agents", 1, tls_broker, Meter(tmp_path, "meter-1", 1), "127.0.0.1:1")
    path.write_text(path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_toml(path, AgentConfig)


async def test_the_command_takes_the_code_from_standard_input_and_the_files_of_the_configuration(
    tls_broker, operator, server, tmp_path, monkeypatch, capsys
):
    meter = Meter(tmp_path, "meter-1", 1)
    path = tls_agent_toml(tmp_path / "agents", 1, tls_broker, meter)
    code = operator.invite("meter-1").text()
    line = ["enroll", "--hub", place_of(server), "--code-file", "-", "--config", str(path), "--wait", "0"]
    monkeypatch.setattr("sys.stdin", io.StringIO(code + "\n"))
    assert await asyncio.to_thread(main, line) == 1
    (applicant,) = operator.store.applicants()
    assert applicant.keys.address == meter.key.address and operator.desk.fingerprint(applicant) in capsys.readouterr().err
    operator.approve("meter-1")
    monkeypatch.setattr("sys.stdin", io.StringIO(code + "\n"))
    assert await asyncio.to_thread(main, line) == 0
    assert times(meter.files).days_left(time.time()) in (89, 90) and code not in "".join(capsys.readouterr())
    monkeypatch.setattr("sys.stdin", io.StringIO("no code\n"))
    assert await asyncio.to_thread(main, line) == 1 and "no enrolment code" in capsys.readouterr().err


async def test_a_key_that_systemd_hands_over_serves_as_well_and_is_renewed_for(tls_broker, operator, server, tmp_path):
    """A credential is a file of mode 0400 in a folder where nothing can be made; the key is never written again."""
    meter = Meter(tmp_path, "meter-1", 1)
    operator.clock.offset_s = -70 * SECONDS_PER_DAY
    await meter.enrol(place_of(server), operator)
    operator.clock.offset_s = 0.0
    tls_broker.reload()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    meter.files.key.rename(credentials / "tls.key")
    (credentials / "tls.key").chmod(0o400)
    credentials.chmod(0o500)
    files = replace(meter.files, key=credentials / "tls.key")
    before = (files.key.read_bytes(), times(files))
    await asyncio.to_thread(renew, files, "meter-1", place_of(server))
    assert files.key.read_bytes() == before[0] and times(files) != before[1] and not meter.files.key.exists()
    async with Client(tls_broker, files, "meter-1") as client:
        await until(lambda: client.link.connected)
    credentials.chmod(0o700)
