"""Configuration text for simulators."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "edge"))

from edge_kit import processes  # noqa: E402

from firmware_sim.pytest_plugin import openmg_meter, openmg_microgrid  # noqa: E402

__all__ = ["openmg_meter", "openmg_microgrid", "processes"]

T0 = 1_781_485_200


@pytest.fixture
def sim_file(tmp_path: Path, free_port: Callable[[], int]) -> Callable[..., tuple[Path, dict[str, int]]]:
    """Writes a configuration of `homes` homes and a feeder; returns its path and the ports by name."""

    def write(homes: int = 3, speed: float = 1.0, extra: str = "", history_days: int = 2) -> tuple[Path, dict[str, int]]:
        names = [f"home-{i + 1}" for i in range(homes)]
        ports = {name: free_port() for name in (*names, "feeder-1")}
        lines = [f"[clock]\nt0 = {T0}\nw0 = {time.time()}\nspeed = {speed}\n"]
        lines.append(f"[sim]\nseed = 4\nhistory_days = {history_days}\n{extra}\n")
        for i, name in enumerate(names):
            kind, peak = (("prosumer", 3000), ("consumer", 0), ("producer", 9000))[i % 3]
            lines.append(f'[[home]]\nname = "{name}"\nkind = "{kind}"\nmicrogrid = 1\nseed = {i + 11}\n')
            lines.append(f"port = {ports[name]}\npv_peak_w = {peak}\n")
        lines.append(f'[[feeder]]\nname = "feeder-1"\nmicrogrid = 1\nport = {ports["feeder-1"]}\n')
        path = tmp_path / "sim.toml"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path, ports

    return write
