"""Twenty seconds of the soak: four processes, killed, robbed of unsynced writes, wiped."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from chain_maker import Chain, genesis
from typer.testing import CliRunner

from hub.ppdl.store import PpdlStore, initialise_store
from workbench.ppdl_soak.ledger import Ledger
from workbench.ppdl_soak.node import ledger_path, store_path
from workbench.ppdl_soak.record import Record
from workbench.ppdl_soak.run import soak
from workbench.ppdl_soak_cli import soak as command


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7])
def test_nothing_decided_is_lost_and_nothing_is_signed_twice(tmp_path: Path, seed: int) -> None:
    said: list[str] = []
    result = soak(20, seed, said.append, tmp_path / "soak")
    assert result.clean, (result, said)
    assert result.kills >= 2 and result.blocks >= 10 and result.transactions > 0
    assert said and set(result.row()) >= {"minutes", "kills", "lost_writes", "wipes", "blocks", "forks", "lost_blocks"}


def test_the_oracle_sees_a_fork_and_a_lost_block(tmp_path: Path) -> None:
    chain, record = Chain().grow(5), Record()
    initialise_store(store_path(tmp_path), genesis())
    store = PpdlStore(store_path(tmp_path), genesis())
    for block in chain.blocks[:4]:
        store.save_block(block)
    store.close()
    Ledger(ledger_path(tmp_path)).close()
    for block in chain.blocks:
        said = {"height": block.decided.height, "hash": block.decided.block.hash.hex(), "committed": []}
        record.hear(0, said)
    assert record.lost(record.promises(), [tmp_path], genesis()) == (1, 0) and not record.forked
    record.hear(1, {"height": 3, "hash": "00", "committed": ["aa"]})
    assert record.lost(record.promises(), [tmp_path], genesis()) == (1, 1) and record.forked == {3}


def test_the_command_says_what_is_wrong_with_its_options(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    (tmp_path / "file").write_text("")
    for options in (["--minutes", "0"], ["--state", str(tmp_path)]):
        done = CliRunner().invoke(app, options)
        assert done.exit_code == 2 and "Traceback" not in done.output
