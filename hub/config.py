"""A hub's configuration file: who it is, which roles it plays and where its peers and chains are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from hub.ppdl.net.transport import PeerAddress
from openmg.mqtt import MqttAddress

ROLES = ("ingest", "plasma", "market", "inference", "console", "relayer", "envelope-relay")
"""ingest: masked telemetry over MQTT; plasma: deposits and checkpoints; market: what meters are told of the chain and
the recording of slots; inference: answers on chain; console: the operator's page; relayer: PPDL headers to the plasma
chain; envelope-relay: opens and submits what homes sealed to this hub."""


@dataclass(frozen=True)
class HubSection:
    """Name, key file (made when missing), folder for databases, and roles."""

    name: str
    key_file: Path
    state_dir: Path
    roles: tuple[str, ...]

    def __post_init__(self) -> None:
        unknown = [role for role in self.roles if role not in ROLES]
        if unknown:
            raise ValueError(f"roles has {unknown[0]!r}; roles are {', '.join(ROLES)}")


@dataclass(frozen=True)
class ClockSection:
    """The virtual clock (see openmg.clock); leave out for real time."""

    t0: int = 0
    w0: float = 0.0
    speed: float = 1.0


@dataclass(frozen=True)
class PpdlSection:
    """The consensus chain: genesis file, own `host:port`, the other validators as `0xADDRESS@host:port`, rhythm in seconds."""

    genesis_file: Path
    listen: str
    peers: tuple[str, ...]
    block_interval_s: float = 0.5
    heartbeat_s: float = 2.0
    view_timeout_s: float = 4.0

    def __post_init__(self) -> None:
        try:
            split_address(self.listen)
        except ValueError as error:
            raise ValueError(f"listen: {error}") from error
        try:
            [parse_peer(text) for text in self.peers]
        except ValueError as error:
            raise ValueError(f"peers: {error}") from error


@dataclass(frozen=True)
class MqttSection:
    """The broker, `mqtt://host:port`."""

    url: str

    def __post_init__(self) -> None:
        MqttAddress.parse(self.url)

    @property
    def address(self) -> MqttAddress:
        return MqttAddress.parse(self.url)


@dataclass(frozen=True)
class ChainsSection:
    """JSON-RPC of the two EVM chains and the file that says where the contracts are."""

    root_url: str
    plasma_url: str
    deployment_file: Path


@dataclass(frozen=True)
class RelaySection:
    """Public keys (hex, X25519) of the hubs that open envelopes; needed by the hub that carries them."""

    envelope_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in self.envelope_keys:
            if not re.fullmatch(r"[0-9a-fA-F]{64}", key):
                raise ValueError(f"envelope_keys has {key!r}; a key is 64 hex digits, as openmg-hub identity prints it")


@dataclass(frozen=True)
class ConsoleSection:
    """Where the operator's page is served."""

    host: str = "127.0.0.1"
    port: int = 8600


@dataclass(frozen=True)
class DeviceSection:
    """A meter that the ingest role listens to: its name in topics, 0x-address, microgrid, and role (home or feeder)."""

    name: str
    address: str
    microgrid: int
    role: str = "home"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"0x[0-9a-fA-F]{40}", self.address):
            raise ValueError(f"address is {self.address!r}; write 0x and 40 hex digits")


@dataclass(frozen=True)
class MarketSection:
    """What the utility's retail tariff is, in wei per Wh; the feed-in tariff stands on chain."""

    retail_wei_per_wh: int = 40_000_000_000


@dataclass(frozen=True)
class HubConfig:
    """The whole file."""

    hub: HubSection
    ppdl: PpdlSection
    chains: ChainsSection
    mqtt: MqttSection | None = None
    clock: ClockSection = field(default_factory=ClockSection)
    relay: RelaySection = field(default_factory=RelaySection)
    console: ConsoleSection = field(default_factory=ConsoleSection)
    market: MarketSection = field(default_factory=MarketSection)
    device: tuple[DeviceSection, ...] = ()

    def __post_init__(self) -> None:
        if "ingest" in self.hub.roles and self.mqtt is None:
            raise ValueError("mqtt is missing; a hub with the role ingest needs [mqtt] url")

    @property
    def ppdl_store(self) -> Path:
        """Votes and blocks of this validator; made once by `openmg-hub init`."""
        return self.hub.state_dir / "ppdl.sqlite"


def split_address(text: str) -> tuple[str, int]:
    """`host:port` as its parts; ValueError when it is not one."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{text!r} is not host:port")
    return host, int(port)


def parse_peer(text: str) -> PeerAddress:
    """`0xADDRESS@host:port` as the transport takes it; ValueError when it is not one."""
    address, _, place = text.partition("@")
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", address):
        raise ValueError(f"peer {text!r} is not 0xADDRESS@host:port")
    return PeerAddress(bytes.fromhex(address[2:]), *split_address(place))
