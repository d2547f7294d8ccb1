"""Forecasts as a service, put together: history, models, desk, API and the board's section, in the hub's loop.

Theory of operation. A decided block marks the history as stale; once in STEP_SECONDS a worker thread records what the
chain agreed on meanwhile and the pools' prices of the slot, has new forecasts made for the operator's page, and puts them
on the board. Trainings run beside it in child processes. The API's answers come from the same desk, in its own threads.
Rules: it runs only where the configuration has [inference]; a database that fails is said once and tried again.
Not here: the witnessing of requests on chain (`service`), any of the parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hub.config import InferenceSection
from hub.console.board import StatusBoard
from hub.console.server import WebServer
from hub.inference import InferenceError
from hub.inference.api.app import ApiState, VouchedWay, create_api
from hub.inference.database import InferenceStoreError
from hub.inference.desk import SECONDS_PER_HOUR, ForecastDesk
from hub.inference.history import HistoryStore
from hub.inference.keys import KeyStore
from hub.inference.ledger import Ledger
from hub.inference.models import ModelStore, model_keys
from hub.inference.places import InferencePlaces
from hub.inference.recorder import Query, Recorder
from hub.inference.series_view import forecast_section
from hub.inference.trainer_job import TrainerJob
from openmg.clock import VirtualClock
from openmg.forecast.calendar import date_of, local_day, public_holidays
from openmg.forecast.features import Almanac

log = logging.getLogger(__name__)

STEP_SECONDS = 1.0
VIEW_STEPS = 20
"""The board's section is made again when something is new, and after so many steps, since a forecast may grow too old."""
API_NAME = "inference"
YEARS_AHEAD = 1

Prices = Callable[[], Iterable[tuple[int, int]]]
"""(microgrid, wei per Wh) of the pools as they stand."""


class ForecastRole:
    """Runs the hub's forecasts until `stop` is set. Raises InferenceError when a database or the calendar cannot be used."""

    def __init__(
        self,
        section: InferenceSection,
        state_dir: Path,
        clock: VirtualClock,
        query: Query,
        microgrids: Sequence[int],
        prices: Prices,
        vouched: VouchedWay,
        board: StatusBoard,
    ) -> None:
        self._clock = clock
        self._section = section
        self._require_calendar()
        places = InferencePlaces(state_dir)
        self._query = query
        self._prices = prices
        self._board = board
        self.history = HistoryStore(places.history)
        self._store = ModelStore(places.models)
        self._keys = KeyStore(places.keys)
        self._recorder = Recorder(self.history, query, microgrids)
        keys = model_keys(microgrids, section.horizons_hours)
        known, hour = self._store.all(), lambda: int(clock.now()) // SECONDS_PER_HOUR
        self.job = TrainerJob(
            self.history, keys, known, self.almanac, hour, section.training_steps, self._store.keep, self._on_change
        )
        self.desk = ForecastDesk(self.history, query, microgrids, self.job.models, self.job.missing, self.almanac, clock.now)
        state = ApiState(self.desk, self.job, self._keys, Ledger(self._keys), section.capacities_w, vouched, time.time)
        self.server = WebServer(create_api(state), section.host, section.port, name=API_NAME)
        self._stale = True
        self._noted: dict[int, tuple[int, int]] = {}
        """Slot and price of each microgrid as they were last written."""
        self._steps = 0
        self._view: dict[str, Any] = {}
        self._complained = ""
        self._busy = asyncio.Lock()
        """Held while a thread works with the databases."""

    def _require_calendar(self) -> None:
        try:
            self.almanac(int(self._clock.now()) // SECONDS_PER_HOUR)
        except ValueError as error:
            raise InferenceError(f"inference.holiday_country: {error}") from error

    def on_block(self) -> None:
        """A block was decided: the chain may have agreed on more."""
        self._stale = True

    def almanac(self, first_hour: int) -> Almanac:
        """The site's calendar from this hour's year on: holidays of the configured country."""
        offset = self._section.utc_offset_hours
        years = [date_of(local_day(hour, offset)).year for hour in (first_hour, int(self._clock.now()) // SECONDS_PER_HOUR)]
        return _almanac(self._section.holiday_country, years[0], max(years) + YEARS_AHEAD, offset)

    def _on_change(self) -> None:
        self.desk.forget()
        self._stale = True

    async def start(self) -> None:
        """Serve the API. Raises ConsoleError when the address is taken."""
        await self.server.start()

    async def run(self, stop: asyncio.Event) -> None:
        """Record and train; returns when `stop` is set."""
        training = asyncio.create_task(self.job.run(stop), name="inference training")
        try:
            while not stop.is_set():
                await self._guarded_step()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), STEP_SECONDS)
                if training.done():
                    training.result()
        finally:
            stop.set()
            await training

    async def stop(self) -> None:
        """Close the API and the databases, once nothing works with them any more."""
        await self.server.stop()
        async with self._busy:
            for store in (self.history, self._store, self._keys):
                store.close()

    async def _guarded_step(self) -> None:
        async with self._busy:
            try:
                await asyncio.to_thread(self.step)
                self._complained = ""
            except InferenceStoreError as error:
                self._stale = True
                if str(error) != self._complained:
                    log.warning("inference: %s; trying again", error)
                self._complained = str(error)

    def step(self) -> None:
        """Record what is new and put it on the board. Blocks on the disk."""
        stale, self._stale = self._stale, False
        slot = self._clock.slot()
        for microgrid, price in self._prices():
            self._note_price(microgrid, slot, price)
        if stale:
            height, known = self._query("models").height, self._recorder.revision
            self._recorder.step()
            if self._recorder.revision != known:
                self.desk.forget()
            self.desk.recorded_at(height)
        if stale or self._steps % VIEW_STEPS == 0:
            self._view = forecast_section(self.history, self.desk)
        self._steps += 1
        self._board.put("forecast", self._view)

    def _note_price(self, microgrid: int, slot: int, price: int) -> None:
        """Write a price when it is another one; a new slot has the price forecast made again."""
        known = self._noted.get(microgrid)
        if known == (slot, price):
            return
        self.history.add_price(microgrid, slot, price)
        self._noted[microgrid] = slot, price
        if known is None or known[0] != slot:
            self.desk.forget()


@lru_cache(maxsize=8)
def _almanac(country: str, first_year: int, last_year: int, utc_offset_hours: int) -> Almanac:
    return Almanac(frozenset(public_holidays(country, max(1948, first_year), last_year)), utc_offset_hours)
