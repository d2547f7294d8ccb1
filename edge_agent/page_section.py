"""The section of an agent's file that says where the owner's page listens and who may reach it.

Rules: without TLS only loopback is listened on, unless the owner writes `plain_http = true`. Not here: the page
(`edge_agent.page`), the other sections (`config`).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PORT = 8480
MAX_SESSION_HOURS = 30 * 24
MAX_NAMES = 8
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class PageSection:
    """listen: an IP address of this machine; 127.0.0.1 is reached from this machine alone. tls: with a certificate of its own,
    or certificate_file and key_file (PEM). plain_http: let others on the network read along. names: under which browsers
    may ask, beside the address and localhost. session_hours: how long a login lasts. folder: of codes and certificate; None:
    `page` in the state folder, or for a gateway beside the state folders.
    """

    listen: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    tls: bool = False
    certificate_file: Path | None = None
    key_file: Path | None = None
    plain_http: bool = False
    names: tuple[str, ...] = ()
    session_hours: int = 12
    folder: Path | None = None

    def __post_init__(self) -> None:
        try:
            address = ipaddress.ip_address(self.listen)
        except ValueError:
            raise ValueError(f"listen is {self.listen!r}; write an IP address of this machine, or 127.0.0.1") from None
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port is {self.port}; it must be 1 to 65535, or 0 for any free one")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together; write both, or neither")
        if self.certificate_file is not None and not self.tls:
            raise ValueError("certificate_file is for `tls = true`; write that, or leave the file out")
        if not address.is_loopback and not self.tls and not self.plain_http:
            raise ValueError(
                f"listen is {self.listen}, which others reach: write `tls = true`, or `plain_http = true` if anybody on that "
                "network may read along"
            )
        if len(self.names) > MAX_NAMES or not all(_NAME.fullmatch(name) for name in self.names):
            raise ValueError(f"names are at most {MAX_NAMES} host names in lower case, without port")
        if not 1 <= self.session_hours <= MAX_SESSION_HOURS:
            raise ValueError(f"session_hours is {self.session_hours}; it must be 1 to {MAX_SESSION_HOURS}")
