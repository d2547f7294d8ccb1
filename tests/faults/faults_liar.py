"""A hub that lies to real agents over a real broker: it has the operator's key, and shows rosters and sets as it likes.

Seven agents, whose configuration names a utility that approved each of them. Everything that anybody says is recorded.
Not here: the lies (`test_faults_attacks`), what follows from what was said (`faults_view`).
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import time
from collections.abc import Callable, Iterable

from edge_kit import CHAIN_ID, OPERATOR_KEY, wait_for
from faults_kit import PATIENCE_S, World
from faults_view import Recorder
from home_kit import approved

from openmg.identity import DeviceKey
from openmg.masking import make_roster, roster_id
from openmg.masking.survivors import set_of
from openmg.messages import base, topics
from openmg.messages.slot_opening import OpeningNotice, SlotOpening
from openmg.messages.telemetry import Ack, Roster, RosterMember
from openmg.survivors import is_signed

MEMBERS = tuple(f"home-{i}" for i in range(1, 8))
PAUSE_S = 0.2
"""Between looks at what was heard: the meters are served by this process, too."""


class LyingHub:
    """The hub's side of every conversation, played by a test."""

    def __init__(self, world: World, seen: Recorder) -> None:
        self.world, self.seen = world, seen
        self._acknowledged: dict[str, int] = {}
        self.keys: dict[str, DeviceKey] = {name: agent.key for name, agent in world.agents.items()}

    def _say(self, topic: str, message: base.Message) -> None:
        assert self.seen.link.publish(topic, base.sign(message, CHAIN_ID, OPERATOR_KEY))

    # Rosters

    def members(self, names: Iterable[str]) -> list[RosterMember]:
        return [approved(self.keys[name], name) for name in names]

    def show(self, roster: Roster) -> None:
        """Publishes a roster."""
        self._say(topics.roster(1, 0), roster)

    def roster(self, names: Iterable[str] = MEMBERS, ahead: int = 2) -> Roster:
        """A roster of these homes, shown: it begins with the slot after the next."""
        made = make_roster(1, self.world.clock.slot() + ahead, self.members(names))
        self.show(made)
        return made

    # Reports

    def reports(self, roster: Roster, slot: int) -> dict[str, bytes]:
        """Self commitments of the reports of a slot under a roster, by device."""
        place = roster_id(roster), slot
        found = (report for report, _shares in self.seen.reports() if (report.roster_id, report.slot) == place)
        return {report.device: report.self_commitment for report in found}

    def hear(self, *groups: tuple[Roster, Iterable[str]]) -> tuple[int, dict[str, bytes]]:
        """Waits for a slot that all of these homes reported under their roster; it, and their self commitments.

        A home that was held up may have missed the rosters' first one. Acknowledges what comes meanwhile.
        """
        wanted = [(roster, frozenset(names)) for roster, names in groups]
        whole: list[int] = []

        def complete() -> bool:
            time.sleep(PAUSE_S)
            self._acknowledge()
            said: dict[tuple[bytes, int], set[str]] = {}
            for report, _shares in self.seen.reports():
                said.setdefault((report.roster_id, report.slot), set()).add(report.device)
            slots = {slot for _roster, slot in said}
            whole[:] = [s for s in sorted(slots) if all(names <= said.get((roster_id(r), s), set()) for r, names in wanted)]
            return bool(whole)

        wait_for(complete, PATIENCE_S)
        found: dict[str, bytes] = {}
        for roster, names in wanted:
            found |= {name: self.reports(roster, whole[0])[name] for name in names}
        return whole[0], found

    def _acknowledge(self) -> None:
        seqs: dict[str, int] = {}
        for report, _shares in self.seen.reports():
            seqs[report.device] = max(report.seq, seqs.get(report.device, 0))
        for name, seq in seqs.items():
            if seq > self._acknowledged.get(name, 0):
                self._acknowledged[name] = seq
                self._say(topics.ack(name), Ack(name, seq))

    # Sets

    def notice(
        self, roster: Roster, slot: int, said: dict[str, bytes], signed: dict[str, bytes] | None = None
    ) -> OpeningNotice:
        """The set of those in `said`, with these signatures."""
        by_address = {self.keys[name].address: commitment for name, commitment in said.items()}
        signers = {self.keys[name].address: signature for name, signature in (signed or {}).items()}
        chosen, signing = sorted(by_address), sorted(signers)
        return OpeningNotice(
            roster_id(roster), slot, tuple(chosen), tuple(by_address[a] for a in chosen),
            tuple(signing), tuple(signers[a] for a in signing),
        )  # fmt: skip

    def ask(self, notice: OpeningNotice) -> None:
        self._say(topics.opening(1), notice)

    def answers(self, notice: OpeningNotice) -> dict[str, SlotOpening]:
        """The last answer of each device to this set."""
        names = {key.address: name for name, key in self.keys.items()}
        found = ((address, answer) for address, answer in self.seen.openings() if answer.roster_id == notice.roster_id)
        return {names[address]: answer for address, answer in found if _signed(notice, address, answer.signature)}

    def answered(self, notice: OpeningNotice, names: Iterable[str], keys: bool = True) -> dict[str, bytes]:
        """Asks, and waits until these have answered (with keys); their signatures."""
        wanted = set(names)
        self.ask(notice)
        wait_for(
            lambda: wanted <= {name for name, answer in self.answers(notice).items() if bool(answer.keys) == keys}, PATIENCE_S
        )
        return {name: answer.signature for name, answer in self.answers(notice).items()}

    def refused(self, kind: str, names: Iterable[str], lie: Callable[[], object]) -> None:
        """Tells the lie, and waits until each of these has counted a refusal of that kind."""
        names = tuple(names)
        before = {name: self.refusals(name).get(kind, 0) for name in names}
        lie()
        wait_for(lambda: all(self.refusals(name).get(kind, 0) > before[name] for name in names), PATIENCE_S)

    def refusals(self, name: str) -> dict[str, int]:
        path = self.world.agents[name].config.promises_path
        with contextlib.closing(sqlite3.connect(path, timeout=10.0)) as db:
            return dict(db.execute("SELECT kind, count FROM refusals").fetchall())


@functools.cache
def _signed(notice: OpeningNotice, address: bytes, signature: bytes) -> bool:
    """Whether it is that member's under the notice's set."""
    return is_signed(set_of(notice), CHAIN_ID, address, signature)
