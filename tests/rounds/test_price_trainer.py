"""One hub as a trainer of prices, block by block: what it says in each phase, when it says it again, and after a restart."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from price_world import PLACE, PRICES, TRAINER_KEYS, TRAINERS, price_genesis
from round_world import CHAIN_ID, GENESIS_MS, VALIDATORS

from hub.learning.price_trainer import RESEND_BLOCKS, PriceTrainer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.genesis_state import AppGenesis
from hub.ppdl.app.transactions import KIND_COMMIT, KIND_EVALUATION, decode_tx
from hub.ppdl.application import BlockCtx
from openmg.learning.blobs import blob_hash, commitment_of, open_blob

NAME = PRICES.spec.short_name


class Replica:
    """A chain of one replica, and what a hub's trainer hands in to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.app = folder, PpdlApplication(folder / "app.sqlite")
        self.app.init_chain(price_genesis())
        self.txs: list[bytes] = []
        self.shown: list[tuple[bytes, bytes, int, bytes]] = []

    async def submit(self, tx: bytes) -> bytes:
        self.txs.append(tx)
        return tx

    def trainer(self, number: int = 0) -> PriceTrainer:
        """The trainer of a hub, as it is when the hub starts."""
        folder = self.folder / f"hub-{number}"
        folder.mkdir(exist_ok=True)
        genesis = AppGenesis.decode(price_genesis().app_state)
        return PriceTrainer(
            PRICES,
            genesis,
            partial(self.app.duties, PLACE),
            lambda path: self.app.query(path, b""),
            lambda *said: self.shown.append(said),
            self.submit,
            CHAIN_ID,
            TRAINER_KEYS[number],
            folder,
        )

    def taken(self) -> list[bytes]:
        """What was handed in since the last call."""
        said, self.txs = self.txs, []
        return said

    def block(self, *txs: bytes) -> None:
        height = self.app.info().last_height + 1
        result = self.app.finalize_block(BlockCtx(height, GENESIS_MS + height, VALIDATORS[0]), txs)
        assert all(item.ok for item in result.tx_results)
        self.app.commit()

    @property
    def phase(self) -> str:
        duties = self.app.duties(PLACE)
        assert duties is not None
        return duties.phase


@pytest.fixture
def replica(tmp_path: Path):
    made = Replica(tmp_path)
    yield made
    made.app.close()


async def test_it_says_its_part_and_again_while_the_chain_lacks_it(replica: Replica) -> None:
    trainer = replica.trainer()
    await trainer.step()
    first = replica.taken()
    assert [decode_tx(tx).kind for tx in first] == [KIND_EVALUATION, KIND_COMMIT]
    assert all(replica.app.check_tx(tx).ok for tx in first)
    for _ in range(RESEND_BLOCKS - 1):
        replica.block()
        await trainer.step()
        assert replica.taken() == []
    replica.block()
    await trainer.step()
    assert replica.taken() == first, "the same bytes"
    replica.block(*first)
    for _ in range(RESEND_BLOCKS):
        replica.block()
        await trainer.step()
    assert replica.taken() == [] and replica.shown == []


async def test_what_it_promised_is_shown_by_the_hub_that_comes_back(replica: Replica) -> None:
    for number in range(3):
        await replica.trainer(number).step()
    replica.block(*replica.taken())
    while replica.phase == "commit":
        replica.block()
    duties = replica.app.duties(PLACE)
    assert duties is not None and replica.phase == "reveal" and len(duties.commits) == 3
    for number in (0, 3):  # the last one promised nothing
        await replica.trainer(number).step()
    ((device, name, round_number, blob),) = replica.shown
    assert (device, name, round_number) == (TRAINERS[0], NAME, 0)
    commitment = next(commit.commitment for commit in duties.commits if commit.device == device)
    assert commitment_of(device, 0, duties.model.model_hash, blob_hash(blob)) == commitment
    assert open_blob(PRICES, blob).any()


async def test_a_disk_that_refuses_costs_the_round_and_is_said(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openmg.member.pending.replace_durably", full)
    await replica.trainer().step()
    assert replica.taken() == [], "no commitment to what is not durable"
    assert "No space left on device; this hub sits it out" in caplog.text
