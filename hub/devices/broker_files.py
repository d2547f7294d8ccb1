"""What mosquitto needs: its configuration, access list, list of revoked certificates, certificates and keys, in one folder.

    mosquitto.conf   mutual TLS 1.3, user names from certificates     acl        who may write and read what
    ca.crt, crl.pem  the devices' authority and what it revoked       broker.crt, broker.key   of the broker
    hub.crt, hub.key of the hub as the broker's client, for [mqtt] of hub.toml

Rules: a client's id is its certificate's name, or one device could end another's connection by taking its id. Access list and
crl.pem are read again at SIGHUP (seen with mosquitto 2.0.11); a client that is connected then stays so, but has no topics any
more once it is out of the access list. Every file is replaced whole.
Not here: signalling the broker, which runs as another user.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from hub.devices.access import access_list
from hub.devices.authority import write_server_pair
from hub.devices.desk import EnrolmentDesk
from hub.devices.folder import DevicesFolder
from hub.devices.settings import read_settings, write_settings
from hub.devices.store import APPROVED
from hub.operators.errors import OperatorError
from hub.operators.folder import write_public
from openmg.config import ConfigError
from openmg.durable import locked

_CONF = """# Written by openmg-hub devices broker-config; changes by hand are lost.
per_listener_settings false
{user}listener {port}{bind}
cafile {dir}/ca.crt
certfile {dir}/broker.crt
keyfile {dir}/broker.key
crlfile {dir}/crl.pem
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {dir}/acl
persistence false
max_packet_size 300000
"""
"""Persistence is of no use: meters keep their reports until the hub acknowledges them. Packets: messages are below 256 KiB."""


@dataclass(frozen=True)
class BrokerPlace:
    """Where the broker's files go and where it listens. user: whom it becomes when root starts it; empty: mosquitto's own."""

    out: Path
    port: int
    bind: str = ""
    user: str = ""


def write_broker_files(folder: DevicesFolder, desk: EnrolmentDesk, place: BrokerPlace, now_s: int) -> list[Path]:
    """Writes them all, with new keys of broker and hub, and remembers the folder. Raises OperatorError, ConfigError."""
    settings, where = desk.settings, place.out.resolve()
    if any(character.isspace() for character in str(where)):
        raise ConfigError(f"{where} has a space in it, which mosquitto's configuration cannot have: give another --out")
    authority = desk.authority
    try:
        where.mkdir(parents=True, exist_ok=True)  # its keys have mode 0600, and the broker, another user, reads the rest
    except OSError as error:
        raise OperatorError(f"{where} cannot be made ({error.strerror}): give another --out") from error
    write_server_pair(authority.issue_server(settings.hosts, now_s), where / "broker.key", where / "broker.crt")
    write_server_pair(authority.issue_hub(settings.hub, now_s), where / "hub.key", where / "hub.crt")
    write_public(where / "ca.crt", folder.authority_certificate.read_bytes())
    user, bind = f"user {place.user}\n" if place.user else "", f" {place.bind}" if place.bind else ""
    text = _CONF.format(user=user, port=place.port, bind=bind, dir=where)
    write_public(where / "mosquitto.conf", text.encode("utf-8"))
    _give_key(where / "broker.key", place.user)
    desk.settings = replace(settings, broker_dir=str(where), broker_port=place.port)
    write_settings(folder, desk.settings)
    write_standing(folder, desk)
    return sorted(where / name for name in os.listdir(where))


def _give_key(key: Path, user: str) -> None:
    """The broker reads its key as its own user, also after each reload."""
    if not user or os.geteuid() != 0:
        return
    try:
        shutil.chown(key, user)
    except (OSError, LookupError) as error:
        raise OperatorError(f"{key} cannot be given to {user} ({error}): correct --user") from error


def write_standing(folder: DevicesFolder, desk: EnrolmentDesk) -> Path | None:
    """crl.pem and access list of today, in the devices' folder and, once there is one, in the broker's; that folder.

    What is revoked is read while nobody else writes: of the commands and the server that write at once, the last knows most.
    """
    try:
        with locked(folder.standing_lock):
            return _write_standing(folder, desk)
    except OSError as error:
        raise OperatorError(f"{folder.standing_lock} cannot be used ({error.strerror}): check the folder's owner") from error


def _write_standing(folder: DevicesFolder, desk: EnrolmentDesk) -> Path | None:
    crl = desk.crl()
    write_public(folder.crl, crl)
    broker_dir = read_settings(folder).broker_dir
    if not broker_dir:
        return None
    names = [device.keys.device for device in desk.store.devices() if device.state == APPROVED]
    write_public(Path(broker_dir) / "acl", access_list(names, desk.settings.hub).encode("utf-8"))
    write_public(Path(broker_dir) / "crl.pem", crl)
    return Path(broker_dir)
