"""Four processes over TCP: one loses files for good, in each of six ways, and takes part again by itself."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.ppdl.store import initialise_store
from workbench.ports import PortReservation
from workbench.ppdl_soak.node import NodeConfig, soak_genesis, store_path
from workbench.ppdl_soak.record import Record
from workbench.ppdl_soak.validator import WIPES, Validator

N = 4
PATIENCE_S = 90.0


async def until(done: Callable[[], bool], validators: list[Validator], what: str) -> None:
    """Wait, while all four run; else say what each of them said last."""
    end_s = time.monotonic() + PATIENCE_S
    while not done():
        if any(one.failure or not one.running for one in validators) or time.monotonic() > end_s:
            logs = [path.read_text()[-2000:] for path in sorted(validators[0].directory.parent.glob("validator*.log"))]
            states = [(one.height, one.voting, one.failure, one.running) for one in validators]
            pytest.fail(f"{what}: (height, voting, failure, running) {states}\n" + "\n---\n".join(logs))
        await asyncio.sleep(0.05)


async def passed(validators: list[Validator], height: int) -> None:
    """Everybody votes and is past the height."""
    await until(lambda: all(one.height > height and one.voting for one in validators), validators, f"past {height}")


@pytest.mark.slow
async def test_a_validator_that_lost_files_is_silent_then_votes_again(tmp_path: Path) -> None:
    genesis_ms = time.time_ns() // 1_000_000
    genesis, record, ports = soak_genesis(N, genesis_ms), Record(), PortReservation(N)
    validators = []
    for me in range(N):
        home = tmp_path / f"hub{me}"
        initialise_store(store_path(home), genesis)
        timing = {"snapshot_interval": 8, "snapshot_lag": 16}
        validators.append(Validator(NodeConfig(str(home), me, tuple(ports.ports), genesis_ms, 0, **timing), record.hear))
    await asyncio.gather(*(one.start() for one in validators))
    try:
        await passed(validators, 30)
        for me, kind in enumerate(WIPES):
            wiped = validators[me % N]
            await passed(validators, max(record.hashes) + 3)
            await wiped.kill()
            wiped.wipe(kind)
            decided = max(record.hashes)  # in what it has lost it may have voted this far
            await wiped.start()
            await until(functools.partial(getattr, wiped, "voting"), validators, f"{kind} of {me % N} lost")
            first_voted = wiped.height
            if kind == "ledger":
                continue  # its chain and its votes are there: it makes the state again, and has no reason to abstain
            assert wiped.abstained, f"{kind}: it never said that it does not vote"
            assert first_voted > decided, f"{kind}: it votes at {first_voted}, and may have voted up to {decided + 1} before"
            assert "silent until" in wiped.logged(), f"{kind}: it did not say why it is silent"
            if kind == "pages":
                assert wiped.set_aside == 1 and "is damaged" in wiped.logged()
        promises = record.promises()
        await passed(validators, promises.last)
    finally:
        codes = await asyncio.gather(*(one.end() for one in validators))
        ports.close()
    assert codes == [0] * N
    assert record.lost(promises, [one.directory for one in validators], genesis) == (0, 0)
    assert not record.forked and not sum(one.equivocations for one in validators)
