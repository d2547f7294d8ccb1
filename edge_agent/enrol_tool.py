"""`openmg-agent enroll`: get this device's certificate with the operator's one-time code.

Rules: the code comes from a file of mode 0600 or from standard input, never from an argument; it is not repeated. The command
waits until the operator has compared the fingerprint and approved; it may be interrupted and called again. With --config the
files go where [mqtt] says, or beside the configuration; without, everything goes into --dir, and `init --enrolment` or
`detect --write` make the configuration of it.
Not here: the protocol (`edge_agent.enrol`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.config import AgentConfig, HubSection, MqttSection
from openmg.config import ConfigError, load_toml
from openmg.durable import replace_durably
from openmg.keys.passphrase import KeyFileError, ask_terminal, read_private_text
from openmg.messages.topics import DEVICE_NAME
from openmg.mqtt_tls import TlsFiles

if TYPE_CHECKING:
    from edge_agent.enrol import Attempt, Expected
    from edge_agent.enrolment_file import Enrolment
    from openmg.identity import DeviceKey

DEFAULT_WAIT_SECONDS = 900
POLL_SECONDS = 2.0
MAX_CODE_CHARACTERS = 256


@dataclass(frozen=True)
class Target:
    """Who is enrolled, and where its files go."""

    name: str
    key: DeviceKey
    files: TlsFiles
    folder: Path
    expected: Expected
    key_file: Path
    config: AgentConfig | None = None


def add_command(commands: Any) -> None:
    """`enroll` of the command line."""
    text = "Get this device's certificate with the operator's one-time code."
    example = "example: openmg-agent enroll --hub hub-1.example.org:7443 --code-file - --config agent.toml"
    parser = commands.add_parser("enroll", help=text, description=text, epilog=example)
    parser.add_argument("--hub", required=True, metavar="HOST:PORT", help="the operator's enrolment server")
    parser.add_argument("--code-file", required=True, metavar="FILE", help="file (0600) with the code; - for standard input")
    parser.add_argument("--config", type=Path, help="the agent's TOML file, if there is one yet")
    parser.add_argument("--name", help="the device's name, without --config")
    parser.add_argument("--dir", type=Path, default=Path("."), help="where the files go, without --config (default: here)")
    parser.add_argument("--demo", action="store_true", help="take a development authority, without --config")
    parser.add_argument("--wait", type=int, default=DEFAULT_WAIT_SECONDS, metavar="SECONDS", help="for approval (900)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(function=enroll)


def enroll(arguments: argparse.Namespace) -> int:
    """Enrol; 0 when the certificate is in place."""
    from edge_agent.enrol import EnrolError, load_or_make_tls_key, save
    from openmg.enrolment.code import CodeError, EnrolmentCode

    target = _target(arguments)
    try:
        code = EnrolmentCode.parse(_code_text(arguments.code_file))
        tls_key = load_or_make_tls_key(target.files.key)
        done = _until_issued(arguments, target, code, tls_key)
        if done is None:
            print("not approved yet; run the same command again later", file=sys.stderr)
            return 1
        save(done, target.files)
        enrolment = _enrolment(arguments.hub, target, done)
        path = _write_result(target, enrolment)
    except (CodeError, EnrolError) as error:
        print(error, file=sys.stderr)
        return 1
    for difference in _differences(target.config, enrolment):
        print(difference, file=sys.stderr)
    _tell(arguments, target, done, path)
    return 0


def _until_issued(arguments: argparse.Namespace, target: Target, code: Any, tls_key: Any) -> Attempt | None:
    """Asks until there is a certificate; None when the time is over."""
    from edge_agent.enrol import EnrolError, attempt

    deadline, told = time.monotonic() + arguments.wait, False
    while True:
        pause = POLL_SECONDS
        try:
            done = attempt(arguments.hub, code, target.name, target.key, tls_key, target.expected)
        except EnrolError as error:
            if not told or not error.wait_s:  # the first attempt must succeed; later ones may meet a hub that restarts
                raise
            pause = float(error.wait_s)
        else:
            if done.certificate is not None:
                return done
            if not told:
                told = True
                print(f"{target.name} asks to be enrolled. The operator must see the same fingerprint:\n", file=sys.stderr)
                print(f"    {done.fingerprint}\n\nwaiting for approval ...", file=sys.stderr, flush=True)
        if time.monotonic() + pause > deadline:
            return None
        time.sleep(pause)


def _target(arguments: argparse.Namespace) -> Target:
    """Raises ConfigError or KeyFileError."""
    from edge_agent.enrol import Expected

    if arguments.config is not None:
        config = load_toml(arguments.config, AgentConfig)
        folder = arguments.config.parent
        files = config.mqtt.tls or _files(folder)
        expected = Expected(config.hub.address, config.hub.chain_id, config.demo)
        key_file = config.device.key_file
        return Target(config.device.name, _device_key(key_file, config), files, folder, expected, key_file, config)
    if arguments.name is None or not DEVICE_NAME.fullmatch(arguments.name):
        raise ConfigError("--config is missing, or --name with up to 32 lower-case letters, digits and dashes")
    folder, key_file = arguments.dir, arguments.dir / "device.key"
    expected = Expected(demo=arguments.demo)
    return Target(arguments.name, _device_key(key_file, None), _files(folder), folder, expected, key_file)


def _files(folder: Path) -> TlsFiles:
    return TlsFiles(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")


def _device_key(path: Path, config: AgentConfig | None) -> DeviceKey:
    from openmg.identity import DeviceKey, load_or_create_key

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise KeyFileError(f"folder {path.parent} of the device's key cannot be made ({error.strerror})") from error
    return DeviceKey(load_or_create_key(path, None if config is None else config.passphrases))


def _code_text(source: str) -> str:
    if source != "-":
        return read_private_text(Path(source))
    typed = ask_terminal("Enrolment code: ")
    return typed if typed is not None else sys.stdin.readline(MAX_CODE_CHARACTERS)


def _enrolment(hub: str, target: Target, done: Attempt) -> Enrolment:
    from edge_agent.enrolment_file import EnrolledDevice, EnrolledHome, Enrolment

    """What the configuration needs of it; a hub that does not know its broker's url is guessed to be beside it."""
    said, files = done.membership, target.files
    assert said is not None  # it comes with the certificate
    url = said.broker or f"mqtts://{hub.rpartition(':')[0]}:8883"
    utility = f"0x{said.utility.hex()}" if said.utility else ""
    return Enrolment(
        EnrolledDevice(target.name, target.key_file),
        HubSection(f"0x{done.operator.hex()}", done.chain_id, utility),
        EnrolledHome(said.microgrid, said.role),
        MqttSection(url, ca_file=files.ca, certificate_file=files.certificate, key_file=files.key, renew_at=hub),
    )


def _write_result(target: Target, enrolment: Enrolment) -> Path:
    from edge_agent.enrol import EnrolError
    from edge_agent.enrolment_file import FILE_NAME, enrolment_text

    path = target.folder / FILE_NAME
    try:
        replace_durably(path, enrolment_text(enrolment, target.folder).encode("utf-8"), mode=0o644)
    except OSError as error:
        raise EnrolError(f"{path} cannot be written ({error.strerror})") from error
    return path


def _differences(config: AgentConfig | None, enrolment: Enrolment) -> list[str]:
    """Where the configuration says another thing than the hub, one sentence each."""
    if config is None:
        return []
    pairs = (
        ("mqtt.url", config.mqtt.url, enrolment.mqtt.url),
        ("hub.utility", config.hub.utility.lower(), enrolment.hub.utility.lower()),
        ("home.microgrid", str(config.home.microgrid), str(enrolment.home.microgrid)),
        ("home.role", config.home.role, enrolment.home.role),
    )
    return [f"{key} is {own!r} and the hub says {hubs!r}; correct it" for key, own, hubs in pairs if own != hubs]


def _tell(arguments: argparse.Namespace, target: Target, done: Attempt, path: Path) -> None:
    from edge_agent.certificates import times

    days = times(target.files).days_left(time.time())
    if arguments.json:
        answer = {
            "device": target.name,
            "fingerprint": done.fingerprint,
            "operator": "0x" + done.operator.hex(),
            "chain_id": done.chain_id,
            "certificate_file": str(target.files.certificate),
            "days_left": days,
            "enrolment": str(path),
        }
        print(json.dumps(answer, indent=2))
        return
    print(f"{target.name} is enrolled: {target.files.certificate} holds for {days} days.")
    if target.config is None:
        print(f"Next: openmg-agent init --enrolment {path} (or detect --write); the code is used up, delete its file.")
    else:
        print(f"The configuration needs what {path} says in [mqtt]; the code is used up, delete its file.")
