"""A hub's configuration file: who it is, which roles it plays and where its peers and chains are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from hub.chain.verifiers import CIRCUITS
from hub.inference.outlook import MAX_CAPACITY_W
from hub.ingest.partition import require_group_size
from hub.ingest.registry import FEEDER, HOME
from hub.ppdl.net.transport import PeerAddress, is_loopback
from openmg.forecast.spec import HORIZONS_HOURS
from openmg.masking import DEFAULT_GROUP
from openmg.messages.topics import DEVICE_NAME
from openmg.mqtt import MqttAddress
from openmg.mqtt_tls import TlsFiles, tls_files
from openmg.zk.backend import BACKEND_NAMES

MAX_PORT = 65_535
MAX_TRAINING_STEPS = 100_000

ROLES = ("ingest", "plasma", "appender", "clearing", "market", "inference", "console", "relayer", "envelope-relay")
"""ingest: masked telemetry over MQTT; plasma: deposits and checkpoints; appender: proofs that bring notes into their tree;
clearing: closes and settles the private market's batches; market: what meters are told of the chain and the recording of
slots; inference: answers on chain, and with [inference] its own forecasts over HTTP; console: the operator's page; relayer:
PPDL headers to the plasma chain; envelope-relay: opens and submits what homes sealed to this hub."""

WITH_INGEST = ("market", "inference", "console")
"""Roles that work on what the ingest role hears of meters."""


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
        if len(set(self.roles)) != len(self.roles):
            raise ValueError("roles names one twice; name each once")
        lonely = [role for role in WITH_INGEST if role in self.roles and "ingest" not in self.roles]
        if lonely:
            raise ValueError(f"roles has {lonely[0]!r} without 'ingest', whose meters it serves; add 'ingest'")
        if not self.name:
            raise ValueError("name is empty; give the hub a name")


@dataclass(frozen=True)
class ClockSection:
    """The virtual clock (see openmg.clock); leave out for real time."""

    t0: int = 0
    w0: float = 0.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        if self.speed <= 0:
            raise ValueError(f"speed is {self.speed:g}; it must be above 0 (1: real time)")


@dataclass(frozen=True)
class PpdlSection:
    """The consensus chain: genesis file, own `host:port`, rhythm in seconds, and how the other validators are known.

    identity_dir: the folder that `openmg-hub init` made, with the TLS key and the other operators' cards; the hubs then talk
    TLS. Without it `peers` names the others as `0xADDRESS@host:port`, and all of them are on this machine: plain TCP is for
    loopback only.
    """

    genesis_file: Path
    listen: str
    peers: tuple[str, ...] = ()
    identity_dir: Path | None = None
    block_interval_s: float = 0.5
    heartbeat_s: float = 2.0
    view_timeout_s: float = 4.0

    def __post_init__(self) -> None:
        for name in ("block_interval_s", "heartbeat_s", "view_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name):g}; it must be above 0")
        try:
            host, _ = split_address(self.listen)
        except ValueError as error:
            raise ValueError(f"listen: {error}") from error
        try:
            places = [parse_peer(text) for text in self.peers]
        except ValueError as error:
            raise ValueError(f"peers: {error}") from error
        if self.identity_dir is not None and places:
            raise ValueError("peers: with identity_dir the cards say where the others are; leave peers out")
        if self.identity_dir is None and not all(map(is_loopback, (host, *(place.host for place in places)))):
            raise ValueError(
                "identity_dir is missing: hubs on different machines talk TLS; run openmg-hub init and name its folder here"
            )


@dataclass(frozen=True)
class MqttSection:
    """The broker, `mqtt://host:port`, or `mqtts://host:port` with the files that `devices broker-config` wrote."""

    url: str
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        tls_files(self.address.tls, self.ca_file, self.certificate_file, self.key_file)

    @property
    def address(self) -> MqttAddress:
        return MqttAddress.parse(self.url)

    @property
    def tls(self) -> TlsFiles | None:
        """The files for mqtts; None for mqtt."""
        return tls_files(self.address.tls, self.ca_file, self.certificate_file, self.key_file)


@dataclass(frozen=True)
class DevicesSection:
    """The folder of `openmg-hub devices`: whom it revoked is no longer listened to."""

    dir: Path


@dataclass(frozen=True)
class ChainsSection:
    """JSON-RPC of the two EVM chains and the file that says where the contracts are."""

    root_url: str
    plasma_url: str
    deployment_file: Path
    root_confirmations: int = 0
    """Root blocks over a deposit before it becomes PETH: 0 only where the root chain takes no block back."""
    plasma_confirmations: int = 0
    """Plasma blocks over a note before meters are told of it: 0 where the plasma chain is final at once."""

    def __post_init__(self) -> None:
        for name in ("root_url", "plasma_url"):
            parts = urlsplit(getattr(self, name))
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{name} is {getattr(self, name)!r}; write http://host:port")
        for name in ("root_confirmations", "plasma_confirmations"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")


@dataclass(frozen=True)
class ZkSection:
    """Which proofs may move money: those under the ceremonies' keys, by circuit with the digest that each printed (0x and
    64 hex digits), or with `demo` those under development keys, with which anybody can forge.
    """

    verifying_keys: dict[str, str] = field(default_factory=dict)
    demo: bool = False

    def __post_init__(self) -> None:
        if bool(self.verifying_keys) == self.demo:
            raise ValueError(
                "verifying_keys is what ceremonies printed; write [zk.verifying_keys] with every circuit, or demo = true, and "
                "not both"
            )
        for circuit, digest in self.verifying_keys.items():
            if circuit not in CIRCUITS:
                raise ValueError(f"verifying_keys names {circuit!r}; circuits are {', '.join(CIRCUITS)}")
            if not re.fullmatch(r"0x[0-9a-fA-F]{64}", digest):
                raise ValueError(f"verifying_keys has {digest!r} for {circuit}; write 0x and 64 hex digits")
        missing = [circuit for circuit in CIRCUITS if circuit not in self.verifying_keys]
        if missing and not self.demo:
            raise ValueError(f"verifying_keys has no key of {missing[0]}; every circuit moves money")

    @property
    def digests(self) -> dict[str, bytes]:
        """The digests as bytes, by circuit; empty in demo mode."""
        return {circuit: bytes.fromhex(text[2:]) for circuit, text in self.verifying_keys.items()}


@dataclass(frozen=True)
class AppenderSection:
    """How the appender proves: backend (auto, native, portable), and outside demo mode the proving key of the ceremony of
    `append` with the SHA-256 that it printed.
    """

    prover: str = "auto"
    key_file: Path | None = None
    key_sha256: str = ""

    def __post_init__(self) -> None:
        if self.prover not in BACKEND_NAMES:
            raise ValueError(f"prover is {self.prover!r}; use one of {', '.join(BACKEND_NAMES)}")
        if (self.key_file is None) != (not self.key_sha256):
            raise ValueError("key_sha256 goes with key_file; write both or none")
        if self.key_sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", self.key_sha256):
            raise ValueError(f"key_sha256 is {self.key_sha256!r}; write 64 hex digits")


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

    def __post_init__(self) -> None:
        if not 0 <= self.port <= MAX_PORT:
            raise ValueError(f"port is {self.port}; it must be 1 to {MAX_PORT}, or 0 for any free one")


@dataclass(frozen=True)
class InferenceSection:
    """The forecasts that a hub makes itself and serves over HTTP; without this section it makes none.

    host, port: where the API listens (0: any free port). Keys travel in requests, so elsewhere than on loopback it stands
    behind a proxy with TLS, which `behind_proxy` says. capacity_w: what each microgrid's connection carries, by its number.
    horizons_hours, training_steps: which models, and how long each is trained (6000 steps take some 20 s of CPU).
    holiday_country, utc_offset_hours: the site's calendar.
    """

    host: str = "127.0.0.1"
    port: int = 8700
    behind_proxy: bool = False
    capacity_w: dict[str, int] = field(default_factory=dict)
    horizons_hours: tuple[int, ...] = HORIZONS_HOURS
    training_steps: int = 6_000
    holiday_country: str = "KR"
    utc_offset_hours: int = 9

    def __post_init__(self) -> None:
        if not 0 <= self.port <= MAX_PORT:
            raise ValueError(f"port is {self.port}; it must be 1 to {MAX_PORT}, or 0 for any free one")
        if not is_loopback(self.host) and not self.behind_proxy:
            raise ValueError(
                f"host is {self.host!r}: keys would travel in clear; put a proxy with TLS in front, write behind_proxy = true"
            )
        for name, power_w in self.capacity_w.items():
            if not re.fullmatch(r"[1-9][0-9]{0,8}", name):
                raise ValueError(f"capacity_w names the microgrid {name!r}; microgrids count from 1")
            if not 1 <= power_w <= MAX_CAPACITY_W:
                raise ValueError(f"capacity_w is {power_w} for microgrid {name}; give 1 to {MAX_CAPACITY_W} W")
        if not self.horizons_hours or not set(self.horizons_hours) <= set(HORIZONS_HOURS):
            raise ValueError(
                f"horizons_hours is {list(self.horizons_hours)}; choose among {', '.join(map(str, HORIZONS_HOURS))}"
            )
        if len(set(self.horizons_hours)) != len(self.horizons_hours):
            raise ValueError("horizons_hours names one twice; name each once")
        if not 1 <= self.training_steps <= MAX_TRAINING_STEPS:
            raise ValueError(f"training_steps is {self.training_steps}; it must be 1 to {MAX_TRAINING_STEPS}")
        if not -12 <= self.utc_offset_hours <= 14:
            raise ValueError(f"utc_offset_hours is {self.utc_offset_hours}; it must be -12 to 14")
        if not re.fullmatch(r"[A-Z]{2}(-[A-Z0-9]{1,3})?", self.holiday_country):
            raise ValueError(f"holiday_country is {self.holiday_country!r}; write a code like KR or GB-ENG")

    @property
    def capacities_w(self) -> dict[int, int]:
        """Capacity by the microgrid's number."""
        return {int(name): power_w for name, power_w in self.capacity_w.items()}


@dataclass(frozen=True)
class DeviceSection:
    """A meter that the ingest role listens to: its name in topics, 0x-address, microgrid, and role (home or feeder).

    approval: what `openmg-hub approve` printed for it; homes that know their utility mask with approved meters only.
    """

    name: str
    address: str
    microgrid: int
    role: str = HOME
    approval: str = ""

    def __post_init__(self) -> None:
        if self.approval and not re.fullmatch(r"0x[0-9a-fA-F]{130}", self.approval):
            raise ValueError("approval is not 0x and 130 hex digits; copy what `openmg-hub approve` printed")
        if not DEVICE_NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}; use up to 32 lower-case letters, digits and dashes")
        if self.microgrid < 1:
            raise ValueError(f"microgrid is {self.microgrid}; microgrids count from 1")
        if self.role not in (HOME, FEEDER):
            raise ValueError(f"role is {self.role!r}; it is {HOME} or {FEEDER}")
        if not re.fullmatch(r"0x[0-9a-fA-F]{40}", self.address):
            raise ValueError(f"address is {self.address!r}; write 0x and 40 hex digits")


@dataclass(frozen=True)
class GridSection:
    """How homes are grouped for sums: group_size is how many a group has at least, where a microgrid has so many."""

    group_size: int = DEFAULT_GROUP

    def __post_init__(self) -> None:
        require_group_size(self.group_size)


@dataclass(frozen=True)
class MarketSection:
    """What the utility's retail tariff is, in wei per Wh; the feed-in tariff stands on chain."""

    retail_wei_per_wh: int = 40_000_000_000

    def __post_init__(self) -> None:
        if self.retail_wei_per_wh < 0:
            raise ValueError(f"retail_wei_per_wh is {self.retail_wei_per_wh}; a tariff is not below 0")


@dataclass(frozen=True)
class HubConfig:
    """The whole file."""

    hub: HubSection
    ppdl: PpdlSection
    chains: ChainsSection
    mqtt: MqttSection | None = None
    devices: DevicesSection | None = None
    clock: ClockSection = field(default_factory=ClockSection)
    relay: RelaySection = field(default_factory=RelaySection)
    console: ConsoleSection = field(default_factory=ConsoleSection)
    market: MarketSection = field(default_factory=MarketSection)
    grid: GridSection = field(default_factory=GridSection)
    zk: ZkSection | None = None
    appender: AppenderSection = field(default_factory=AppenderSection)
    inference: InferenceSection | None = None
    device: tuple[DeviceSection, ...] = ()

    def __post_init__(self) -> None:
        if self.zk is None:
            raise ValueError("zk is missing; write [zk.verifying_keys], which ceremonies printed, or [zk] with demo = true")
        if "appender" in self.hub.roles and not self.zk.demo and self.appender.key_file is None:
            raise ValueError("appender needs key_file and key_sha256 of the ceremony of append; write them into [appender]")
        if self.inference is not None and "inference" not in self.hub.roles:
            raise ValueError("inference has a section, but roles has no 'inference'; add the role or remove [inference]")
        if "ingest" in self.hub.roles and self.mqtt is None:
            raise ValueError("mqtt is missing; a hub with the role ingest needs [mqtt] url")
        for what in ("name", "address"):
            seen: set[str] = set()
            for item in self.device:
                value = str(getattr(item, what)).lower()
                if value in seen:
                    raise ValueError(f"device has the {what} {value} twice; each meter needs its own")
                seen.add(value)

    @property
    def ppdl_store(self) -> Path:
        """Votes and blocks of this validator; made once by `openmg-hub join` (or `init --config`)."""
        return self.hub.state_dir / "ppdl.sqlite"


def split_address(text: str) -> tuple[str, int]:
    """`host:port` as its parts; ValueError when it is not one."""
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= MAX_PORT:
        raise ValueError(f"{text!r} is not host:port with a port from 1 to {MAX_PORT}")
    return host, int(port)


def parse_peer(text: str) -> PeerAddress:
    """`0xADDRESS@host:port` as the transport takes it; ValueError when it is not one."""
    address, _, place = text.partition("@")
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", address):
        raise ValueError(f"peer {text!r} is not 0xADDRESS@host:port")
    return PeerAddress(bytes.fromhex(address[2:]), *split_address(place))
