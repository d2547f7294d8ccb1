"""Configuration of one agent, read by `openmg.config.load_toml` (errors name file, line, key and remedy).

Sections: device, clock, meter, mqtt, hub, home, and optionally store, proxy, keys, slot_proof, learning, wallet, market,
homeassistant, page.
Rules: paths are relative to the file; a section that has defaults for all of its keys may be left out.
Not here: the sections of the meter (`meter_section`), of the wallet (`wallet_section`) and of the owner's page
(`page_section`), what the parts do with theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

from edge_agent.homeassistant_section import HomeAssistantSection
from edge_agent.meter_section import MeterSection, ProxySection
from edge_agent.page_section import PageSection
from edge_agent.wallet_section import (
    ACCOUNT,
    MAX_NAME,
    WALLET_CIRCUITS,
    MarketSection,
    ProvingKeySection,
    SlotProofSection,
    WalletSection,
)
from openmg.clock import VirtualClock
from openmg.keys.passphrase import Passphrases
from openmg.messages.topics import DEVICE_NAME
from openmg.mqtt import Credentials, MqttAddress
from openmg.mqtt_tls import TlsFiles, tls_files

__all__ = [
    "MAX_NAME",
    "AgentConfig",
    "ClockSection",
    "DeviceSection",
    "HomeSection",
    "HubSection",
    "KeysSection",
    "LearningSection",
    "MarketSection",
    "MeterSection",
    "MqttSection",
    "PageSection",
    "ProvingKeySection",
    "ProxySection",
    "SlotProofSection",
    "StoreSection",
    "WalletSection",
]
ROLES = ("home", "feeder")
MIN_BUDGET_MB, MAX_BUDGET_MB = 16, 1_000_000
"""Below, a year of slots and a day of readings would not fit beside wallet and masking."""
_PLACE = re.compile(r"[^\s:@/]+:[1-9][0-9]{0,4}")


@dataclass(frozen=True)
class DeviceSection:
    """Who the device is and where it keeps its key and its store."""

    name: str
    key_file: Path
    state_dir: Path

    def __post_init__(self) -> None:
        if not DEVICE_NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}; use up to 32 lower-case letters, digits and dashes")


@dataclass(frozen=True)
class StoreSection:
    """What the state folder may take of the disk, in MB of 10^6 bytes; near it, old readings are thinned (docs/STORE.md)."""

    disk_budget_mb: int = 256

    def __post_init__(self) -> None:
        if not MIN_BUDGET_MB <= self.disk_budget_mb <= MAX_BUDGET_MB:
            raise ValueError(f"disk_budget_mb is {self.disk_budget_mb}; it must be {MIN_BUDGET_MB} to {MAX_BUDGET_MB}")

    @property
    def budget_bytes(self) -> int:
        return self.disk_budget_mb * 10**6


@dataclass(frozen=True)
class ClockSection:
    """The virtual clock; the defaults are real time."""

    t0: int = 0
    w0: float = 0.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise ValueError(f"speed is {self.speed}; it must be above 0")

    def clock(self) -> VirtualClock:
        return VirtualClock(self.t0, self.w0, self.speed)


@dataclass(frozen=True)
class MqttSection:
    """The broker; an empty client_id takes the device's name.

    ca_file, certificate_file, key_file: for mqtts, as `openmg-agent enroll` writes them. renew_at: host:port of the hub's
    enrolment server, where the certificate is renewed in time.
    """

    url: str
    client_id: str = ""
    username: str = ""
    password_file: Path | None = None
    resend_seconds: float = 5.0
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    renew_at: str = ""

    def __post_init__(self) -> None:
        if self.tls is None and self.renew_at:
            raise ValueError("renew_at is for TLS; write mqtts:// in url, or leave it out")
        if self.renew_at and not _PLACE.fullmatch(self.renew_at):
            raise ValueError(f"renew_at is {self.renew_at!r}; write host:port of the hub's enrolment server")
        if not 0.1 <= self.resend_seconds <= 3600:
            raise ValueError(f"resend_seconds is {self.resend_seconds}; it must be 0.1 to 3600")
        self.credentials.require_readable()

    @property
    def address(self) -> MqttAddress:
        return MqttAddress.parse(self.url)

    @property
    def tls(self) -> TlsFiles | None:
        """The files for mqtts; None for mqtt."""
        return tls_files(self.address.tls, self.ca_file, self.certificate_file, self.key_file)

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.username, self.password_file)


@dataclass(frozen=True)
class HubSection:
    """The operator whose rosters and acknowledgements count: its address, and the PPDL chain id signatures name.

    utility: address of the utility that must have approved every meter of a roster; empty: the operator's word is taken.
    """

    operator: str
    chain_id: int
    utility: str = ""

    def __post_init__(self) -> None:
        if not ACCOUNT.fullmatch(self.operator):
            raise ValueError(f"operator is {self.operator!r}; write 0x and 40 hex digits")
        if self.chain_id < 1:
            raise ValueError(f"chain_id is {self.chain_id}; it must be 1 or more")
        if self.utility and not ACCOUNT.fullmatch(self.utility):
            raise ValueError(f"utility is {self.utility!r}; write 0x and 40 hex digits, or leave it out")
        if self.utility.lower() == self.operator.lower():
            raise ValueError("utility is the operator's own address; it must be another party's")

    @property
    def address(self) -> bytes:
        return bytes.fromhex(self.operator[2:])

    @property
    def utility_address(self) -> bytes | None:
        return bytes.fromhex(self.utility[2:]) if self.utility else None


@dataclass(frozen=True)
class HomeSection:
    """Which microgrid the meter belongs to; a feeder's meter is read in clear, a home's is masked."""

    microgrid: int
    timezone: str = "Asia/Seoul"
    role: str = "home"

    def __post_init__(self) -> None:
        if self.microgrid < 1:
            raise ValueError(f"microgrid is {self.microgrid}; microgrids count from 1")
        if self.role not in ROLES:
            raise ValueError(f"role is {self.role!r}; use one of {', '.join(ROLES)}")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, OSError, ValueError) as error:  # unknown, unreadable or malformed
            raise ValueError(f"timezone {self.timezone!r} is unknown; write one like Asia/Seoul") from error


@dataclass(frozen=True)
class KeysSection:
    """Key files at rest. passphrase_file: a file of mode 0600 with the passphrase that seals them (docs/KEYS.md)."""

    passphrase_file: Path | None = None


@dataclass(frozen=True)
class LearningSection:
    """Whether the agent takes part in learning rounds."""

    enabled: bool = True


@dataclass(frozen=True)
class AgentConfig:
    """The whole file of `openmg-agent run --config FILE`."""

    device: DeviceSection
    meter: MeterSection
    mqtt: MqttSection
    hub: HubSection
    home: HomeSection
    store: StoreSection = StoreSection()
    clock: ClockSection = ClockSection()
    proxy: ProxySection | None = None
    keys: KeysSection = KeysSection()
    slot_proof: SlotProofSection | None = None
    learning: LearningSection | None = None
    wallet: WalletSection | None = None
    market: MarketSection | None = None
    homeassistant: HomeAssistantSection | None = None
    page: PageSection = PageSection()

    def __post_init__(self) -> None:
        if self.proxy is not None and self.meter.protocol != "modbus":
            raise ValueError("proxy is for Modbus; remove [proxy], since a DLMS meter is read by this agent alone")
        home = self.homeassistant
        if home is not None and home.enabled and home.address == self.mqtt.address:
            raise ValueError(
                "homeassistant names the hub's broker, where others would read this home; write the home's own as its url"
            )
        if self.market is not None:
            self._require_trade(self.wallet)

    def _require_trade(self, wallet: WalletSection | None) -> None:
        """ValueError when the private market lacks what it trades with."""
        if wallet is None:
            raise ValueError("market needs a wallet: its notes are what is traded; write [wallet]")
        missing = [circuit for circuit in WALLET_CIRCUITS if wallet.proving_key(circuit) is None]
        if missing and not wallet.demo:
            raise ValueError(f"market proves {missing[0]} too; write its key into [[wallet.proving_keys]]")

    @cached_property
    def passphrases(self) -> Passphrases:
        """Where the passphrase of sealed key files comes from; one that is typed is asked for once."""
        return Passphrases(self.keys.passphrase_file)

    @property
    def slot_keys(self) -> SlotProofSection | None:
        """With what slots are proved: [slot_proof], or the development key of a wallet in demo mode."""
        if self.slot_proof is None and self.wallet is not None and self.wallet.demo:
            return SlotProofSection(self.wallet.prover, self.wallet.cache_dir, demo=True)
        return self.slot_proof

    @property
    def demo(self) -> bool:
        """Whether development keys count here, and so a development authority."""
        return self.slot_keys is not None and self.slot_keys.demo

    @property
    def key_files(self) -> tuple[Path, ...]:
        """The device's key and, with a wallet, the owner's seed."""
        return (self.device.key_file,) if self.wallet is None else (self.device.key_file, self.wallet.seed_file)

    @property
    def promises_path(self) -> Path:
        """What the meter must not forget of masked slots."""
        return self.device.state_dir / "masking.sqlite"

    @property
    def page_dir(self) -> Path:
        """What the page of this meter alone keeps: codes that were given out, its certificate."""
        return self.page.folder or self.device.state_dir / "page"

    @property
    def store_path(self) -> Path:
        return self.device.state_dir / "store.sqlite"
