"""The hub tells an enrolled device where it belongs, and `init` makes a whole configuration of that without asking."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY
from enrol_kit import Meter, Operator, place_of

from edge_agent.cli import main as agent_main
from edge_agent.config import AgentConfig
from edge_agent.enrol import EnrolError
from hub.devices.server import EnrolmentServer
from openmg.config import load_toml
from openmg.enrolment import transcript as proofs
from openmg.enrolment.code import EnrolmentCode
from openmg.enrolment.messages import ISSUED, Answer, Membership
from openmg.messages import base
from openmg.signing import address_of

UTILITY = "0x" + "22" * 20
SAID = bytes(range(32))


@pytest.fixture
def at_a_broker(operator: Operator) -> Operator:
    """As after `broker-config`, and with a utility."""
    operator.desk.settings = replace(operator.desk.settings, broker_dir="broker", broker_port=18883, utility=UTILITY)
    return operator


async def enrolled(place: str, operator: Operator, meter: Meter, role: str = "home") -> Membership | None:
    code = operator.desk.invite(meter.name, 3, role, 1)
    assert (await asyncio.to_thread(meter.attempt, place, code)).membership is None  # nobody has approved
    operator.approve(meter.name)
    return (await asyncio.to_thread(meter.attempt, place, code)).membership


async def test_a_device_learns_broker_microgrid_role_and_utility_with_its_certificate(
    at_a_broker: Operator, server: EnrolmentServer, tmp_path: Path
) -> None:
    said = await enrolled(place_of(server), at_a_broker, Meter(tmp_path, "feeder-3", 1), "feeder")
    assert said == Membership("mqtts://127.0.0.1:18883", 3, "feeder", bytes.fromhex(UTILITY[2:]))


async def test_a_hub_that_does_not_know_its_broker_says_none(
    operator: Operator, server: EnrolmentServer, tmp_path: Path
) -> None:
    said = await enrolled(place_of(server), operator, Meter(tmp_path, "home-3", 1))
    assert said == Membership("", 3, "home", b"")


async def test_a_hub_that_tells_another_membership_than_it_proves_is_refused(
    at_a_broker: Operator, server: EnrolmentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter(tmp_path, "home-3", 1)
    real = at_a_broker.desk._with_membership
    elsewhere = base.encode(Membership("mqtts://192.0.2.66:8883", 3, "home", b""))
    monkeypatch.setattr(at_a_broker.desk, "_with_membership", lambda *known: replace(real(*known), membership=elsewhere))
    with pytest.raises(EnrolError, match="does not say where this device belongs"):
        await enrolled(place_of(server), at_a_broker, meter)
    assert not meter.files.certificate.exists()


def test_a_membership_is_of_one_code_and_one_connection() -> None:
    keys = EnrolmentCode.from_random(5 << 90).keys()
    membership = base.encode(Membership("mqtts://192.0.2.1:8883", 1, "home", b""))
    proof = proofs.membership_proof(keys.hub_mac, SAID, membership)
    right = Answer(ISSUED, "", 0, b"certificate", membership, proof)
    assert proofs.open_membership(keys, right, SAID).broker == "mqtts://192.0.2.1:8883"
    other = EnrolmentCode.from_random(6 << 90).keys()
    for who, answer, said in (
        (other, right, SAID),
        (keys, right, bytes(32)),
        (keys, replace(right, proof=bytes(32)), SAID),
        (keys, Answer(ISSUED, "", 0, b"certificate"), SAID),
    ):
        with pytest.raises(proofs.ProofError, match="update agent and hub together"):
            proofs.open_membership(who, answer, said)


@pytest.mark.parametrize(
    "wrong", [("mqtt://h:1", 1, "home", b""), ("", 0, "home", b""), ("", 1, "hub", b""), ("", 1, "home", b"\1")]
)
def test_a_membership_that_no_device_can_have_is_none(wrong: tuple[str, int, str, bytes]) -> None:
    with pytest.raises(ValueError, match="a membership names"):
        Membership(*wrong)


async def test_init_asks_for_nothing_after_an_enrolment(
    at_a_broker: Operator, server: EnrolmentServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, code_file, config = tmp_path / "var", tmp_path / "code", tmp_path / "etc" / "agent.toml"
    config.parent.mkdir()
    code_file.write_text(at_a_broker.invite("home-7").text())
    code_file.chmod(0o600)
    enrol = ["enroll", "--hub", place_of(server), "--code-file", str(code_file), "--name", "home-7", "--dir", str(home)]
    assert await asyncio.to_thread(agent_main, [*enrol, "--demo", "--wait", "0"]) == 1
    at_a_broker.approve("home-7")
    assert await asyncio.to_thread(agent_main, [*enrol, "--demo"]) == 0
    made = ["init", "--output", str(config), "--host", "192.0.2.7", "--demo-key", "--enrolment", str(home / "enrolment.toml")]
    assert agent_main(made) == 0 and agent_main(["check", "--config", str(config)]) == 0
    found = load_toml(config, AgentConfig)
    assert (found.device.name, found.device.state_dir) == ("home-7", home) and found.device.key_file.stat().st_size == 32
    assert (found.hub.address, found.hub.chain_id, found.hub.utility) == (address_of(OPERATOR_KEY), CHAIN_ID, UTILITY)
    assert (found.home.microgrid, found.home.role) == (1, "home")
    assert (found.mqtt.url, found.mqtt.renew_at) == ("mqtts://127.0.0.1:18883", place_of(server))
    assert found.mqtt.tls is not None and found.mqtt.tls.certificate == home / "tls.crt"
    capsys.readouterr()
    wrong = config.read_text(encoding="utf-8").replace("microgrid = 1", "microgrid = 2")
    config.write_text(wrong, encoding="utf-8")
    again = ["enroll", "--hub", place_of(server), "--code-file", str(code_file), "--config", str(config)]
    assert await asyncio.to_thread(agent_main, again) == 0
    assert "home.microgrid is '2' and the hub says '1'; correct it" in capsys.readouterr().err
