"""What a user may ask of `openmg demo`, checked before anything is started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hub.ingest.partition import MAX_GROUP_SIZE
from openmg.learning.plan import MIN_PRIVATE_PARTICIPANTS
from openmg.learning.secure.graph import FULL_GRAPH_MEMBERS
from openmg.masking import DEFAULT_GROUP, MIN_GROUP
from openmg.mqtt import MqttAddress

DEFAULT_START = 1_781_485_200
"""2026-06-15 10:00 in Seoul, a Monday: when the virtual clock starts."""
PRIVATE_START = DEFAULT_START + 8 * 3600
"""18:00 of that day: some roofs still export, and elsewhere dinner takes more than a lot in a slot."""
MAX_HOMES = 120
MAX_VALIDATORS = 16
PUBLIC, PRIVATE = "public", "private"
SLOT_SECONDS = {PUBLIC: 4.0, PRIVATE: 20.0}
"""Wall seconds of a slot at least, where none are given: on the private market a home proves two to four statements a slot."""
HOMES_OF_A_PROCESSOR = 6
"""More homes than that for each processor, and a slot where none is given is longer in that proportion."""
COMMITTEE_SIZE = 2
"""Of as few as five homes; three of four of the others must take part in a learning round."""
NO_PRIVACY, SUMS_ONLY = "none", "secagg"
"""Of learning rounds: updates in clear, or only their sum is opened. Noise is for many more homes than a demo has."""
HOMES_FOR_SUMS = MIN_PRIVATE_PARTICIPANTS + COMMITTEE_SIZE, FULL_GRAPH_MEMBERS + COMMITTEE_SIZE
HOMES_FOR_TWO_MICROGRIDS = 10
"""A group needs at least five homes (openmg.masking.MIN_GROUP)."""


def usual_slot_seconds(market: str, homes: int, processors: int) -> float:
    """Wall seconds in which so many homes do a slot's work here; 0 for a market that there is not."""
    return SLOT_SECONDS.get(market, 0.0) * max(1.0, homes / (HOMES_OF_A_PROCESSOR * processors))


class DemoError(Exception):
    """The demo cannot go on; one sentence says why and what to do."""


@dataclass(frozen=True)
class DemoOptions:
    """The command line of the demo."""

    homes: int = 12
    validators: int = 4
    slots: int = 8
    slot_seconds: float = 4.0
    data: Path | None = None
    headless: bool = False
    report: Path | None = None
    state: Path | None = None
    port: int = 8600
    seed: int = 1
    prover: str = "auto"
    mqtt: str | None = None
    market: str = PUBLIC
    privacy: str = NO_PRIVACY
    group_size: int = DEFAULT_GROUP

    def __post_init__(self) -> None:
        if self.market not in SLOT_SECONDS:
            raise DemoError(f"--market is {self.market!r}; choose {PUBLIC} or {PRIVATE}")
        if self.privacy not in (NO_PRIVACY, SUMS_ONLY):
            raise DemoError(f"--privacy is {self.privacy!r}; choose {NO_PRIVACY} or {SUMS_ONLY}")
        least, most = (5, MAX_HOMES) if self.privacy == NO_PRIVACY else HOMES_FOR_SUMS
        self._between("--homes", self.homes, least, most)
        self._between("--validators", self.validators, 3, MAX_VALIDATORS)
        self._between("--slots", self.slots, 0, 100_000)
        self._between("--slot-seconds", self.slot_seconds, 2, 900)
        self._between("--port", self.port, 0, 65535)
        self._between("--group-size", self.group_size, MIN_GROUP, MAX_GROUP_SIZE)
        if self.prover not in ("auto", "native", "portable"):
            raise DemoError(f"--prover is {self.prover!r}; choose native or portable")
        if self.data is not None and not self.data.is_file():
            raise DemoError(f"--data {self.data} is not a file; give a CSV whose first column is time")
        if self.report is not None and (self.report.is_dir() or not os.access(self.report.absolute().parent, os.W_OK)):
            raise DemoError(f"--report {self.report} cannot be written; give a file in a folder that exists")
        if self.state is not None and self.state.exists() and not self.state.is_dir():
            raise DemoError(f"--state {self.state} is not a folder; give one that is empty or does not exist yet")
        if self.mqtt is not None:
            try:
                MqttAddress.parse(self.mqtt)
            except ValueError as error:
                raise DemoError(f"--mqtt: {error}") from error

    @staticmethod
    def _between(option: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise DemoError(f"{option} is {value:g}; it must be from {low:g} to {high:g}")

    @property
    def microgrids(self) -> int:
        return 2 if self.homes >= HOMES_FOR_TWO_MICROGRIDS else 1

    @property
    def private(self) -> bool:
        """Whether homes trade energy by proofs."""
        return self.market == PRIVATE

    @property
    def start(self) -> int:
        """Unix seconds of the first slot."""
        return PRIVATE_START if self.private else DEFAULT_START

    @property
    def speed(self) -> float:
        """Simulated seconds per wall second."""
        return 900 / self.slot_seconds

    @property
    def endless(self) -> bool:
        """Runs until Ctrl-C instead of a number of slots."""
        return self.slots == 0

    def microgrid_of(self, home: int) -> int:
        """Microgrid (1 or 2) of a home (1..homes): the first half in MG1, the rest in MG2."""
        return 1 if self.microgrids == 1 or home <= self.homes // 2 else 2
