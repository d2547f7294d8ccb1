"""The tests here use the small application and chain of tests/ppdl."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(TESTS), str(TESTS / "ppdl")) if path not in sys.path]
