"""What a devices folder is for: operator, chain id, and the host names that devices reach broker and enrolment server under."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from hub.devices.folder import DevicesFolder
from hub.operators.errors import OperatorError
from hub.operators.folder import write_public
from openmg.config import load_toml

MAX_HOSTS = 16
_HOST = re.compile(r"(?=.{1,253}$)[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?(\.[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?)*")


@dataclass(frozen=True)
class DevicesSettings:
    """operator: the address that signs what meters are to believe (0x and 40 hex digits). broker_dir: of the broker's files,
    empty until they were written once. hub: the name that the hub has at the broker. utility: whose approval of every meter
    devices are to ask for; empty: they take the operator's word.
    """

    operator: str
    chain_id: int
    hub: str
    hosts: tuple[str, ...]
    broker_dir: str = ""
    broker_port: int = 8883
    utility: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"0x[0-9a-fA-F]{40}", self.operator):
            raise ValueError(f"operator is {self.operator!r}; write 0x and 40 hex digits")
        if not 1 <= self.chain_id < 2**64:
            raise ValueError(f"chain_id is {self.chain_id}; it must be 1 or more")
        if not re.fullmatch(r"[0-9A-Za-z._-]{1,64}", self.hub):
            raise ValueError(f"hub is {self.hub!r}; use up to 64 letters, digits, dots and dashes")
        if not 1 <= len(self.hosts) <= MAX_HOSTS or not all(map(is_host, self.hosts)):
            raise ValueError(f"hosts must be 1 to {MAX_HOSTS} host names or addresses that devices reach the hub under")
        if self.utility and not re.fullmatch(r"0x[0-9a-fA-F]{40}", self.utility):
            raise ValueError(f"utility is {self.utility!r}; write 0x and 40 hex digits, or leave it out")
        if self.utility.lower() == self.operator.lower():
            raise ValueError("utility is the operator's own address; it must be another party's")
        if not 1 <= self.broker_port <= 65_535:
            raise ValueError(f"broker_port is {self.broker_port}; it must be 1 to 65535")

    @property
    def address(self) -> bytes:
        return bytes.fromhex(self.operator[2:])

    @property
    def utility_address(self) -> bytes:
        return bytes.fromhex(self.utility[2:])

    @property
    def broker_url(self) -> str:
        """What devices dial; empty until the broker's files were written."""
        host = f"[{self.hosts[0]}]" if ":" in self.hosts[0] else self.hosts[0]
        return f"mqtts://{host}:{self.broker_port}" if self.broker_dir else ""


def is_host(text: str) -> bool:
    """Whether the text is a host name or an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True


def read_settings(folder: DevicesFolder) -> DevicesSettings:
    """The folder's settings. Raises OperatorError when `devices init` was not run, ConfigError for a file that is wrong."""
    if not folder.settings.exists():
        raise OperatorError(f"{folder.settings} is missing: run openmg-hub devices init first, or give --devices")
    return load_toml(folder.settings, DevicesSettings)


def write_settings(folder: DevicesFolder, settings: DevicesSettings) -> None:
    """Write them whole. Raises OperatorError."""
    hosts = ", ".join(f'"{host}"' for host in settings.hosts)
    lines = (
        f'operator = "{settings.operator}"',
        f"chain_id = {settings.chain_id}",
        f'hub = "{settings.hub}"',
        f"hosts = [{hosts}]",
        "broker_dir = " + _quoted(settings.broker_dir),
        f"broker_port = {settings.broker_port}",
        f'utility = "{settings.utility}"',
    )
    write_public(folder.settings, ("\n".join(lines) + "\n").encode("utf-8"))


def _quoted(text: str) -> str:
    """A TOML basic string; ValueError is impossible for a path, OperatorError for one with control characters."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise OperatorError("the path has control characters: choose another")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
