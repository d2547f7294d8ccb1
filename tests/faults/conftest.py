"""Worlds of the fault matrix, ended with everything in them however a test does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(TESTS / name) for name in ("edge", "enrolment", "firmware_sim", "masking")]

from edge_kit import Broker, Processes, mosquitto, processes  # noqa: E402
from enrol_kit import operator, server, tls_broker  # noqa: E402
from faults_kit import Keeper, World  # noqa: E402

__all__ = ["operator", "processes", "server", "tls_broker"]


@pytest.fixture
def keeper(free_port: Callable[[], int], tmp_path: Path, processes: Processes) -> Broker:
    """A mosquitto with a database; amqtt, which has none, where mosquitto is not installed."""
    place = free_port(), tmp_path, processes
    made = Keeper(*place) if mosquitto() is not None else Broker("amqtt", *place)
    made.start()
    return made


@pytest.fixture
def make_world(tmp_path: Path, processes: Processes) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(broker: Broker, **options: Any) -> World:
        made.append(World(tmp_path, processes, broker, **options))
        return made[-1]

    yield make
    for world in made:
        world.close()
