"""The sections of an agent's file that say what its owner's wallet keeps, proves and trades.

Rules: a ceremony's keys, or `demo = true`, and never both. Not here: what the wallet does (`edge_agent.wallet`,
`edge_agent.market`), the other sections (`config`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from openmg.keys.text import ADDRESS, NETWORKS, KeyTextError, require_well_formed
from openmg.market.calendar import BANDS, HOURS_PER_DAY, Calendar

PROVERS = ("auto", "native", "portable")
MAX_NAME = 32
SPENDING_CIRCUITS = ("transfer", "merge")
"""What every wallet proves."""
WALLET_CIRCUITS = (*SPENDING_CIRCUITS, "mint", "buy", "burn", "period")
"""What a wallet in a private market proves."""
ACCOUNT = re.compile(r"0x[0-9a-fA-F]{40}")
SHA256 = re.compile(r"[0-9a-fA-F]{64}")


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
        if self.key_file is not None and not SHA256.fullmatch(self.key_sha256):
            raise ValueError(f"key_sha256 is {self.key_sha256!r}; write the 64 hex digits that the ceremony printed")
        if self.prover not in PROVERS:
            raise ValueError(f"prover is {self.prover!r}; use one of {', '.join(PROVERS)}")


@dataclass(frozen=True)
class ProvingKeySection:
    """What a ceremony made for one circuit, and the digest that it printed: an item of [[wallet.proving_keys]]."""

    circuit: str
    file: Path
    sha256: str

    def __post_init__(self) -> None:
        if self.circuit not in WALLET_CIRCUITS:
            raise ValueError(f"circuit is {self.circuit!r}; use one of {', '.join(WALLET_CIRCUITS)}")
        if not SHA256.fullmatch(self.sha256):
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
        if self.share_account and not ACCOUNT.fullmatch(self.share_account):
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
