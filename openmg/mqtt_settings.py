"""What a connection to a broker is made with, and what is counted of it: address, will, credentials, counts.

Not here: the connection (`mqtt`), TLS files (`mqtt_tls`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_PORT, DEFAULT_TLS_PORT = 1883, 8883


@dataclass(frozen=True)
class MqttAddress:
    """Host and port of a broker, and whether it is spoken to over TLS."""

    host: str
    port: int
    tls: bool = False

    @staticmethod
    def parse(url: str) -> MqttAddress:
        """The address in `mqtt://host:port` or `mqtts://host:port`; ValueError when it is not one."""
        parts = urlsplit(url)
        tls = parts.scheme == "mqtts"
        try:
            port = parts.port or (DEFAULT_TLS_PORT if tls else DEFAULT_PORT)
        except ValueError:
            port = 0
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not port or parts.path not in ("", "/"):
            raise ValueError(f"url is {url!r}; write mqtt://host:port, or mqtts://host:port for TLS")
        return MqttAddress(parts.hostname, port, tls)

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


@dataclass(frozen=True)
class Will:
    """What the broker publishes (retained) when this client vanishes."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class Credentials:
    """User name and the file (0600) with its password; both empty for a broker that asks for none."""

    username: str = ""
    password_file: Path | None = None

    def password(self) -> str | None:
        """What the file holds, or None; OSError or UnicodeDecodeError."""
        return None if self.password_file is None else self.password_file.read_text(encoding="utf-8").strip()

    def require_readable(self) -> None:
        """ValueError when the file of the password cannot be read."""
        if self.password_file is None:
            return
        try:
            self.password_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"password_file {self.password_file} cannot be read ({error}); correct it") from error


@dataclass(frozen=True)
class MqttCounts:
    """What the connection has been through since the program started.

    refused: connections that the broker ended before it had accepted them.
    """

    connects: int
    received: int
    published: int
    dropped_incoming: int
    dropped_outgoing: int
    refused: int = 0
