"""Four hubs that learn prices together, over real sockets: a recorded past of one pool, and a trainer at each hub, one of
them a liar where a test wants one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
from round_hubs import Hub, Hubs
from round_world import CHAIN_ID, GENESIS_MS, HISTORY_HOURS, PLAN, START_HOUR, VALIDATOR_KEYS, VALIDATORS, app_genesis

from hub.learning.price_trainer import KEY_ROLE, PriceTrainer, price_plan
from hub.ppdl.app.genesis_prices import PriceRecord, Trainer
from hub.ppdl.app.genesis_state import AppGenesis, Feeder, make_app_genesis
from hub.ppdl.genesis import Genesis, make_genesis
from openmg.forecast.spec import EXPECTED_NET, ForecastSpec
from openmg.identity import signing_key
from openmg.learning.blobs import make_blob, open_blob
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import norm_units, update_bytes
from openmg.member.answers import RoundAnswer, RoundAnswerer
from openmg.messages.learning import ModelNotice
from openmg.signing import address_of

TRAINER_KEYS = tuple(signing_key(key, KEY_ROLE) for key in VALIDATOR_KEYS)
"""Of the hub with the validator of the same number."""
TRAINERS = tuple(address_of(key) for key in TRAINER_KEYS)
SLOTS = HISTORY_HOURS * 4
PRICES = LearningPlan(
    evaluation_start_hour=START_HOUR + 672,
    min_participants=3,
    commit_blocks=6,
    reveal_blocks=60,
    aggregate_blocks=60,
    committee_size=0,
    max_round_blocks=600,
    spec=ForecastSpec("price", 15, 24, 4, hidden=(4, 4), channels=(EXPECTED_NET,)),
    noise_milli=200,
    local_steps=120,
)
PLACE = 1
"""Of the plan for prices in the genesis."""


def net_wh(hour: int) -> int:
    """A load with an evening peak, less sun at noon that differs from day to day."""
    sun = max(0.0, math.sin(2 * math.pi * (hour - 6) / 24)) * (2500 + 2000 * math.sin(hour // 24 * 2.4))
    return round(3000 + 1500 * math.sin(2 * math.pi * (hour - 13) / 24) - sun)


def wei_per_wh(slot: int) -> int:
    """Follows the net energy of the hour and of the one before, between 20 and 40 gwei."""
    return 10**9 * 20 + 10**6 * max(0, min(20_000, 4 * net_wh(slot // 4) + 2 * net_wh(slot // 4 - 1)))


def price_genesis(first_price: int = 0, plan: LearningPlan = PRICES) -> Genesis:
    """Of a chain with meters that learn net energy and hubs that learn prices; `first_price`: another one of the first slot."""
    whole, feeder = app_genesis(), Feeder(1, START_HOUR, tuple(net_wh(START_HOUR + hour) for hour in range(HISTORY_HOURS)))
    prices = [wei_per_wh(START_HOUR * 4 + slot) for slot in range(SLOTS)]
    record = PriceRecord(1, START_HOUR * 4, (first_price or prices[0], *prices[1:]))
    trainers = [Trainer(address, f"hub-{number}") for number, address in enumerate(TRAINERS, 1)]
    state = make_app_genesis(list(whole.devices), [feeder], (PLAN, plan), whole.commit_key, trainers, [record])
    return make_genesis(CHAIN_ID, list(VALIDATORS), state.encode(), GENESIS_MS)


class Liar:
    """Answers like the answerer it stands for, but promises the negative of its update, as long as the clip allows."""

    def __init__(self, honest: RoundAnswerer) -> None:
        self.honest = honest
        self.lies: set[int] = set()
        """Rounds in which it has lied; asked again it keeps to what it promised."""

    def rest(self) -> None:
        self.honest.rest()

    def answer(self, notice: ModelNotice) -> RoundAnswer | None:
        answer = self.honest.answer(notice)
        if answer is None or answer.commit is None or notice.round in self.lies:
            return answer
        kept, plan = self.honest._pending, LearningPlan.decode(notice.plan)
        assert kept is not None
        update = open_blob(plan, kept.blob).astype(np.int64)
        longer = np.clip(np.trunc(-update * (plan.clip_units / norm_units(update.astype(np.int16)))), -32767, 32767)
        blob = make_blob(bytes(16), update_bytes(longer.astype(np.int16)))
        self.honest._pending = dataclasses.replace(kept, blob=blob)
        self.lies.add(notice.round)
        return self.honest.answer(notice)


def trainer_of(hub: Hub, key: bytes) -> PriceTrainer:
    """As `HubNode` makes it."""
    genesis: AppGenesis = hub.state_of_genesis
    found = price_plan(genesis)
    assert found is not None
    place, plan = found
    duties, query = partial(hub.app.duties, place), lambda path: hub.app.query(path, b"")
    trainer = PriceTrainer(plan, genesis, duties, query, hub.attendants.on_reveal, hub.engine.submit, CHAIN_ID, key, hub.folder)
    hub.engine.on_decided(trainer.on_block)
    return trainer


class PriceHubs:
    """Hubs of which each has a trainer; `liars` are numbers of those that lie, `chains` other geneses by number."""

    def __init__(
        self,
        folder: Path,
        free_port: Callable[[], int],
        liars: tuple[int, ...] = (),
        chains: Mapping[int, Genesis] | None = None,
    ) -> None:
        genesis = price_genesis()
        known = {number: (chains or {}).get(number, genesis) for number in range(len(VALIDATOR_KEYS))}
        self.hubs = Hubs(folder, (PLAN, PRICES), free_port, chains=known)
        self.trainers = [trainer_of(hub, key) for hub, key in zip(self.hubs.hubs, TRAINER_KEYS, strict=True)]
        self.liars = [Liar(self.trainers[number]._answerer) for number in liars]
        for number, liar in zip(liars, self.liars, strict=True):
            self.trainers[number]._answerer = liar  # type: ignore[assignment]
        self._stop = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> PriceHubs:
        await self.hubs.__aenter__()
        self._running = [asyncio.create_task(trainer.run(self._stop)) for trainer in self.trainers]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        await asyncio.gather(*self._running)
        await self.hubs.__aexit__(kind, error, trace)

    async def closed(self, rounds: int, hub: int) -> None:
        """Until so many rounds of prices are closed on this hub."""
        node = self.hubs.hubs[hub]
        async with asyncio.timeout(150):
            while node.model(PLACE).round.number < rounds:
                await node.engine.wait_height(node.app.info().last_height + 1)
