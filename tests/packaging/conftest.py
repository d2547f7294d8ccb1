"""Brokers and processes of the data path's tests, for the tests of what is installed on a meter."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "edge"))

from edge_kit import broker, processes  # noqa: E402

__all__ = ["broker", "processes"]
