"""Operators, enrolment servers and brokers for the tests of device certificates."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "edge"))

from edge_kit import hubs, processes  # noqa: E402
from enrol_kit import operator, server, tls_broker  # noqa: E402

__all__ = ["hubs", "operator", "processes", "server", "tls_broker"]
