"""A hub's forecasts without meters: a PPDL state of two microgrids that answers queries, ten weeks of past, real databases.

The state is the chain's own, prolonged by its own rules; only the masked reports that lead to a slot's sums are left out.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import slot_reports

from hub.console.server import WebServer
from hub.inference.api.app import ApiState, VouchedWay, create_api
from hub.inference.desk import ForecastDesk
from hub.inference.history import HistoryStore
from hub.inference.keys import KeyStore
from hub.inference.ledger import Ledger
from hub.inference.models import KeptModel, ModelKey, inputs_of, model_keys, spec_of
from hub.inference.trainer_job import TrainerJob
from hub.inference.training import TrainingTask
from hub.ppdl.app.answers import NoAnswer, answer_query
from hub.ppdl.app.first_state import first_state
from hub.ppdl.app.genesis_prices import PriceRecord, Trainer
from hub.ppdl.app.genesis_state import Device, Feeder, make_app_genesis
from hub.ppdl.app.round_state import Model
from hub.ppdl.app.slots import prolong
from hub.ppdl.app.state import Env, SlotRecord, State
from hub.ppdl.application import QueryResult
from openmg.forecast.features import Almanac
from openmg.forecast.model import master_bytes, master_from_bytes
from openmg.forecast.quantities import METERED
from openmg.forecast.spec import EXPORT_ENERGY, PRICE
from openmg.identity import DeviceKey
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash
from openmg.messages.telemetry import SlotReport

CHAIN_ID = 77
CONTRACT = bytes(range(20))
START_HOUR = 494_017
CHAIN_HOURS = 840
END_HOUR = START_HOUR + CHAIN_HOURS
PAST_HOURS = 10 * 168
MICROGRIDS = (1, 2)
VOUCHED = VouchedWay(CHAIN_ID, 900, CONTRACT)
ALMANAC = Almanac(frozenset(), 9)
NOW_WALL = 1_800_000_123.0
TRAINING_STEPS = 40


def slot_sums(slot: int) -> tuple[int, int]:
    """Import and export in Wh of a quarter of an hour: an evening peak, and sun at noon on a site at UTC+9."""
    hour = (slot / 4 + 9) % 24
    wave = math.sin(2 * math.pi * slot / 7.3) + math.sin(2 * math.pi * slot / 61.7)
    load = 1500 + 700 * math.cos(2 * math.pi * (hour - 19) / 24) + 80 * wave
    sun = max(0.0, 1800 * math.sin(math.pi * (hour - 6) / 12)) if 6 < hour < 18 else 0.0
    return round(max(0.0, load)), round(sun)


def hour_sums(hour: int) -> tuple[int, int]:
    parts = [slot_sums(slot) for slot in range(4 * hour, 4 * hour + 4)]
    return sum(part[0] for part in parts), sum(part[1] for part in parts)


def past_csv(path: Path, first_hour: int = END_HOUR - PAST_HOURS, hours: int = PAST_HOURS) -> Path:
    """The past as meters export it."""
    lines = ["time,import_wh,export_wh"]
    for slot in range(4 * first_hour, 4 * (first_hour + hours)):
        lines.append(f"{datetime.fromtimestamp(900 * slot, UTC).isoformat()},{slot_sums(slot)[0]},{slot_sums(slot)[1]}")
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass(frozen=True)
class Trained:
    """A history file, to be copied, and models of microgrid 1."""

    history_file: Path
    models: dict[ModelKey, KeptModel]


def task_of(history: HistoryStore, key: ModelKey) -> TrainingTask:
    inputs = inputs_of(history, key)
    return TrainingTask(key, spec_of(key, len(inputs.values)), inputs, ALMANAC, TRAINING_STEPS, END_HOUR)


def _no_reports(_: SlotReport, __: int) -> tuple[bytes, bytes]:
    raise AssertionError("no report is opened here")


def price_of(slot: int) -> int:
    """Wei per Wh: the price follows the slot's net energy."""
    import_wh, export_wh = slot_sums(slot)
    return 30_000_000_000 + 3_000_000 * (import_wh - export_wh)


class Chain:
    """A PPDL state that answers as a replica does; its third model is learnt by hubs from the prices of microgrid 1."""

    def __init__(self) -> None:
        devices = []
        for number in range(1, 7):
            key = DeviceKey(bytes([number]) * 32)
            mid, microgrid = slot_reports.mid(key), 1 + number % 2
            devices.append(Device(key.address, key.mask_public, microgrid, f"home-{number}", mid, METERED))
        net = tuple(hour_sums(hour)[0] - hour_sums(hour)[1] for hour in range(START_HOUR, END_HOUR))
        plan = LearningPlan(evaluation_start_hour=START_HOUR + 672)
        plans = plan, replace(plan, spec=EXPORT_ENERGY), replace(plan, spec=PRICE, committee_size=0)
        trainers = [Trainer(bytes([100 + number]) * 20, f"hub-{number}") for number in range(1, 5)]
        record = PriceRecord(1, 4 * START_HOUR, tuple(map(price_of, range(4 * START_HOUR, 4 * END_HOUR))))
        feeders = [Feeder(microgrid, START_HOUR, net) for microgrid in MICROGRIDS]
        commit_key = slot_reports.commit_key().to_bytes()
        genesis = make_app_genesis(devices, feeders, plans, commit_key, trainers, [record])
        self.env = Env(CHAIN_ID, bytes(32), genesis, bytes(32), _no_reports)  # type: ignore[arg-type]
        self.state: State = first_state(self.env, (bytes(20),))
        self.height = 41

    def query(self, path: str) -> QueryResult:
        try:
            value = answer_query(path, self.state, self.height, self.env, None)  # type: ignore[arg-type]
        except NoAnswer as error:
            return QueryResult(False, b"", self.height, str(error))
        return QueryResult(True, value, self.height)

    def learn_prices(self, seed: int) -> bytes:
        """Another price model is the agreed one, as after a learnt round; its hash."""
        spec, place = self.env.genesis.plans[2].spec, 2
        change = np.random.default_rng(seed).integers(-20_000, 20_000, spec.parameters)
        master = (master_from_bytes(spec, self.state.models[place].model.master) + change).astype(np.int32)
        model = Model(master_bytes(master), bytes(spec.master_bytes), model_hash(spec, master))
        learnt = replace(self.state.models[place], model=model)
        self.state, self.height = replace(self.state, models=(*self.state.models[:place], learnt)), self.height + 1
        return model.model_hash

    def agree(
        self, microgrid: int, slot: int, import_wh: int | None = None, export_wh: int | None = None, closed: int = 0
    ) -> None:
        """The sums of one slot, in a block of their own; `closed`: meters of groups that are not in them."""
        sums = slot_sums(slot) if import_wh is None or export_wh is None else (import_wh, export_wh)
        record = SlotRecord(slot, 6, *sums, 1, closed)
        grids = tuple(
            prolong(replace(grid, slots=tuple(sorted((*grid.slots, record), key=lambda item: item.slot))))
            if grid.microgrid == microgrid
            else grid
            for grid in self.state.grids
        )
        self.state, self.height = replace(self.state, grids=grids), self.height + 1


@dataclass
class Api:
    """A running API with its parts; `wall` and `now_hour` are what its clocks say."""

    client: httpx.AsyncClient
    desk: ForecastDesk
    history: HistoryStore
    keys: KeyStore
    ledger: Ledger
    job: TrainerJob
    server: WebServer
    wall: list[float]
    now_hour: list[int]
    key: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, key: str | None = None, **parameters: object) -> httpx.Response:
        """GET with the usual key, or with another."""
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        return await self.client.get(path, params=parameters, headers=headers)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    folder: Path,
    chain: Chain,
    history_file: Path,
    models: dict[ModelKey, KeptModel],
    *,
    per_minute: int = 1000,
    daily: int = 1000,
    fee_wei: int = 0,
    capacity_w: int | None = 20_000,
) -> AsyncIterator[Api]:
    """An API over this history and these models, with one key, on a free port of loopback."""
    history, keys = HistoryStore(history_file), KeyStore(folder / "api-keys.sqlite")
    wall, now_hour = [NOW_WALL], [END_HOUR + 1]
    almanac: Callable[[int], Almanac] = lambda _: ALMANAC  # noqa: E731
    job = TrainerJob(
        history, model_keys(MICROGRIDS, (24, 48, 72)), models, almanac, lambda: now_hour[0], 1, lambda _: None, lambda: None
    )
    desk = ForecastDesk(history, chain.query, MICROGRIDS, job.models, job.missing, almanac, lambda: 3600.0 * now_hour[0])
    desk.recorded_at(chain.height)
    ledger = Ledger(keys)
    capacities = {} if capacity_w is None else {1: capacity_w}
    state = ApiState(desk, job, keys, ledger, capacities, VOUCHED, lambda: wall[0])
    server = WebServer(create_api(state), name="inference")
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
            api = Api(client, desk, history, keys, ledger, job, server, wall, now_hour)
            _, api.key = keys.create("caller", per_minute, daily, fee_wei, int(NOW_WALL))
            yield api
    finally:
        await server.stop()
        history.close()
        keys.close()
