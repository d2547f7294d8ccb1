"""The brokers, processes and configurations of the data path's tests, for the tests of masked slots."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(TESTS / "edge"), str(TESTS / "ppdl")]

from edge_kit import broker, hubs, processes  # noqa: E402

__all__ = ["broker", "hubs", "processes"]
