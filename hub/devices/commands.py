"""The subcommand `openmg-hub devices`: authority, invitations, approval, revocation, the broker's files, and the server.

Rules: a code is shown once, when it is made, and never again; no secret is in arguments or in the log. Whoever approves has
compared the fingerprint: it is typed, or confirmed at a terminal, never taken for granted. Not here: the doing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hub.config import HubConfig, split_address
from hub.devices.authority import (
    Authority,
    create_authority,
    open_authority,
    read_authority,
    write_server_pair,
)
from hub.devices.broker_files import BrokerPlace, write_broker_files, write_standing
from hub.devices.desk import EnrolmentDesk
from hub.devices.folder import DEFAULT_NAME, DevicesFolder
from hub.devices.server import EnrolmentServer
from hub.devices.settings import DevicesSettings, read_settings, write_settings
from hub.devices.store import APPROVED, DeviceStore, EnrolledDevice
from hub.ingest.registry import FEEDER, HOME
from hub.keys import HubKeys
from hub.operators.errors import OperatorError
from hub.operators.shell import AddCommand, Answer, add_action, add_say
from hub.ppdl.genesis import GenesisError, load_genesis
from openmg.config import ConfigError, load_toml
from openmg.enrolment.certificates import load_certificate, validity
from openmg.keys.files import write_new_private
from openmg.keys.passphrase import Passphrases
from openmg.messages.topics import DEVICE_NAME

log = logging.getLogger(__name__)
RELOAD = "reload the broker, or it goes on with the old files (systemctl reload mosquitto, or SIGHUP)"
REFRESH_SECONDS = 86_400.0


def _now_s() -> int:
    return int(time.time())


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(min(seconds, 2**32), UTC).isoformat(timespec="minutes")


@contextlib.contextmanager
def _desk(arguments: argparse.Namespace, *, signing: bool) -> Iterator[tuple[DevicesFolder, EnrolmentDesk]]:
    """The desk of --devices; with the authority's key where something is to be signed."""
    folder = DevicesFolder(arguments.devices)
    settings = read_settings(folder)
    authority = open_authority(folder, _passphrases(arguments), arguments.demo) if signing else read_authority(folder)
    store = DeviceStore(folder.database)
    try:
        yield folder, EnrolmentDesk(authority, store, settings, time.time, lambda: read_settings(folder))
    finally:
        store.close()


def _passphrases(arguments: argparse.Namespace) -> Passphrases:
    return Passphrases(arguments.passphrase_file)


def _name(text: str) -> str:
    if not DEVICE_NAME.fullmatch(text):
        raise OperatorError(f"{text!r} is no device name: use up to 32 lower-case letters, digits and dashes")
    return text


def say_init(arguments: argparse.Namespace) -> Answer:
    """Make an authority and the enrolment server's certificate."""
    folder, settings = DevicesFolder(arguments.devices), _first_settings(arguments)
    authority = create_authority(folder, _passphrases(arguments), arguments.development, _now_s())
    write_server_pair(authority.issue_server(settings.hosts, _now_s()), folder.server_key, folder.server_certificate)
    write_settings(folder, settings)
    DeviceStore(folder.database).close()
    answer: Answer = {
        "authority": str(folder.authority_certificate),
        "development": authority.development,
        "operator": settings.operator,
        "chain_id": settings.chain_id,
        "hosts": list(settings.hosts),
    }
    return answer | {"next": f"openmg-hub devices broker-config --devices {folder.root} --out FOLDER, then invite devices"}


def _first_settings(arguments: argparse.Namespace) -> DevicesSettings:
    operator, chain_id, hub = arguments.operator, arguments.chain_id, arguments.hub
    if arguments.config is not None:
        config = load_toml(arguments.config, HubConfig)
        try:
            chain_id = chain_id or load_genesis(config.ppdl.genesis_file).chain_id
        except GenesisError as error:
            raise OperatorError(str(error)) from error
        if not config.hub.key_file.exists():
            raise OperatorError(f"{config.hub.key_file} is missing: give the configuration of a hub that has its key")
        operator = operator or "0x" + HubKeys.load(config.hub.key_file).account.hex()
        hub = hub or config.hub.name
    if operator is None or chain_id is None:
        raise OperatorError("--config of the hub is missing, or --operator and --chain-id: devices are told whom to believe")
    try:
        return DevicesSettings(operator, chain_id, hub or "hub", tuple(arguments.host), utility=arguments.utility)
    except ValueError as error:
        raise OperatorError(str(error)) from error


def say_invite(arguments: argparse.Namespace) -> Answer:
    """A one-time code for a name."""
    with _desk(arguments, signing=False) as (_folder, desk):
        code = desk.invite(_name(arguments.name), arguments.microgrid, arguments.role, arguments.hours)
        expires = _day(_now_s() + arguments.hours * 3600)
    answer: Answer = {"device": arguments.name, "expires": expires}
    if arguments.code_file is None:
        return answer | {"code": code.text()}
    try:
        write_new_private(arguments.code_file, (code.text() + "\n").encode("ascii"))
    except OSError as error:
        raise OperatorError(f"{arguments.code_file} cannot be made ({error.strerror}): give another --code-file") from error
    return answer | {"code_file": str(arguments.code_file)}


def say_list(arguments: argparse.Namespace) -> Answer:
    """Invitations, requests and devices."""
    with _desk(arguments, signing=False) as (folder, desk):
        now_s, store = _now_s(), desk.store
        invited = [
            {
                "device": item.device,
                "expires": _day(item.expires_s),
                "wrong_codes": item.tries,
                "state": "expired" if item.expires_s <= now_s else "used" if item.used_by else "open",
            }
            for item in store.invitations()
        ]
        waiting = [
            {"device": item.keys.device, "address": "0x" + item.keys.address.hex(), "since": _day(item.since_s),
             "fingerprint": desk.fingerprint(item)}
            for item in store.applicants()
        ]  # fmt: skip
        server = validity(load_certificate(folder.server_certificate.read_bytes())).days_left(now_s)
        return {
            "authority": "development" if desk.authority.development else "production",
            "authority_days_left": validity(desk.authority.certificate).days_left(now_s),
            "server_days_left": server,
            "broker_days_left": _broker_days(desk.settings.broker_dir, now_s),
            "invitation": invited,
            "waiting": waiting,
            "enrolled": [_device_answer(desk, item, now_s) for item in store.devices()],
        }


def _broker_days(broker_dir: str, now_s: int) -> int | None:
    """Days that the certificate which was written for the broker has left; None when there is none here."""
    path = Path(broker_dir) / "broker.crt"
    if not broker_dir or not path.exists():
        return None
    return validity(load_certificate(path.read_bytes())).days_left(now_s)


def _device_answer(desk: EnrolmentDesk, device: EnrolledDevice, now_s: int) -> Answer:
    newest = desk.store.newest_certificate(device.keys.device)
    days = None if newest is None or newest.revoked_s else validity(load_certificate(newest.der)).days_left(now_s)
    return {
        "device": device.keys.device,
        "state": device.state if days is None or days >= 0 or device.state != APPROVED else "expired",
        "days_left": days,
        "microgrid": device.microgrid,
        "role": device.role,
        "address": "0x" + device.keys.address.hex(),
        "fingerprint": desk.fingerprint(device),
    }


def say_approve(arguments: argparse.Namespace) -> Answer:
    """Issue a waiting device's certificate."""
    with _desk(arguments, signing=True) as (folder, desk):
        name = _name(arguments.name)
        shown = arguments.fingerprint if arguments.fingerprint is not None else _confirmed(desk, name)
        device = desk.approve(name, shown, arguments.new_address)
        where = write_standing(folder, desk)
        answer = _device_answer(desk, device, _now_s())
    address = f"0x{device.keys.address.hex()}"
    section = ["[[device]]", f'name = "{name}"', f'address = "{address}"', f"microgrid = {device.microgrid}"]
    section += [f'role = "{device.role}"'] if device.role != HOME else []
    return answer | {
        "hub_toml": section,
        "next": f"add the lines to hub.toml, and {RELOAD}" if where else "add the lines to hub.toml",
    }


def _confirmed(desk: EnrolmentDesk, name: str) -> str:
    """The fingerprint, once somebody at the terminal has said that the device shows the same."""
    applicant = desk.store.applicant(name)
    if applicant is None:
        raise OperatorError(f"{name} has not asked to be enrolled: see openmg-hub devices list")
    fingerprint = desk.fingerprint(applicant)
    if not sys.stdin.isatty():
        raise OperatorError("--fingerprint is missing: write what the device shows, or start at a terminal")
    print(f"{name} asks to be enrolled, with the fingerprint\n\n    {fingerprint}\n", file=sys.stderr)
    if input("Does the device show the same? Type yes: ").strip() != "yes":
        raise OperatorError(f"{name} was not approved")
    return fingerprint


def say_revoke(arguments: argparse.Namespace) -> Answer:
    """End a device."""
    with _desk(arguments, signing=True) as (folder, desk):
        count = desk.revoke(_name(arguments.name))
        where = write_standing(folder, desk)
    done: Answer = {"device": arguments.name, "certificates_revoked": count, "crl": str(folder.crl)}
    return done | ({"next": f"{RELOAD}; the hub refuses its messages already"} if where else {})


def say_crl(arguments: argparse.Namespace) -> Answer:
    """Write the list of revoked certificates anew."""
    with _desk(arguments, signing=True) as (folder, desk):
        where = write_standing(folder, desk)
        revoked = desk.store.revoked(_now_s())
    serials = [{"serial": f"{item.serial:x}", "revoked": _day(item.at_s)} for item in revoked]
    return {"crl": str(folder.crl), "broker": str(where) if where else None, "certificate": serials}


def say_broker_config(arguments: argparse.Namespace) -> Answer:
    """Write mosquitto's files."""
    out = arguments.out or DevicesFolder(arguments.devices).root / "broker"
    with _desk(arguments, signing=True) as (folder, desk):
        place = BrokerPlace(out, arguments.port, arguments.bind, arguments.user)
        files = write_broker_files(folder, desk, place, _now_s())
        host = desk.settings.hosts[0]
    where = out.resolve()
    section = ["[mqtt]", f'url = "mqtts://{host}:{arguments.port}"', f'ca_file = "{where}/ca.crt"',
               f'certificate_file = "{where}/hub.crt"', f'key_file = "{where}/hub.key"']  # fmt: skip
    section += ["[devices]", f'dir = "{folder.root.resolve()}"']
    return {"files": [str(path) for path in files], "hub_toml": section, "next": f"mosquitto -c {where / 'mosquitto.conf'}"}


def serve(arguments: argparse.Namespace) -> int:
    """The enrolment server, until interrupted."""
    with _desk(arguments, signing=True) as (folder, desk):
        _renew_server(folder, desk.authority, desk.settings)
        host, port = _listen(arguments.listen)

        async def until_interrupted() -> None:
            server, stop = EnrolmentServer(desk, folder, host, port), asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await server.start()
            print(f"enrolment server on {host}:{server.port}", flush=True)
            while not stop.is_set():
                try:
                    await asyncio.to_thread(write_standing, folder, desk)
                except OperatorError as error:
                    log.error("%s; trying again tomorrow", error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), REFRESH_SECONDS)
            await server.stop()
            print(" ".join(f"{name}={number}" for name, number in asdict(server.counts).items()), flush=True)

        asyncio.run(until_interrupted())
    return 0


def _listen(text: str) -> tuple[str, int]:
    """`host:port`; port 0 is any free one. Raises ConfigError."""
    if text.endswith(":0"):
        return text.removesuffix(":0"), 0
    try:
        return split_address(text)
    except ValueError as error:
        raise ConfigError(f"--listen: {error}") from error


def _renew_server(folder: DevicesFolder, authority: Authority, settings: DevicesSettings) -> None:
    """A new certificate of the enrolment server when the old one has lived for two thirds of its time."""
    times = validity(load_certificate(folder.server_certificate.read_bytes()))
    if _now_s() >= times.renew_s:
        write_server_pair(authority.issue_server(settings.hosts, _now_s()), folder.server_key, folder.server_certificate)


def add_device_commands(add: AddCommand) -> None:
    """Put `devices` among the commands."""
    group = add("devices", "Certificates of devices: invite, approve, revoke.", "openmg-hub devices invite home-7")
    actions = group.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, text: str, example: str, say: Any = None) -> argparse.ArgumentParser:
        parser = add_action(actions, name, text, f"openmg-hub devices {example}")
        parser.add_argument("--devices", type=Path, default=Path(DEFAULT_NAME), help="folder of the devices (default: devices)")
        parser.add_argument("--passphrase-file", type=Path, help="file (0600) with the passphrase of a sealed authority.key")
        parser.add_argument("--demo", action="store_true", help="take a development authority")
        if say is not None:
            add_say(parser, say)
        return parser

    sub = action("init", "Make the authority.", "init --config hub.toml --host hub-1.example.org", say_init)
    sub.add_argument("--config", type=Path, help="TOML file of the hub, for operator, chain id and name")
    sub.add_argument("--host", action="append", required=True, help="name or address that devices reach; may be repeated")
    sub.add_argument("--operator", help="address that signs what devices are to believe, instead of --config")
    sub.add_argument("--chain-id", type=int, help="the chain's id, instead of --config")
    sub.add_argument("--utility", default="", help="address of the utility whose approval devices ask for (default: nobody's)")
    sub.add_argument("--hub", help="the hub's name at the broker, instead of --config")
    sub.add_argument("--development", action="store_true", help="for demos: refused by everybody outside demo mode")
    sub = action("invite", "Make a one-time code for a device's name.", "invite home-7 --microgrid 2 --json", say_invite)
    sub.add_argument("name")
    sub.add_argument("--microgrid", type=int, default=1)
    sub.add_argument("--role", choices=(HOME, FEEDER), default=HOME)
    sub.add_argument("--hours", type=int, default=48, help="how long the code holds (default: 48)")
    sub.add_argument("--code-file", type=Path, help="write the code into a new file (0600) instead of showing it")
    action("list", "Invitations, requests and devices.", "list --json", say_list)
    sub = action("approve", "Issue a device's certificate.", 'approve home-7 --fingerprint "1a2b ..."', say_approve)
    sub.add_argument("name")
    sub.add_argument("--fingerprint", help="what the device shows; asked for at a terminal when missing")
    sub.add_argument("--new-address", action="store_true", help="the device's own key was replaced, and that is right")
    sub = action("revoke", "End a device at once.", "revoke home-7", say_revoke)
    sub.add_argument("name")
    action("crl", "Write the list of revoked certificates anew.", "crl", say_crl)
    sub = action("broker-config", "Write mosquitto's files.", "broker-config --out /etc/mosquitto/openmg", say_broker_config)
    sub.add_argument("--out", type=Path, help="folder (default: broker in the devices' folder)")
    sub.add_argument("--port", type=int, default=8883)
    sub.add_argument("--bind", default="", help="address to listen on (default: all)")
    sub.add_argument("--user", default="", help="whom the broker becomes when root starts it (default: mosquitto)")
    sub = action("serve", "Serve enrolments and renewals.", "serve --listen 0.0.0.0:7443")
    sub.add_argument("--listen", default="127.0.0.1:7443", help="host:port")
    sub.set_defaults(command=serve)
