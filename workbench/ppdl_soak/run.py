"""The soak: four validators, and a hand that kills them, takes their unsynced writes and wipes their files, at random.

A round: after a random time some validators are killed at once, each in one of three ways: `kill -9` alone; with the
loss of unsynced writes; wiped, at most f of them and only while every other one trusts its vote log, because more lost
logs than that are beyond what any protocol of this kind survives. After a random time all run again, some are killed once
more while they start; then every validator must pass the highest block by HEAL_BLOCKS, and vote, within HEAL_S. At the end
all agree on one height, stop, and their files are read (`record.py`).

The seed fixes what the hand does; what the validators make of it depends on the machine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hub.ppdl.consensus.quorum import max_faulty
from hub.ppdl.store import initialise_store
from workbench.ports import PortReservation
from workbench.ppdl_soak.node import NodeConfig, soak_genesis, store_path
from workbench.ppdl_soak.record import Promises, Record
from workbench.ppdl_soak.validator import WIPES, Validator

VALIDATORS = 4
QUIET_S = (0.3, 4.0)
DOWN_S = (0.0, 2.0)
STORM_S = 1.0
HEAL_BLOCKS = 3
HEAL_S = 90.0
POLL_S = 0.05
WIPE_CHANCE, LOSE_CHANCE, STORM_CHANCE = 0.15, 0.5, 0.2


@dataclass
class SoakResult:
    """What was done, and what came of it. All of `forks`, `lost_blocks`, `lost_transactions`, `stalls` are to be 0."""

    minutes: float
    seed: int
    kills: int = 0
    lost_writes: int = 0
    wipes: int = 0
    blocks: int = 0
    transactions: int = 0
    snapshots: int = 0
    forks: int = 0
    lost_blocks: int = 0
    lost_transactions: int = 0
    equivocations: int = 0
    stalls: int = 0
    failure: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, forked or stuck."""
        bad = self.forks + self.lost_blocks + self.lost_transactions + self.equivocations + self.stalls
        return not bad and not self.failure

    def row(self) -> dict[str, object]:
        """For JSON."""
        return dataclasses.asdict(self)


class Soak:
    """One run. `progress` gets a line for people after each round."""

    def __init__(self, seconds: float, seed: int, directory: Path, progress: Callable[[str], None]) -> None:
        self._seconds, self._progress = seconds, progress
        self._chance = random.Random(seed)
        self._record = Record()
        self.result = SoakResult(round(seconds / 60, 3), seed)
        genesis_ms = time.time_ns() // 1_000_000 - 1000
        self._genesis = soak_genesis(VALIDATORS, genesis_ms)
        self._reserved = PortReservation(VALIDATORS)
        ports = tuple(self._reserved.ports)
        self._all: list[Validator] = []
        for me in range(VALIDATORS):
            home = directory / f"validator{me}"
            initialise_store(store_path(home), self._genesis)
            self._all.append(Validator(NodeConfig(str(home), me, ports, genesis_ms, 0), self._record.hear))

    async def run(self) -> SoakResult:
        """Until the time is over; everything is stopped afterwards, whatever happens."""
        end = time.monotonic() + self._seconds
        result = self.result
        try:
            await asyncio.gather(*(one.start() for one in self._all))
            healed = await self._heal()
            while healed and time.monotonic() < end:
                await asyncio.sleep(self._chance.uniform(*QUIET_S))
                await self._harm()
                healed = await self._heal()
                result.blocks = max(self._record.hashes, default=0)
                self._progress(f"{result.blocks} blocks, {result.kills} kills, {result.wipes} wipes")
            promises = self._record.promises()
            healed = healed and await self._heal()
            result.stalls += not healed
        finally:
            codes = await asyncio.gather(*(one.end() for one in self._all))
            self._reserved.close()
        if any(codes):
            result.failure = result.failure or f"a validator ended with code {max(map(abs, codes))}: see its log"
        self._judge(promises)
        return result

    async def _harm(self) -> None:
        """One round of kills; all validators are started again."""
        chance = self._chance
        victims = chance.sample(self._all, chance.choice((1, 1, 1, 2, 2, 3, 4)))
        await asyncio.gather(*(one.kill() for one in victims))
        self.result.kills += len(victims)
        wipes_left = max_faulty(VALIDATORS) if chance.random() < WIPE_CHANCE else 0
        for one in victims:
            if wipes_left:
                wipes_left -= 1
                self.result.wipes += 1
                kind = chance.choice(WIPES)
                one.wipe(kind)
                self._progress(f"validator {one.config.me} loses {kind}")
            else:
                self._cut_off(one)
        await asyncio.sleep(chance.uniform(*DOWN_S))
        await asyncio.gather(*(one.start() for one in victims))
        if chance.random() < STORM_CHANCE:
            await asyncio.sleep(chance.uniform(0, STORM_S))
            again = chance.choice(self._all)
            await again.kill()
            self.result.kills += 1
            self._cut_off(again)
            await again.start()

    def _cut_off(self, one: Validator) -> None:
        """The process is dead; whether its machine is too is chance."""
        if self._chance.random() < LOSE_CHANCE:
            self.result.lost_writes += one.lose_writes(self._chance)
        else:
            one.keep_writes()

    async def _heal(self) -> bool:
        """Wait until everybody votes and has passed the highest block; false when that takes too long."""
        goal = max(self._record.hashes, default=0) + HEAL_BLOCKS
        deadline = time.monotonic() + HEAL_S
        while not all(one.height >= goal and one.voting for one in self._all):
            broken = [one for one in self._all if one.failure or not one.running]
            if broken or time.monotonic() > deadline:
                where = ", ".join(f"{one.config.me}: {one.height}{'' if one.voting else ' silent'}" for one in self._all)
                reason = "; ".join(one.failure or f"validator {one.config.me} ended" for one in broken)
                self.result.failure = f"not everybody passed block {goal} ({where}) {reason}".strip()
                return False
            await asyncio.sleep(POLL_S)
        return True

    def _judge(self, promises: Promises) -> None:
        """Read what the stopped validators have on their disks."""
        result, record = self.result, self._record
        homes = [one.directory for one in self._all]
        blocks, txs = record.lost(promises, homes, self._genesis)
        result.lost_blocks, result.lost_transactions = blocks, txs
        result.forks = len(record.forked)
        result.blocks, result.transactions = max(record.hashes, default=0), len(record.committed)
        result.snapshots = sum(one.snapshots for one in self._all)
        result.equivocations = sum(one.equivocations for one in self._all)


def soak(seconds: float, seed: int, progress: Callable[[str], None], state: Path | None = None) -> SoakResult:
    """Run it; files go to `state`, or to a folder that is removed when all went well."""
    directory = Path(tempfile.mkdtemp(prefix="openmg-soak-")) if state is None else state
    result = asyncio.run(Soak(seconds, seed, directory, progress).run())
    if state is None and result.clean:
        shutil.rmtree(directory)
    elif not result.clean:
        progress(f"files and logs: {directory}")
    return result
