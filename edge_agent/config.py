"""Configuration of one agent, read by `openmg.config.load_toml` (errors name file, line, key and remedy).

Sections: device, clock, meter, mqtt, hub, home, and optionally keys, slot_proof, learning, wallet, market, homeassistant.
Rules: paths are relative to the file; a section that has defaults for all of its keys may be left out.
Not here: what learning and wallet do with their sections.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

from edge_agent.homeassistant_section import HomeAssistantSection
from openmg.clock import VirtualClock
from openmg.keys.passphrase import Passphrases
from openmg.keys.text import ADDRESS, NETWORKS, KeyTextError, require_well_formed
from openmg.market.calendar import BANDS, HOURS_PER_DAY, Calendar
from openmg.messages.topics import DEVICE_NAME
from openmg.mqtt import Credentials, MqttAddress
from openmg.mqtt_tls import TlsFiles, tls_files
from openmg.profiles.profile import TRANSPORTS, ProfileError, load_profile

ROLES = ("home", "feeder")
PROVERS = ("auto", "native", "portable")
MIN_POLL_SECONDS = 0.05
MAX_NAME = 32
SPENDING_CIRCUITS = ("transfer", "merge")
"""What every wallet proves."""
WALLET_CIRCUITS = (*SPENDING_CIRCUITS, "mint", "buy", "burn", "period")
"""What a wallet in a private market proves."""
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_PLACE = re.compile(r"[^\s:@/]+:[1-9][0-9]{0,4}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


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
class MeterSection:
    """Where the meter is and how it is read; `poll_seconds` is wall time."""

    host: str
    port: int = 502
    unit: int = 1
    profile: str = "sdm630"
    transport: str = "tcp"
    poll_seconds: float = 1.0
    timeout_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"port is {self.port}; it must be 1 to 65535")
        if not 1 <= self.unit <= 247:
            raise ValueError(f"unit is {self.unit}; a Modbus unit is 1 to 247")
        if self.transport not in TRANSPORTS:
            raise ValueError(f"transport is {self.transport!r}; use one of {', '.join(TRANSPORTS)}")
        if not MIN_POLL_SECONDS <= self.poll_seconds <= 900:
            raise ValueError(f"poll_seconds is {self.poll_seconds}; it must be {MIN_POLL_SECONDS} to 900")
        if not 0.05 <= self.timeout_seconds <= 60:
            raise ValueError(f"timeout_seconds is {self.timeout_seconds}; it must be 0.05 to 60")
        try:
            profile = load_profile(self.profile)
        except ProfileError as error:
            raise ValueError(f"profile: {error}") from error
        if self.transport not in profile.link.transports:
            raise ValueError(f"transport {self.transport!r} is not one of profile {self.profile}")


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
        if self.password_file is not None:
            try:
                self.password_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"password_file {self.password_file} cannot be read ({error}); correct it") from error

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
    """The operator whose rosters and acknowledgements count: its address, and the PPDL chain id signatures name."""

    operator: str
    chain_id: int

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.operator):
            raise ValueError(f"operator is {self.operator!r}; write 0x and 40 hex digits")
        if self.chain_id < 1:
            raise ValueError(f"chain_id is {self.chain_id}; it must be 1 or more")

    @property
    def address(self) -> bytes:
        return bytes.fromhex(self.operator[2:])


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
class SlotProofSection:
    """How a home proves what it reports, in the circuit `commit`; a demo's wallet may stand in for it.

    prover: native, portable or auto. key_file, key_sha256: what a ceremony made and the digest that it printed; demo: the
    development key in cache_dir instead, with which anybody can forge.
    """

    prover: str = "auto"
    cache_dir: Path | None = None
    key_file: Path | None = None
    key_sha256: str = ""
    demo: bool = False

    def __post_init__(self) -> None:
        if (self.key_file is None) != self.demo:
            raise ValueError("key_file is what a ceremony made, with key_sha256; write it, or demo = true, and not both")
        if self.key_file is not None and not _SHA256.fullmatch(self.key_sha256):
            raise ValueError(f"key_sha256 is {self.key_sha256!r}; write the 64 hex digits that the ceremony printed")
        if self.prover not in PROVERS:
            raise ValueError(f"prover is {self.prover!r}; use one of {', '.join(PROVERS)}")


@dataclass(frozen=True)
class LearningSection:
    """Whether the agent takes part in learning rounds."""

    enabled: bool = True


@dataclass(frozen=True)
class ProvingKeySection:
    """What a ceremony made for one circuit, and the digest that it printed: an item of [[wallet.proving_keys]]."""

    circuit: str
    file: Path
    sha256: str

    def __post_init__(self) -> None:
        if self.circuit not in WALLET_CIRCUITS:
            raise ValueError(f"circuit is {self.circuit!r}; use one of {', '.join(WALLET_CIRCUITS)}")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r}; write the 64 hex digits that the ceremony printed")


@dataclass(frozen=True)
class WalletSection:
    """The owner's wallet on this device.

    seed_file: the owner's 32-byte seed (0600, made when missing). provides_liquidity: opens the microgrid's pool with
    its first energy. shield_wei: PETH turned into a note once. pay_to, pay_wei: a private payment to another meter's
    owner, or to a shielded address, after so many slots, and again every so many (0: once). share_account,
    share_microgrid: a quarter of the surplus goes to this account. prover: native, portable or auto. proving_keys: a
    ceremony's key for each circuit that the wallet proves; demo: the development keys in cache_dir instead, with which
    anybody can forge. network: main or test, the prefix of addresses.
    """

    seed_file: Path
    provides_liquidity: bool = False
    shield_wei: int = 0
    pay_to: str = ""
    pay_wei: int = 0
    pay_after_slots: int = 0
    pay_every_slots: int = 0
    share_account: str = ""
    share_microgrid: int = 0
    prover: str = "auto"
    cache_dir: Path | None = None
    network: str = "test"
    proving_keys: tuple[ProvingKeySection, ...] = ()
    demo: bool = False

    def __post_init__(self) -> None:
        named = [key.circuit for key in self.proving_keys]
        missing = [circuit for circuit in SPENDING_CIRCUITS if circuit not in named]
        if bool(named) == self.demo:
            raise ValueError(
                "proving_keys are what ceremonies made; write [[wallet.proving_keys]], or demo = true, and not both"
            )
        if len(set(named)) != len(named) or (missing and not self.demo):
            raise ValueError(f"proving_keys need one key for each circuit, and one for each of {', '.join(SPENDING_CIRCUITS)}")
        if min(self.shield_wei, self.pay_wei, self.pay_after_slots, self.pay_every_slots) < 0:
            raise ValueError("shield_wei, pay_wei and the slots of payments must be 0 or more")
        if self.prover not in PROVERS:
            raise ValueError(f"prover is {self.prover!r}; use one of {', '.join(PROVERS)}")
        if self.share_account and not _ADDRESS.fullmatch(self.share_account):
            raise ValueError(f"share_account is {self.share_account!r}; write 0x and 40 hex digits")
        if self.network not in NETWORKS:
            raise ValueError(f"network is {self.network!r}; use one of {', '.join(NETWORKS)}")
        if self.pays_address:
            try:
                require_well_formed(self.pay_to, ADDRESS, self.network)
            except KeyTextError as error:
                raise ValueError(f"pay_to is no address to pay to: {error}") from None

    def proving_key(self, circuit: str) -> ProvingKeySection | None:
        """The ceremony's key of a circuit; None in a demo, and for a circuit that is not configured."""
        return next((key for key in self.proving_keys if key.circuit == circuit), None)

    @property
    def pays_address(self) -> bool:
        """Whether `pay_to` is a shielded address; a meter's name is shorter."""
        return len(self.pay_to) > MAX_NAME


@dataclass(frozen=True)
class MarketSection:
    """The home trades its energy privately, in place of the public market; the wallet's section has its keys.

    The tariff calendar as the microgrid's energy registry counts it: utc_offset_slots (36 in Korea), period_days of a
    billing period, band_of_hour with the tariff band of each of a day's 24 local hours.
    """

    utc_offset_slots: int = 0
    period_days: int = 28
    band_of_hour: tuple[int, ...] = (0,) * HOURS_PER_DAY

    def __post_init__(self) -> None:
        if not all(0 <= band < BANDS for band in self.band_of_hour):
            raise ValueError(f"band_of_hour holds tariff bands from 0 to {BANDS - 1}")
        self.calendar()

    def calendar(self) -> Calendar:
        """The calendar; ValueError for one that cannot be."""
        return Calendar(self.utc_offset_slots, self.period_days, bytes(self.band_of_hour))


@dataclass(frozen=True)
class AgentConfig:
    """The whole file of `openmg-agent run --config FILE`."""

    device: DeviceSection
    meter: MeterSection
    mqtt: MqttSection
    hub: HubSection
    home: HomeSection
    clock: ClockSection = ClockSection()
    keys: KeysSection = KeysSection()
    slot_proof: SlotProofSection | None = None
    learning: LearningSection | None = None
    wallet: WalletSection | None = None
    market: MarketSection | None = None
    homeassistant: HomeAssistantSection | None = None

    def __post_init__(self) -> None:
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
    def store_path(self) -> Path:
        return self.device.state_dir / "store.sqlite"
