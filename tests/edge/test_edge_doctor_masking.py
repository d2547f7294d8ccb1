"""`openmg-agent doctor` on what the hub was refused, from the file in which a home remembers it."""

from __future__ import annotations

from pathlib import Path

import pytest
from edge_kit import agent_toml

from edge_agent import doctor_masking
from edge_agent.agent import load_device_key
from edge_agent.config import AgentConfig
from edge_agent.doctor_finding import CheckFailed
from edge_agent.masking.promises import Promises
from edge_agent.reporting import Reporter
from edge_agent.slot_prover import slot_prover
from edge_agent.store import Store
from openmg.config import load_toml


def config_in(folder: Path, role: str = "home") -> AgentConfig:
    return load_toml(agent_toml(folder, 1, "mqtt://127.0.0.1:1", role=role), AgentConfig)


async def test_refusals_are_told_by_reason_with_what_to_do(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    assert await doctor_masking.refusals(config) == "the hub was refused nothing"
    assert not config.promises_path.exists()
    promises = Promises(config.promises_path)
    assert await doctor_masking.refusals(config) == "the hub was refused nothing"
    promises.refuse("absent")
    promises.refuse("absent")
    assert "2 times it left this home out" in await doctor_masking.refusals(config)
    promises.refuse("second")
    with pytest.raises(
        CheckFailed, match=r"1 times it asked for one slot .* \(second\); 2 times .* \(absent\); ask the operator"
    ):
        await doctor_masking.refusals(config)
    assert promises.refusals() == {"absent": 2, "second": 1}  # looking changes nothing
    promises.close()
    config.promises_path.write_bytes(b"no database, but as long as the header of one " * 9)
    with pytest.raises(CheckFailed, match="cannot be read"):
        await doctor_masking.refusals(config)


async def test_a_feeder_remembers_nothing_because_it_masks_nothing(tmp_path: Path) -> None:
    config = config_in(tmp_path, "feeder")
    store = Store(config.store_path)
    reporter = Reporter(config, load_device_key(config), store, slot_prover(config))
    assert reporter.report_due() == 0 and reporter.has_roster and not reporter.lacks_roster()
    reporter.close()
    store.close()
    assert not config.promises_path.exists()
    assert "nothing to refuse" in await doctor_masking.refusals(config)
