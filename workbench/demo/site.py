"""The demo on disk: one folder with a sub folder for every program, their keys and configuration files.

    STATE/endpoints.json   ports, URLs, contract addresses and chain ids
    STATE/logs/            one log a process
    STATE/sim/             the simulator's configuration
    STATE/agents/NAME/     a meter's configuration, keys, store and wallet (feeders too)
    STATE/hubs/NAME/       a hub's configuration, key and databases
    STATE/chain/           deployment and PPDL genesis

Rules: keys are made here only because the demo plays every owner and operator; each file is 0600. Ports are free ones.
Not here: starting anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

from edge_agent.wallet.keys import OwnerKeys
from hub.keys import HubKeys
from openmg.forecast.calendar import KOREA_UTC_OFFSET_HOURS
from openmg.identity import DeviceKey, load_or_create_key
from openmg.masking.rosters import approve
from openmg.messages.slot_opening import MeterApproval
from openmg.signing import address_of
from openmg.units import SLOTS_PER_HOUR
from workbench.demo.homes import DemoHome, plan_homes
from workbench.demo.options import DemoError, DemoOptions
from workbench.ports import HOST, PortReservation, is_free

PPDL_CHAIN_ID = 8_600_001
ROOT_CHAIN_ID = 8_600_002
PLASMA_CHAIN_ID = 8_600_003
FEED_IN_WEI_PER_WH = 20_000_000_000
RETAIL_WEI_PER_WH = 40_000_000_000
"""80 and 160 won a kWh at 4,000,000 won an ETH (demo values of 2026-06)."""
GRID_FEE_WEI_PER_WH = 5_000_000_000
"""20 won a kWh: what a neighbour's energy may cost is that much below retail."""
WEI = 10**18
DEPOSIT_WEI = 2 * WEI
SHIELD_WEI = WEI // 2
TRANSFER_WEI = WEI // 100
UTC_OFFSET_SLOTS = KOREA_UTC_OFFSET_HOURS * SLOTS_PER_HOUR
PERIOD_DAYS = 28
"""Korean days, and a billing period of four weeks, as the energy registry counts them."""
POLLS_PER_SLOT = 8
MIN_POLL_SECONDS = 0.25
PAYMENT_SLOTS = 5
"""Private payments are spread over at most so many slots: on one machine all meters share its cores."""
FOLDERS = ("agents", "hubs", "sim", "chain", "history", "logs")
ENVELOPE_RELAYS = (2, 3)
"""Numbers of the hubs that open envelopes and compete as relayers."""


@dataclass(frozen=True)
class Ports:
    """Every port of the run."""

    mqtt: int
    root: int
    plasma: int
    console: int
    hubs: tuple[int, ...]
    meters: dict[str, int]


@dataclass(frozen=True)
class Site:
    """The folder, the homes, the ports and the keys of one run."""

    options: DemoOptions
    folder: Path
    homes: tuple[DemoHome, ...]
    ports: Ports
    reservation: PortReservation

    @property
    def feeders(self) -> tuple[str, ...]:
        """Names of the feeder meters, by microgrid."""
        return tuple(f"feeder-{microgrid}" for microgrid in range(1, self.options.microgrids + 1))

    @property
    def hub_names(self) -> tuple[str, ...]:
        return tuple(f"hub-{number}" for number in range(1, self.options.validators + 1))

    @cached_property
    def devices(self) -> dict[str, DeviceKey]:
        """Device keys of meters and feeders, by name."""
        names = [*(home.name for home in self.homes), *self.feeders]
        return {name: DeviceKey(load_or_create_key(self.agent_folder(name) / "device.key")) for name in names}

    @cached_property
    def owners(self) -> dict[str, OwnerKeys]:
        """Owner keys of homes, by the meter's name."""
        return {home.name: OwnerKeys(load_or_create_key(self.agent_folder(home.name) / "owner.seed")) for home in self.homes}

    @cached_property
    def hubs(self) -> dict[str, HubKeys]:
        return {name: HubKeys.load(self.hub_folder(name) / "hub.key") for name in self.hub_names}

    @cached_property
    def utility_key(self) -> bytes:
        """Account key of the utility."""
        return load_or_create_key(self.folder / "chain" / "utility.key")

    def agent_folder(self, name: str) -> Path:
        return self.folder / "agents" / name

    def hub_folder(self, name: str) -> Path:
        return self.folder / "hubs" / name

    def agent_config(self, name: str) -> Path:
        return self.agent_folder(name) / "agent.toml"

    def hub_config(self, name: str) -> Path:
        return self.hub_folder(name) / "hub.toml"

    @property
    def sim_config(self) -> Path:
        return self.folder / "sim" / "sim.toml"

    @property
    def genesis_file(self) -> Path:
        return self.folder / "chain" / "genesis.cbor"

    @property
    def deployment_file(self) -> Path:
        return self.folder / "chain" / "deployment.json"

    @property
    def endpoints_file(self) -> Path:
        return self.folder / "endpoints.json"

    @property
    def mqtt_url(self) -> str:
        return self.options.mqtt or f"mqtt://{HOST}:{self.ports.mqtt}"

    @property
    def root_url(self) -> str:
        return f"http://{HOST}:{self.ports.root}"

    @property
    def plasma_url(self) -> str:
        return f"http://{HOST}:{self.ports.plasma}"

    @property
    def console_url(self) -> str:
        return f"http://{HOST}:{self.ports.console}/"

    def clock(self, w0: float) -> dict[str, Any]:
        """The `[clock]` table of every configuration."""
        return {"t0": self.options.start, "w0": w0, "speed": self.options.speed}


def make_site(options: DemoOptions, folder: Path) -> Site:
    """Folders and ports for the run. Raises DemoError when the folder cannot be used or the port is taken."""
    if any((folder / name).exists() for name in FOLDERS):
        raise DemoError(f"{folder} holds an earlier run; give another --state folder or remove it")
    if not options.headless and options.port and not is_free(options.port):
        raise DemoError(f"port {options.port} of {HOST} is in use; free it or give another --port (0: any)")
    homes = plan_homes(options)
    names = [*(home.name for home in homes), *(f"feeder-{i}" for i in range(1, options.microgrids + 1))]
    reservation = PortReservation(4 + options.validators + len(names))
    free = iter(reservation.ports)
    mqtt, root, plasma, console = (next(free) for _ in range(4))
    if not options.headless and options.port:
        console = options.port
    hubs = tuple(next(free) for _ in range(options.validators))
    ports = Ports(mqtt, root, plasma, console, hubs, {name: next(free) for name in names})
    site = Site(options, folder, homes, ports, reservation)
    try:
        for made in (
            *(folder / name for name in FOLDERS),
            *(site.agent_folder(name) for name in names),
            *(site.hub_folder(name) for name in site.hub_names),
        ):
            made.mkdir(parents=True, mode=0o700)
    except OSError as error:
        reservation.close()
        raise DemoError(f"{folder} cannot be used ({error.strerror}); give a --state folder that you may write to") from error
    return site


def write_sim_config(site: Site, w0: float) -> None:
    """The simulator's file: every home and feeder behind its port."""
    sim: dict[str, Any] = {"seed": site.options.seed, "history_days": 35}
    if site.options.data is not None:
        sim["data"] = str(site.options.data.resolve())
    homes = [
        {
            "name": item.name,
            "kind": item.home.kind,
            "microgrid": item.microgrid,
            "seed": item.home.seed,
            "port": site.ports.meters[item.name],
            "pv_peak_w": item.home.pv_peak_w,
        }
        for item in site.homes
    ]
    feeders = [{"name": name, "microgrid": i, "port": site.ports.meters[name]} for i, name in enumerate(site.feeders, 1)]
    _write(site.sim_config, {"clock": site.clock(w0), "sim": sim, "home": homes, "feeder": feeders})


def write_agent_configs(site: Site, w0: float) -> None:
    """A file for every meter's agent."""
    for item in site.homes:
        table = _agent_table(site, item.name, item.microgrid, w0)
        table["learning"] = {"enabled": True}
        table["wallet"] = _wallet_table(site, item)
        if site.options.private:
            table["market"] = {"utc_offset_slots": UTC_OFFSET_SLOTS, "period_days": PERIOD_DAYS}
        else:
            table["wallet"] |= _public_trade(site, item)
        _write(site.agent_config(item.name), table)
    for microgrid, name in enumerate(site.feeders, 1):
        table = _agent_table(site, name, microgrid, w0)
        table["home"]["role"] = "feeder"
        _write(site.agent_config(name), table)


def _agent_table(site: Site, name: str, microgrid: int, w0: float) -> dict[str, Any]:
    operator = site.hubs["hub-1"]
    poll_seconds = max(MIN_POLL_SECONDS, site.options.slot_seconds / POLLS_PER_SLOT)
    return {
        "device": {"name": name, "key_file": "device.key", "state_dir": "state"},
        "clock": site.clock(w0),
        "meter": {"host": HOST, "port": site.ports.meters[name], "poll_seconds": poll_seconds},
        "mqtt": {"url": site.mqtt_url},
        "hub": {
            "operator": "0x" + operator.account.hex(),
            "chain_id": PPDL_CHAIN_ID,
            "utility": "0x" + address_of(site.utility_key).hex(),
        },
        "home": {"microgrid": microgrid, "timezone": "Asia/Seoul"},
    }


def _wallet_table(site: Site, item: DemoHome) -> dict[str, Any]:
    following = site.homes[item.number % len(site.homes)]
    payment_slots = PAYMENT_SLOTS if site.options.endless else min(PAYMENT_SLOTS, site.options.slots)
    return {
        "seed_file": "owner.seed",
        "shield_wei": SHIELD_WEI,
        "pay_to": following.name,
        "pay_wei": TRANSFER_WEI,
        "pay_after_slots": 1 + item.number % payment_slots,
        "prover": site.options.prover,
        "demo": True,
    }


def _public_trade(site: Site, item: DemoHome) -> dict[str, Any]:
    """The home's part in the public market: whether it opens the pool, and whom it gives surplus to."""
    table: dict[str, Any] = {"provides_liquidity": item.provides_liquidity}
    if item.shares_with:
        partner = site.homes[item.shares_with - 1]
        table["share_account"] = "0x" + site.owners[partner.name].account.hex()
        table["share_microgrid"] = partner.microgrid
    return table


def write_hub_configs(site: Site, w0: float) -> None:
    """A file for every hub; the first has the operator's roles, the next ones relay."""
    for number, name in enumerate(site.hub_names, 1):
        _write(site.hub_config(name), _hub_table(site, number, name, w0))


def _hub_table(site: Site, number: int, name: str, w0: float) -> dict[str, Any]:
    roles = ["relayer", "envelope-relay"] if number in ENVELOPE_RELAYS else []
    if number == 1:
        roles = ["ingest", "plasma", "appender", "clearing", "market", "inference", "console"]
    table: dict[str, Any] = {
        "hub": {"name": name, "key_file": "hub.key", "state_dir": "state", "roles": roles},
        "clock": site.clock(w0),
        "ppdl": {
            "genesis_file": "../../chain/genesis.cbor",
            "listen": f"{HOST}:{site.ports.hubs[number - 1]}",
            "identity_dir": ".",
        },
        "chains": {
            "root_url": site.root_url,
            "plasma_url": site.plasma_url,
            "deployment_file": "../../chain/deployment.json",
        },
        "zk": {"demo": True},
    }
    if number == 1:
        relays = [site.hubs[f"hub-{i}"].envelope_public.hex() for i in ENVELOPE_RELAYS if i <= site.options.validators]
        table["mqtt"] = {"url": site.mqtt_url}
        table["appender"] = {"prover": site.options.prover}
        table["relay"] = {"envelope_keys": relays}
        table["console"] = {"host": HOST, "port": site.ports.console}
        # So that the console has forecasts beside what came. Five weeks are too short to train on: the agreed model makes them.
        table["inference"] = {"port": 0, "horizons_hours": [24]}
        table["market"] = {"retail_wei_per_wh": RETAIL_WEI_PER_WH}
        table["grid"] = {"group_size": site.options.group_size}
        table["device"] = [_device_table(site, home.name, home.microgrid, "home") for home in site.homes] + [
            _device_table(site, feeder, i, "feeder") for i, feeder in enumerate(site.feeders, 1)
        ]
    return table


def _device_table(site: Site, name: str, microgrid: int, role: str) -> dict[str, Any]:
    key = site.devices[name]
    table: dict[str, Any] = {"name": name, "address": "0x" + key.address.hex(), "microgrid": microgrid, "role": role}
    if role == "home":
        said = MeterApproval(microgrid, name, key.address, key.mask_public, clear_feeder=True)
        table["approval"] = "0x" + approve(said, PPDL_CHAIN_ID, site.utility_key).hex()
    return table


def _write(path: Path, table: dict[str, Any]) -> None:
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
