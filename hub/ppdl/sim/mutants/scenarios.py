"""Scripted checks: each drives a few replicas by hand to the point at which one rule decides, and says what went wrong.

A check returns None when the rule holds. Validator i proposes in (height, view) when i = (height + view) % n, so view 0 of
height 1 belongs to validator 1.
"""

from __future__ import annotations

from dataclasses import replace

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import Broadcast, Complaint, Persist, Timeout, Tip
from hub.ppdl.consensus.messages import (
    Commit,
    Decided,
    Kind,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    QuorumCert,
    ViewChange,
)
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.consensus.votes import VIEW_WINDOW
from hub.ppdl.sim.model.bench import Bench, Member
from hub.ppdl.sim.model.standin import Chain

HEALING_ROUNDS = 12
FLOOD_VIEWS = 200


class Script(Bench):
    """A bench with messages made by hand."""

    def __init__(self, replica_class: type[Replica], validators: int = 4, numbers: tuple[int, ...] | None = None) -> None:
        super().__init__(Chain(validators), replica_class, numbers)
        self.start()

    def pre_prepare(self, sender: int, view: int, block: Block) -> PrePrepare:
        """A proposal."""
        return PrePrepare(view, block, self.chain.sign(sender, Kind.PRE_PREPARE, view, block.hash, block.height))

    def prepare(self, sender: int, view: int, block: Block) -> Prepare:
        """A PREPARE."""
        signature = self.chain.sign(sender, Kind.PREPARE, view, block.hash, block.height)
        return Prepare(block.height, view, block.hash, signature)

    def commit(self, sender: int, view: int, block: Block) -> Commit:
        """A COMMIT."""
        seal = self.chain.sign(sender, Kind.COMMIT, view, block.hash, block.height)
        return Commit(block.height, view, block.hash, seal)

    def decided(self, block: Block, signers: tuple[int, ...], view: int = 0) -> Decided:
        """A block with the seals of these validators."""
        return Decided(block, QuorumCert(view, tuple(self.commit(i, view, block).signature for i in signers)))

    def view_change(self, sender: int, view: int, cert: PreparedCert | None = None, block: Block | None = None) -> ViewChange:
        """A VIEW-CHANGE at height 1."""
        bare = ViewChange(1, view, cert, b"")
        return ViewChange(1, view, cert, self.chain.sign(sender, Kind.VIEW_CHANGE, view, bare.digest), block)

    def decided_by(self, number: int) -> int:
        """How many heights a member decided."""
        return len(self.members[number].decided)

    def refused(self, number: int) -> bool:
        """Whether a member complained of an invalid message."""
        return any(report.complaint is Complaint.INVALID for report in self.members[number].reports)

    def heal(self) -> bool:
        """Let everything through and timers run; whether all decide height 1."""
        for _ in range(HEALING_ROUNDS):
            self.deliver()
            if all(member.decided for member in self.members.values()):
                return True
            for _ in range(2):
                self.tick()
                self.deliver()
            self.fire_timers()
        return False


def _a_prepared_at_0(script: Script) -> None:
    """A is proposed in view 0 and only validator 0 collects a certificate for it."""
    script.propose(1, "A")
    script.deliver(lambda a, b, m: isinstance(m, PrePrepare) or (isinstance(m, Prepare) and b == 0))


def _b_prepared_in_view_1(script: Script, decides: bool) -> None:
    """View 1 opens without validator 0 and prepares a fresh block; with `decides` validator 3 decides it."""
    script.time_out(1, 2, 3)
    script.deliver(
        lambda a, b, m: (
            0 not in (a, b)
            and (isinstance(m, ViewChange | NewView | Prepare) or (decides and b == 3 and isinstance(m, Commit)))
        )
    )


def highest_certificate_wins(replica_class: type[Replica]) -> str | None:
    """A is prepared in view 0 at one validator; B is decided in view 1 by another that then vanishes. All follow B."""
    script = Script(replica_class)
    _a_prepared_at_0(script)
    _b_prepared_in_view_1(script, decides=True)
    if [script.decided_by(i) for i in range(4)] != [0, 0, 0, 1]:
        return "progress: view 1 does not decide"
    for _ in range(3):
        script.time_out(0, 1, 2)
        script.deliver(lambda a, b, m: 3 not in (a, b))
    return "agreement: two blocks are decided" if len(script.hashes()) > 1 else None


def split_certificates_still_decide(replica_class: type[Replica]) -> str | None:
    """One validator prepared A, two prepared B in a later view, the fourth is gone: the others must decide."""
    script = Script(replica_class)
    _a_prepared_at_0(script)
    _b_prepared_in_view_1(script, decides=False)
    del script.members[2]
    script.wire.clear()
    script.time_out(0, 1, 3)
    return None if script.heal() else "progress: the three validators that are left never decide"


def seals_of_one_view(replica_class: type[Replica]) -> str | None:
    """Three COMMITs for a block, each of another view, decide nothing."""
    script = Script(replica_class, numbers=(0,))
    block = script.chain.block(1, "A")
    script.hear(0, 1, script.pre_prepare(1, 0, block))
    for view, sender in enumerate((1, 2, 3)):
        script.hear(0, sender, script.commit(sender, view, block))
    return "agreement: a block is decided with COMMITs of three views" if script.decided_by(0) else None


def one_liar_drags_nobody(replica_class: type[Replica]) -> str | None:
    """A VIEW-CHANGE of one sender moves nobody to its view."""
    script = Script(replica_class, numbers=(0,))
    script.hear(0, 3, script.view_change(3, 7))
    return "progress: one sender drags a replica to view 7" if script.members[0].replica.view else None


def distinct_signers(replica_class: type[Replica]) -> str | None:
    """One seal three times is no quorum."""
    script = Script(replica_class, numbers=(0,))
    script.hear(0, 3, script.decided(script.chain.block(1, "A"), (3, 3, 3)))
    return "agreement: one validator alone makes a certificate" if script.decided_by(0) else None


def set_of_the_height(replica_class: type[Replica]) -> str | None:
    """Height 2 has validators 0 .. 3, height 3 has 1 .. 4: a block of height 2 is proved by the first only."""
    script = Script(replica_class, validators=5, numbers=())
    addresses = script.chain.addresses
    tip = Tip(1, bytes(32), 0, bytes(32), ValidatorSet(addresses[:4]), ValidatorSet(addresses[1:]))
    block = script.chain.block(1, "A", tip)
    for signers, proves in (((2, 3, 4), False), ((0, 1, 2), True)):
        replica = script.replica(0, tip)
        replica.start()
        script.members[0] = member = Member(replica)
        script.hear(0, 2, script.decided(block, signers))
        if bool(member.decided) != proves:
            return f"agreement: seals of {signers} {'do not prove' if proves else 'prove'} a block of height 2"
    return None


def no_block_without_certificate(replica_class: type[Replica]) -> str | None:
    """A peer offers a block that one validator sealed."""
    script = Script(replica_class, numbers=(0,))
    script.hear(0, 3, script.decided(script.chain.block(1, "A"), (3,)))
    return "agreement: a block is taken on a peer's word" if script.decided_by(0) else None


def decision_ends_view_change(replica_class: type[Replica]) -> str | None:
    """A replica that waits for a NEW-VIEW takes a decided block, and begins the next height in view 0."""
    script = Script(replica_class, numbers=(0,))
    script.time_out(0)
    script.hear(0, 3, script.decided(script.chain.block(1, "A"), (1, 2, 3)))
    replica = script.members[0].replica
    place = replica.height, replica.view, replica.state.active
    return None if place == (2, 0, True) else f"progress: the replica is left at (height, view, active) = {place}"


def next_height_starts_clean(replica_class: type[Replica]) -> str | None:
    """Two heights in a row decide in view 0, without a timer."""
    script = Script(replica_class)
    for height in (1, 2):
        script.propose(height % 4, f"block{height}")
        script.deliver()
        if any(script.decided_by(i) != height for i in range(4)):
            return f"progress: height {height} is not decided though nothing was lost"
    return None


def signature_binds_view(replica_class: type[Replica]) -> str | None:
    """COMMITs of view 0, relabelled as votes of view 1: as many as make their signatures matter."""
    script = Script(replica_class, numbers=(0,))
    for sender in (1, 2, 3):
        script.hear(0, sender, replace(script.commit(sender, 0, script.chain.block(1, "A")), view=1))
    return None if script.refused(0) else "replay: a COMMIT of view 0 is counted in view 1"


def signature_binds_height(replica_class: type[Replica]) -> str | None:
    """A COMMIT of height 2, relabelled as a vote of height 1."""
    script = Script(replica_class, numbers=(0,))
    block = script.chain.block(1, "A")
    seal = script.chain.sign(3, Kind.COMMIT, 0, block.hash, height=2)
    script.hear(0, 3, Commit(1, 0, block.hash, seal))
    return None if script.refused(0) else "replay: a COMMIT of another height is counted"


def signature_binds_kind(replica_class: type[Replica]) -> str | None:
    """A PREPARE's signature on a COMMIT."""
    script = Script(replica_class, numbers=(0,))
    vote = script.prepare(3, 0, script.chain.block(1, "A"))
    script.hear(0, 3, Commit(vote.height, vote.view, vote.digest, vote.signature))
    return None if script.refused(0) else "replay: a PREPARE is counted as a COMMIT"


def lost_log_is_silent(replica_class: type[Replica]) -> str | None:
    """A validator voted for A, lost its vote log, and is offered B in the same view."""
    script = Script(replica_class, numbers=(0,))
    script.hear(0, 1, script.pre_prepare(1, 0, script.chain.block(1, "A")))
    script.restart(0, keep_log=False)
    before = len(script.members[0].effects)
    script.hear(0, 1, script.pre_prepare(1, 0, script.chain.block(1, "B")))
    script.time_out(0)
    said = [effect for effect in script.members[0].effects[before:] if isinstance(effect, Persist)]
    return "double vote: a validator votes that does not know what it signed" if said else None


def late_new_view_is_ignored(replica_class: type[Replica]) -> str | None:
    """Validator 0 asked for view 2; the NEW-VIEW of view 1 comes late. Its VIEW-CHANGE promised no vote below view 2."""
    script = Script(replica_class)
    script.time_out(0, 1, 2, 3)
    script.deliver(lambda a, b, m: b == 2 and isinstance(m, ViewChange))
    new_view = script.members[2].replica.state.new_view
    if new_view is None:
        return "progress: view 1 does not open"
    script.time_out(0)
    before = len(script.members[0].effects)
    script.hear(0, 2, new_view)
    later = script.members[0].effects[before:]
    votes = [effect.message for effect in later if isinstance(effect, Broadcast) and isinstance(effect.message, Prepare)]
    return "agreement: a replica votes in a view that it left" if votes else None


def forged_certificate_is_refused(replica_class: type[Replica]) -> str | None:
    """A VIEW-CHANGE with a certificate that its sender signed alone, three times over."""
    script = Script(replica_class, numbers=(2,))
    block = script.chain.block(3, "forged")
    vote = script.prepare(3, 0, block).signature
    cert = PreparedCert(0, block.header, (vote, vote, vote))
    script.hear(2, 3, script.view_change(3, 1, cert, block))
    return None if script.refused(2) else "validity: a forged certificate is believed"


def votes_of_far_views_are_dropped(replica_class: type[Replica]) -> str | None:
    """One sender votes in many views; memory stays bounded."""
    script = Script(replica_class, numbers=(0,))
    block = script.chain.block(1, "A")
    for view in range(FLOOD_VIEWS):
        script.hear(0, 3, script.prepare(3, view, block))
    kept = len(script.members[0].replica.state.prepares)
    return f"memory: {kept} votes of one sender are kept" if kept > 2 * VIEW_WINDOW + 1 else None


def idle_proposer_is_suspected(replica_class: type[Replica]) -> str | None:
    """The proposer of view 0 never speaks; nothing else happens."""
    script = Script(replica_class, numbers=(0, 2, 3))
    return None if script.heal() else "progress: a silent proposer is never passed over"


def nobody_runs_ahead_alone(replica_class: type[Replica]) -> str | None:
    """One replica alone suspects the proposer; its timer for the next view waits for a quorum."""
    script = Script(replica_class, numbers=(0,))
    script.members[0].timer = None
    script.time_out(0)
    return "progress: a replica alone counts down in view 1" if script.members[0].timer == Timeout(1, 1) else None
