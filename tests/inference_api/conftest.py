"""Fixtures of the inference tests: ten weeks of past, and models of it that a real child process has trained, once a run."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ppdl"))

from forecast_world import END_HOUR, MICROGRIDS, PAST_HOURS, Api, Chain, Trained, past_csv, price_of, serving, task_of

from hub.inference.history import SOURCE_IMPORTED, HistoryStore
from hub.inference.models import DEMAND, GENERATION, KeptModel, ModelKey
from hub.inference.past_file import read_past
from hub.inference.trainer_job import train_in_child


@pytest.fixture(scope="session")
def past_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten weeks of both microgrids, and of microgrid 1's prices, which follow the hour's net energy."""
    folder = tmp_path_factory.mktemp("past")
    past = read_past(past_csv(folder / "past.csv"), 9)
    history = HistoryStore(folder / "history.sqlite")
    for microgrid in MICROGRIDS:
        history.add_hours(microgrid, past.hours, SOURCE_IMPORTED)
    with history._db.transaction() as db:  # 6,720 slots in one transaction instead of as many
        slots = range(4 * (END_HOUR - PAST_HOURS), 4 * END_HOUR)
        db.executemany("INSERT INTO prices VALUES (1, ?, ?)", [(slot, price_of(slot)) for slot in slots])
    history.close()
    return folder / "history.sqlite"


@pytest.fixture(scope="session")
def trained(past_file: Path) -> Trained:
    history = HistoryStore(past_file)
    keys = [ModelKey(DEMAND, 1, horizon) for horizon in (24, 48, 72)]
    keys.append(ModelKey(GENERATION, 1, 24))

    async def train() -> dict[ModelKey, KeptModel]:
        return {key: await train_in_child(task_of(history, key)) for key in keys}

    models = asyncio.run(train())
    history.close()
    return Trained(past_file, models)


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def history_file(past_file: Path, tmp_path: Path) -> Path:
    """A copy of the past that a test may change."""
    return Path(shutil.copy(past_file, tmp_path / "history.sqlite"))


@pytest.fixture
async def api(trained: Trained, history_file: Path, chain: Chain, tmp_path: Path) -> AsyncIterator[Api]:
    """An API with models of microgrid 1 and none of microgrid 2."""
    async with serving(tmp_path, chain, history_file, trained.models, fee_wei=7) as running:
        yield running


@pytest.fixture
def hub_toml(tmp_path: Path) -> Callable[..., Path]:
    """A hub's configuration with [inference]; the text given is added to that section."""

    def write(section: str = "") -> Path:
        path = tmp_path / "hub.toml"
        path.write_text(
            '[hub]\nname = "hub-1"\nkey_file = "hub.key"\nstate_dir = "state"\nroles = ["ingest", "inference"]\n'
            '[ppdl]\ngenesis_file = "genesis.json"\nlisten = "127.0.0.1:7101"\n'
            '[chains]\nroot_url = "http://127.0.0.1:1"\nplasma_url = "http://127.0.0.1:2"\ndeployment_file = "d.json"\n'
            '[mqtt]\nurl = "mqtt://127.0.0.1:1883"\n[zk]\ndemo = true\n'
            f'[inference]\n{section}\n[[device]]\nname = "home-1"\naddress = "0x{"11" * 20}"\nmicrogrid = 1\n'
        )
        return path

    return write
