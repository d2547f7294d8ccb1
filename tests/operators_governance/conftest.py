"""The tests here use the small application of tests/ppdl and the operators of tests/ppdl_net."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in map(str, (TESTS, TESTS / "ppdl", TESTS / "ppdl_net")) if path not in sys.path]
