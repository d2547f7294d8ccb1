"""The folder of an operator's devices: what each file is called.

authority.key     32 secret bytes of the authority, 0600, in clear or sealed (`openmg.keys.files`)   back it up
authority.crt     its certificate: what devices and the broker trust
settings.toml     operator, chain id and host names that certificates are made for
devices.sqlite    invitations, devices, certificates, revocations
crl.pem           the list of revoked certificates, for the broker; standing.lock is held while it is written
server.key, server.crt     of the enrolment server, 0600
broker/           what `devices broker-config` wrote, unless --out said otherwise
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_NAME = "devices"


@dataclass(frozen=True)
class DevicesFolder:
    """Paths of one operator's devices."""

    root: Path

    @property
    def authority_key(self) -> Path:
        return self.root / "authority.key"

    @property
    def authority_certificate(self) -> Path:
        return self.root / "authority.crt"

    @property
    def settings(self) -> Path:
        return self.root / "settings.toml"

    @property
    def database(self) -> Path:
        return self.root / "devices.sqlite"

    @property
    def crl(self) -> Path:
        return self.root / "crl.pem"

    @property
    def standing_lock(self) -> Path:
        return self.root / "standing.lock"

    @property
    def server_key(self) -> Path:
        return self.root / "server.key"

    @property
    def server_certificate(self) -> Path:
        return self.root / "server.crt"
