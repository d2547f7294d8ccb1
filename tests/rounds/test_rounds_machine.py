"""The round's state machine against a plain model of it: random words of meters and validators, in random blocks.

The model keeps Python sets and counts heights; it knows the rules as docs/LEARNING.md tells them and shares no code with the
application. Every transaction's fate, every phase's end and every included set must be as the model says.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from round_world import METERS, PLAN, VALIDATOR_KEYS, VALIDATORS, Chain, blob_of

from hub.ppdl.app.verdicts import proposal_hash

N, QUORUM, FAULTY = 4, 3, 1
meters, validators = st.integers(0, len(METERS) - 1), st.integers(0, N - 1)


class Rounds(RuleBasedStateMachine):
    """Rules put transactions aside; `decide` makes a block of them and moves the model alike."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.chain = Chain(Path(self.folder.name) / "app.sqlite", dataclasses.replace(PLAN, epoch_rounds=1000))
        self.waiting: list[tuple[bytes, bool]] = []
        self.number, self.completed, self.refused, self.voided, self.opened = 0, 0, 0, 0, 0
        self.wrong: list[int] = []
        self.begin(0)

    def begin(self, height: int) -> None:
        self.phase, self.since, self.opened = "commit", height, height
        self.attempt = 0
        self.commits: set[int] = set()
        self.votes: dict[int, tuple[frozenset[int], frozenset[int]]] = {}
        self.voted_now: set[int] = set()
        self.included: set[int] = set()
        self.proposal: tuple[bool, bytes] | None = None
        self.words: dict[int, bool] = {}
        self.ballots: dict[int, bool] = {}

    # Words

    @property
    def members(self) -> set[int]:
        return {i for i, meter in enumerate(METERS) if meter.address in self.chain.state.round.committee}

    @initialize(stage=st.sampled_from(("commit", "reveal", "aggregate", "proposed", "committee")), right=st.booleans())
    def advance(self, stage: str, right: bool) -> None:
        """Begin anywhere: a random walk alone seldom leaves the first phases."""
        steps = {
            "reveal": lambda: self.many_commit(7),
            "aggregate": lambda: self.vote_for_all(N),
            "proposed": lambda: self.leader_proposes(right or stage == "committee"),
            "committee": self.honest_words,
        }
        for name, step in steps.items():
            if stage == "commit":
                return
            step()
            self.let_time_pass(2 if name == "reveal" else 1)
            if name == stage:
                return

    def say(self, tx: bytes, fits: bool) -> None:
        self.waiting.append((tx, fits))

    @rule(who=meters)
    def commit(self, who: int) -> None:
        out = METERS[who].address in self.chain.state.round.left_out
        fits = self.phase == "commit" and who not in self.commits and who not in self.members and not out
        blob = blob_of(1 + who)
        self.say(self.chain.commit(METERS[who], blob), fits)
        if fits:
            self.commits.add(who)
            self.chain.blobs[METERS[who].address] = blob

    @precondition(lambda self: self.phase == "commit" and len(self.commits) < PLAN.min_participants)
    @rule(count=st.integers(4, 7))
    def many_commit(self, count: int) -> None:
        for meter in self.chain.trainers(count):
            self.commit(METERS.index(meter))

    @precondition(lambda self: self.phase == "reveal")
    @rule(who=validators, data=st.data())
    def vote(self, who: int, data: st.DataObject) -> None:
        devices = sorted(self.commits)
        present = frozenset(data.draw(st.sets(st.sampled_from(devices))))
        malformed = frozenset(data.draw(st.sets(st.sampled_from(devices), max_size=1))) - present
        self.give_vote(who, present, malformed)

    @precondition(lambda self: self.phase == "reveal")
    @rule(count=st.integers(2, N))
    def vote_for_all(self, count: int) -> None:
        for who in range(count):
            self.give_vote(who, frozenset(self.commits), frozenset())

    def give_vote(self, who: int, present: frozenset[int], malformed: frozenset[int]) -> None:
        before = self.votes.get(who)
        fits = who not in self.voted_now and (
            before is None or (before[0] <= present and before[1] <= malformed and before != (present, malformed))
        )
        names = [METERS[i].address for i in present], [METERS[i].address for i in malformed]
        self.say(self.chain.vote(VALIDATOR_KEYS[who], *names), fits)
        if fits:
            self.votes[who] = (present, malformed)
            self.voted_now.add(who)

    @precondition(lambda self: self.phase == "aggregate")
    @rule(who=validators, right=st.booleans())
    def propose(self, who: int, right: bool) -> None:
        proposal = self.chain.right() if right else self.chain.wrong()
        fits = self.proposal is None and who == (self.number + self.attempt) % N
        self.say(self.chain.duty(proposal, VALIDATOR_KEYS[who]), fits)
        if fits:
            self.proposal, self.words = (right, proposal_hash(proposal)), {who: True}

    @precondition(lambda self: self.phase == "aggregate")
    @rule(who=validators, ok=st.booleans())
    def give_word(self, who: int, ok: bool) -> None:
        digest = self.proposal[1] if self.proposal else bytes(32)
        fits = self.proposal is not None and who not in self.words
        self.say(self.chain.verdict(VALIDATOR_KEYS[who], ok, digest), fits)
        if fits:
            self.words[who] = ok

    @precondition(lambda self: self.phase == "aggregate" and self.proposal is not None)
    @rule()
    def honest_words(self) -> None:
        """Everybody says what is true of the proposal."""
        for who in range(N):
            if who not in self.words:
                self.give_word(who, self.proposal is not None and self.proposal[0])

    @precondition(lambda self: self.phase == "aggregate" and self.proposal is None)
    @rule(right=st.booleans())
    def leader_proposes(self, right: bool) -> None:
        self.propose((self.number + self.attempt) % N, right)

    @precondition(lambda self: self.phase == "committee")
    @rule(who=meters, worse=st.booleans())
    def cast(self, who: int, worse: bool) -> None:
        fits = who in self.members and who not in self.ballots
        self.say(self.chain.ballot(METERS[who], 500_000, 600_000 if worse else 500_000), fits)
        if fits:
            self.ballots[who] = worse

    # Blocks

    @rule()
    def decide(self) -> None:
        txs, fates = zip(*self.waiting, strict=True) if self.waiting else ((), ())
        self.waiting = []
        result = self.chain.block(*txs)
        assert [one.ok for one in result.tx_results] == list(fates), [one.reason for one in result.tx_results]
        self.end_block(self.chain.height)

    @rule(count=st.integers(1, 4))
    def let_time_pass(self, count: int) -> None:
        for _ in range(count):
            self.decide()

    def end_block(self, height: int) -> None:
        self.voted_now = set()
        age = height - self.since
        if self.phase == "commit" and age >= PLAN.commit_blocks:
            if len(self.commits) >= PLAN.min_participants:
                self.phase = "reveal"
            elif height - self.opened >= PLAN.max_round_blocks:
                return self.close("void", height)
            self.since = height
        elif self.phase == "reveal":
            tally = [[d for vote in self.votes.values() for d in vote[kind]] for kind in (0, 1)]
            good, bad = ({d for d in t if t.count(d) >= QUORUM} for t in tally)
            if age >= PLAN.reveal_blocks or len(good | bad) == len(self.commits):
                self.included = good
                if len(good) < PLAN.min_participants:
                    return self.close("void", height)
                self.phase, self.since = "aggregate", height
        elif self.phase == "aggregate":
            self.end_attempt(height, age)
        elif self.phase == "committee" and (age >= PLAN.committee_blocks or len(self.ballots) == PLAN.committee_size):
            worse = sum(self.ballots.values())
            enough = len(self.ballots) >= PLAN.committee_quorum
            return self.close("refused" if enough and 2 * worse > len(self.ballots) else "learnt", height)
        return None

    def end_attempt(self, height: int, age: int) -> None:
        oks = sum(self.words.values())
        if oks >= QUORUM:
            self.phase, self.since = "committee", height
            return
        down = len(self.words) - oks > FAULTY
        if not down and age < PLAN.aggregate_blocks:
            return
        if down:
            self.wrong.append((self.number + self.attempt) % N)
        self.attempt, self.since, self.proposal, self.words = self.attempt + 1, height, None, {}
        if self.attempt == PLAN.max_attempts:
            self.close("void", height)

    def close(self, outcome: str, height: int) -> None:
        event(f"a round ended as {outcome} in its phase {self.phase}")
        self.number += 1
        self.completed += outcome == "learnt"
        self.refused += outcome == "refused"
        self.voided += outcome == "void"
        self.begin(height)

    # What must always hold

    @invariant()
    def chain_and_model_agree(self) -> None:
        now = self.chain.state.round
        if self.waiting:
            return
        assert (now.number, now.phase, now.phase_height) == (self.number, self.phase, self.since)
        assert (now.completed, now.refused, now.voided) == (self.completed, self.refused, self.voided)
        assert now.attempt == self.attempt
        assert {METERS[i].address for i in self.included} == set(now.included)
        assert [w.validator for w in self.chain.state.wrong_aggregates] == [VALIDATORS[i] for i in self.wrong]

    @invariant()
    def lists_are_sorted_and_records_follow_each_other(self) -> None:
        state = self.chain.state
        for devices in ([c.device for c in state.commits], [b.device for b in state.ballots], list(state.round.included)):
            assert devices == sorted(set(devices))
        pairs = itertools.pairwise(state.records)
        assert all(
            a.number + 1 == b.number and a.model_hash == b.base_hash and a.closed_height == b.opened_height for a, b in pairs
        )

    def teardown(self) -> None:
        self.chain.close()
        self.folder.cleanup()


TestRounds = Rounds.TestCase
TestRounds.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
