"""The commands of operator and device as their users call them; and that no secret shows in arguments, output or logs."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from edge_kit import Processes, mosquitto, wait_for
from enrol_kit import RUNS_AS, Meter, Operator, place_of

from edge_agent.cli import main as agent_main
from hub.cli import main as hub_main
from hub.config import MqttSection
from hub.devices.authority import create_authority, open_authority
from hub.devices.folder import DevicesFolder
from hub.devices.standing import DeviceStanding, standing_of
from hub.operators.errors import OperatorError
from openmg.config import ConfigError
from openmg.enrolment.code import EnrolmentCode
from openmg.keys.files import Protection, protection
from openmg.keys.passphrase import KeyFileError, Passphrases
from openmg.keys.sealed import SEALED_BYTES

OPERATOR = "0x" + "ab" * 20


class Commands:
    """Runs the two programs' commands in this process, and keeps all that they print."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.printed: list[str] = []

    def hub(self, action: str, *arguments: str, code: int = 0) -> dict[str, object]:
        options = ("--devices", str(self.folder / "devices"), "--demo", "--json")
        text = self.run(hub_main, "devices", action, *arguments, *options, code=code)
        return json.loads(text) if code == 0 else {"error": text}

    def run(self, main: Callable[[list[str]], int], *arguments: str, code: int = 0) -> str:
        assert main(list(arguments)) == code
        printed = self._capsys.readouterr()
        self.printed += [printed.out, printed.err]
        return printed.out if code == 0 else printed.err


@pytest.fixture
def commands(tmp_path, capsys):
    return Commands(tmp_path, capsys)


def shown_of(process) -> bytes:
    """What anybody on the machine sees of a process, and what its user sees of its environment."""
    return Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()


class Scene:
    """An operator's folder, a running enrolment server, and a device that enrols there, as processes."""

    def __init__(self, commands: Commands, processes: Processes, folder: Path) -> None:
        self.commands, self.processes, self.folder, self.home = commands, processes, folder, folder / "home"
        self.code_file, self.devices, self.broker = folder / "code.txt", folder / "devices", folder / "broker"
        self.seen = b""

    def start(self, name: str, module: str, *arguments: str) -> subprocess.Popen[str]:
        with (self.folder / f"{name}.log").open("w") as log:
            return self.processes.python(module, *arguments, stdout=subprocess.PIPE, stderr=log)

    def serve(self, name: str) -> tuple[subprocess.Popen[str], str]:
        """An authority, an invitation for this name in the code file, and a server; its process and place."""
        names = ("--host", "127.0.0.1", "--operator", OPERATOR, "--chain-id", "7")
        assert self.commands.hub("init", "--development", *names)["development"] is True
        invited = self.commands.hub("invite", name, "--microgrid", "2", "--code-file", str(self.code_file))
        assert "code" not in invited and self.code_file.stat().st_mode & 0o777 == 0o600
        serve = ("devices", "serve", "--devices", str(self.devices), "--demo", "--listen", "127.0.0.1:0")
        server = self.start("server", "hub.cli", *serve)
        assert server.stdout is not None
        return server, server.stdout.readline().split()[-1]

    def enrol(self, place: str, name: str) -> dict[str, object]:
        """The device enrols, and the operator approves by the commands; what the device prints at the end."""
        code = ("--hub", place, "--code-file", str(self.code_file))
        agent = self.start(
            "agent", "edge_agent.cli", "enroll", *code, "--name", name, "--dir", str(self.home), "--demo", "--json"
        )
        wait_for(lambda: "waiting for approval" in (self.folder / "agent.log").read_text())
        self.seen += shown_of(agent)
        (waiting,) = self.commands.hub("list")["waiting"]
        assert waiting["fingerprint"] in (self.folder / "agent.log").read_text()
        assert "--fingerprint is missing" in self.commands.hub("approve", name, code=1)["error"]
        assert "do not approve" in self.commands.hub("approve", name, "--fingerprint", "00 " * 16, code=1)["error"]
        approved = self.commands.hub("approve", name, "--fingerprint", waiting["fingerprint"])
        assert approved["hub_toml"][:2] == ["[[device]]", f'name = "{name}"'] and "microgrid = 2" in approved["hub_toml"]
        printed = agent.communicate(timeout=30)[0]
        self.seen += printed.encode()
        assert agent.returncode == 0
        return json.loads(printed)

    def check_secrets(self) -> None:
        """Nothing secret in any argument, environment, output, log, or file that others may read."""
        code = EnrolmentCode.parse(self.code_file.read_text())
        keys, files = code.keys(), [self.home / "enrolment.toml", self.broker / "acl", self.broker / "mosquitto.conf"]
        files += [self.folder / "server.log", self.folder / "agent.log"]
        shown = self.seen + "".join(self.commands.printed).encode() + b"".join(path.read_bytes() for path in files)
        secrets = [code.secret, code.text(), code.text().lower(), code.text().replace("-", ""), keys.hub_mac.hex()]
        secrets += [keys.device_key.private_bytes_raw().hex()]
        secrets += [path.read_bytes().hex() for path in (self.home / "device.key", self.devices / "authority.key")]
        for path in (self.home / "tls.key", self.devices / "server.key", self.broker / "hub.key", self.broker / "broker.key"):
            assert path.stat().st_mode & 0o777 == 0o600
            secrets += path.read_text().splitlines()[1:-1]
        for secret in secrets:
            assert len(secret) > 10 and secret.encode() not in shown
        database = b"".join(path.read_bytes() for path in self.devices.glob("devices.sqlite*"))
        assert code.secret.encode() not in database and keys.device_key.private_bytes_raw() not in database


@pytest.fixture
def scene(commands, processes, tmp_path):
    return Scene(commands, processes, tmp_path)


def test_from_init_to_a_revoked_device_and_no_secret_is_shown(scene, free_port):
    server, place = scene.serve("home-7")
    port, commands = free_port(), scene.commands
    where = ("--out", str(scene.broker), "--port", str(port), "--bind", "127.0.0.1", "--user", RUNS_AS)
    assert f'url = "mqtts://127.0.0.1:{port}"' in commands.hub("broker-config", *where)["hub_toml"]
    scene.seen += shown_of(server)
    told = scene.enrol(place, "home-7")
    assert told["operator"] == OPERATOR and told["chain_id"] == 7 and told["days_left"] in (89, 90)
    result = (scene.home / "enrolment.toml").read_text()
    assert f'renew_at = "{place}"' in result and OPERATOR in result and "microgrid = 2" in result
    assert f'url = "mqtts://127.0.0.1:{port}"' in result  # the server was started before the broker had its files
    assert "user home-7\ntopic write grid/v1/home-7/+\n" in (scene.broker / "acl").read_text()
    if mosquitto() is not None and shutil.which("openssl") is not None:
        check_with_other_clients(scene, port)
    assert commands.hub("revoke", "home-7")["certificates_revoked"] == 1
    assert "home-7" not in (scene.broker / "acl").read_text()
    assert len(commands.hub("crl")["certificate"]) == 1
    assert commands.hub("list")["enrolled"][0]["state"] == "revoked"
    server.send_signal(signal.SIGTERM)
    assert server.wait(15) == 0
    scene.check_secrets()


def check_with_other_clients(scene: Scene, port: int) -> None:
    """OpenSSL's own tools and mosquitto agree with the files: chain, list of revoked certificates, names, TLS version."""
    broker, home = scene.broker, scene.home
    with (scene.folder / "broker.log").open("w") as log:
        scene.processes.start(mosquitto() or "", "-c", str(broker / "mosquitto.conf"), stdout=log, stderr=log)

    def openssl(*arguments: str) -> str:
        line = ["openssl", arguments[0], "-CAfile", str(broker / "ca.crt"), *arguments[1:]]
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        return done.stdout + done.stderr

    crl = ("-CRLfile", str(broker / "crl.pem"), "-crl_check")
    assert "tls.crt: OK" in openssl("verify", *crl, "-purpose", "sslclient", str(home / "tls.crt"))
    assert "tls.crt: OK" not in openssl("verify", *crl, "-purpose", "sslserver", str(home / "tls.crt"))
    named = ("-verify_ip", "127.0.0.1", "-purpose", "sslserver")
    assert "broker.crt: OK" in openssl("verify", *named, str(broker / "broker.crt"))
    wait_for(lambda: "running" in (scene.folder / "broker.log").read_text())
    client = ("-cert", str(home / "tls.crt"), "-key", str(home / "tls.key"), "-verify_return_error")
    shaken = openssl("s_client", "-connect", f"127.0.0.1:{port}", *client)
    assert "Verify return code: 0 (ok)" in shaken and "TLSv1.3" in shaken


def test_a_device_that_is_not_approved_in_time_comes_back_with_the_same_command(scene, tmp_path):
    (server, place), commands, code_file = scene.serve("home-1"), scene.commands, scene.code_file
    enrol = ("enroll", "--hub", place, "--name", "home-1", "--dir", str(tmp_path / "home"), "--demo", "--wait", "0")
    assert "not approved yet" in commands.run(agent_main, *enrol, "--code-file", str(code_file), code=1)
    fingerprint = re.search(r"(?:[0-9a-f]{4} ){7}[0-9a-f]{4}", "".join(commands.printed))
    commands.hub("approve", "home-1", "--fingerprint", fingerprint.group())
    code_file.chmod(0o644)
    assert "chmod 600" in commands.run(agent_main, *enrol, "--code-file", str(code_file), code=1)
    code_file.chmod(0o600)
    assert "home-1 is enrolled" in commands.run(agent_main, *enrol, "--code-file", str(code_file))
    bad = ("enroll", "--hub", place, "--dir", str(tmp_path / "home"), "--code-file", str(code_file))
    assert "--config is missing" in commands.run(agent_main, *bad, code=2)
    server.terminate()


def test_the_authoritys_key_is_sealed_by_a_passphrase_and_opens_with_it_alone(tmp_path):
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o600)
    folder = DevicesFolder(tmp_path / "devices")
    made = create_authority(folder, Passphrases(secret), False, 1_700_000_000)
    assert protection(folder.authority_key) is Protection.PASSPHRASE
    assert folder.authority_key.stat().st_size == SEALED_BYTES and made.secret not in folder.authority_key.read_bytes()
    assert open_authority(folder, Passphrases(secret), demo=False).der == made.der
    with pytest.raises(KeyFileError):
        open_authority(folder, Passphrases(None, lambda _prompt: "wrong passphrase"), demo=False)
    with pytest.raises(OperatorError, match="exists"):
        create_authority(folder, Passphrases(secret), False, 1_700_000_000)


def test_a_development_authority_serves_a_demo_and_nobody_else(operator: Operator, tmp_path):
    with pytest.raises(OperatorError, match="only a demo may use"):
        open_authority(operator.folder, Passphrases(), demo=False)
    assert open_authority(operator.folder, Passphrases(), demo=True).development
    ca = operator.folder.authority_certificate
    section = MqttSection("mqtts://127.0.0.1:8883", ca, tmp_path / "hub.crt", tmp_path / "hub.key")

    config = SimpleNamespace(mqtt=section, devices=None, zk=None)
    with pytest.raises(ConfigError, match="only a demo may use"):
        standing_of(config, {})


async def test_the_hubs_configuration_and_the_enrolment_must_name_one_address(operator, server, tmp_path, caplog):
    """And a hub that cannot read the database goes on with the last answer."""
    meter = Meter(tmp_path, "meter-1", 1)
    standing = DeviceStanding(operator.folder.database, {"meter-1": b"\1" * 20, "meter-2": b"\2" * 20})
    assert standing.reason("meter-1") is None
    await meter.enrol(place_of(server), operator)
    assert "another signing address" in standing.reason("meter-1") and standing.reason("meter-2") is None
    standing.close()
    assert "another signing address" in standing.reason("meter-1") and standing.reason("meter-2") is None
    assert caplog.text.count("going on with what was read before") == 1
    assert operator.folder.database.stat().st_mode & 0o777 == 0o600
