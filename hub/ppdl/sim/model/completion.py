"""Fair completion: from one state on, the network heals, the Byzantine validator is silent, timers run. All must decide.

Rounds: everything ever said reaches everybody; two pulses, so that lost parts of the conversation are repeated; then every
timer that is set runs out. Views go on beyond the bound of the search.
"""

from __future__ import annotations

from hub.ppdl.consensus.effects import Timeout
from hub.ppdl.sim.model.bench import Bench, Endless, Member
from hub.ppdl.sim.model.local import HEIGHT, Instance, Soup
from hub.ppdl.sim.model.standin import Chain

MAX_ROUNDS = 16  # an honest proposer follows within f + 1 views; the rest is for replicas that are views apart


class Completion:
    """Completes states of one search."""

    def __init__(self, chain: Chain, honest: list[Instance], soup: Soup) -> None:
        self._chain, self._honest, self._soup = chain, honest, soup

    def failure(self, locals_: list[int]) -> str | None:
        """Why the honest replicas do not all decide one block, or None."""
        bench = self._bench(locals_)
        try:
            for _ in range(MAX_ROUNDS):
                bench.deliver()
                if all(member.decided for member in bench.members.values()):
                    break
                bench.tick()
                bench.tick()
                bench.deliver()
                self._time_passes(bench)
        except (Endless, AssertionError) as error:
            return f"progress: the healed network fails: {error!r}"
        if len(bench.hashes()) > 1:
            return "agreement: honest replicas decide two blocks when the network heals"
        waiting = [number for number, member in bench.members.items() if not member.decided]
        if waiting:
            return f"progress: validators {waiting} do not decide within {MAX_ROUNDS} rounds of a healed network"
        return None

    def _bench(self, locals_: list[int]) -> Bench:
        """Replicas that go on from their local states, and everything that the honest have said, under way to all."""
        bench = Bench(self._chain, numbers=())
        for instance, number in zip(self._honest, locals_, strict=True):
            local = instance.locals[number]
            member = Member(instance.resumed(local), local.disk.copy())
            if member.replica.state.active:
                member.timer = Timeout(HEIGHT, member.replica.view)
            bench.members[instance.number] = member
        for instance, number in zip(self._honest, locals_, strict=True):
            for token in sorted(instance.locals[number].said, key=repr):
                message = self._soup.messages[(instance.number, token)]
                bench.wire += [(instance.number, other, message) for other in bench.members if other != instance.number]
        return bench

    def _time_passes(self, bench: Bench) -> None:
        """Timers of replicas that still work on the height."""
        for number, member in bench.members.items():
            timer, member.timer = member.timer, None
            if timer is not None and not member.decided:
                bench.step(number, timer)
