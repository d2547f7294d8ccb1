"""The replica fed with any sequence of events: messages of all kinds from anybody, timers, answers, in legal order or not.

Four validators and a stranger whose key exists; all five keys are in the adversary's hands, the subject's own too, so far
more than f are faulty. What must hold all the same stands in `subject.py`.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.decoding import decode_message
from hub.ppdl.consensus.effects import (
    Advanced,
    Announced,
    Decide,
    Event,
    Propose,
    Proposed,
    Received,
    SetTimer,
    Tick,
    Timeout,
    Tip,
    Validate,
    Validated,
)
from hub.ppdl.consensus.messages import Commit, Kind, Message, MessageError, Prepare, encode_message
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.reading import read_message
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.genesis import MAX_U64
from hub.ppdl.sim.keys import CHAIN_ID, GENESIS_HASH, Scheme, make_scheme, validator_addresses, validator_keys
from openmg.hashing import keccak256
from workbench.ppdl_fuzz.mutation import bent, reshaped
from workbench.ppdl_fuzz.speech import Speech
from workbench.ppdl_fuzz.subject import CountingDomain, Subject
from workbench.ppdl_fuzz.tape import Tape

VALIDATORS = 4
VOICES = 5
MAX_EVENTS = 400
"""Of one run: enough for a few heights; what a longer tape holds is not used."""
_HEIGHTS = (0, 0, 0, 6, 2**32 - 2, 2**63 - 3, MAX_U64 - 2**20)
"""Where a run starts. The chain's last heights are left out: they need 2^64 blocks."""


def five_keys() -> Scheme:
    """A scheme of its own for one run, whose domain counts."""
    scheme = make_scheme(VOICES, real_crypto=False)
    addresses = validator_addresses(VOICES)
    keys = dict(zip(addresses, validator_keys(VOICES), strict=True))
    return Scheme(CountingDomain(CHAIN_ID, GENESIS_HASH, keys=keys), scheme.signers)


class CoreRun:
    """One replica and those who talk to it."""

    def __init__(self, tape: Tape, replica_class: type[Replica] = Replica) -> None:
        scheme, voices = five_keys(), validator_addresses(VOICES)
        members = ValidatorSet(tuple(voices[:VALIDATORS]))
        tip = Tip(tape.pick(_HEIGHTS), GENESIS_HASH, tape.pick((0, 1_000, 2**48)), bytes(32), members, members)
        self.tape = tape
        self.speech = Speech(scheme, voices, tip)
        self.subject = Subject(scheme, voices[tape.below(VOICES)], tip, replica_class)

    def run(self) -> set[str]:
        """Feed events until the tape ends; returns what came out, by name."""
        for _ in range(MAX_EVENTS):
            if not self.tape.left:
                break
            self._one()
            self.speech.tip, self.speech.view = self.subject.replica.tip, self.subject.replica.view
        return self.subject.outcomes

    def _one(self) -> None:
        tape = self.tape
        match tape.below(16):
            case 0 | 1 | 2 | 3 | 4:
                self._hear(self.speech.message(tape))
            case 5:
                self._hear_damaged(encode_message(self.speech.message(tape)))
            case 6 | 7:
                self._all_vote()
            case 8 | 9 | 10:
                self._answer()
            case 11:
                self._feed(Tick())
            case 12:
                self._feed(Timeout(self.speech.tip.height + 1, self.speech.view))
            case 13:
                self._feed(self._stray())
            case 14:
                if self.subject.said:
                    self._hear(tape.pick(self.subject.said))
            case _:
                self.subject.start(log_lost=tape.rarely(8))

    def _feed(self, event: Event) -> None:
        self.subject.step(event)

    def _sender(self) -> bytes:
        """Anybody: a validator, the subject itself, the stranger, or one of many unknown."""
        if self.tape.rarely(6):
            return keccak256(self.tape.take(1))[:20]
        return self.tape.pick(self.speech.voices)

    def _hear(self, message: Message) -> None:
        """As from the wire: what is not read there never gets to the core."""
        self._read(encode_message(message))

    def _hear_damaged(self, wire: bytes) -> None:
        change = bent if self.tape.below(2) else reshaped
        self._read(change(self.tape, wire))

    def _read(self, wire: bytes) -> None:
        try:
            decode_message(wire)
        except MessageError:
            self.subject.outcomes.add("malformed")
            with contextlib.suppress(MessageError):  # a block that is not looked at may be wrong
                read_message(self.subject.replica, self.subject.address, wire)
            return
        event = read_message(self.subject.replica, self._sender(), wire)
        if event is None:
            self.subject.outcomes.add("of no use")
            return
        said = event.announcement if isinstance(event, Announced) else event.message
        self.subject.outcomes.add(type(said).__name__)
        self._feed(event)

    def _all_vote(self) -> None:
        """Every validator votes alike, so that views and heights go by."""
        replica, tape = self.subject.replica, self.tape
        proposal = replica.state.proposal
        block = proposal.block if proposal is not None and tape.below(4) else self.speech.block(tape)
        kind, view = tape.pick((Kind.PREPARE, Kind.COMMIT)), replica.view
        vote = Prepare if kind is Kind.PREPARE else Commit
        for voice in self.speech.voices[:VALIDATORS]:
            signature = self.speech.signed(voice, kind, replica.height, view, block.hash)
            self._feed(Received(voice, vote(replica.height, view, block.hash, signature)))

    def _answer(self) -> None:
        """One of the replica's own questions, the oldest as a rule."""
        asked, tape = self.subject.asked, self.tape
        if not asked:
            return
        effect = asked.pop(tape.below(len(asked)) if tape.rarely(3) else 0)
        match effect:
            case Propose():
                txs = tuple(tape.chunk(6) for _ in range(tape.below(4)))  # one twice breaks a rule: then none is proposed
                stamp = tape.number(MAX_U64 - 2**32, effect.earliest_ms)
                self._feed(Proposed(effect.height, effect.view, txs, stamp))
            case Validate():
                verdict = tape.pick((Verdict.ACCEPT, Verdict.ACCEPT, Verdict.REJECT, Verdict.UNAVAILABLE))
                self._feed(Validated(effect.height, effect.view, effect.block.hash, verdict))
            case SetTimer():
                self._feed(Timeout(effect.height, effect.view))
            case Decide():
                self._execute(effect)

    def _execute(self, effect: Decide) -> None:
        """The block is executed and stored; now and then the machine goes down before it says so."""
        tip, header = self.subject.replica.tip, effect.decided.block.header
        if header.height != tip.height + 1 or not self.subject.replica.state.deciding:
            return
        state = keccak256(tip.app_hash + header.hash)
        members = self._next_set(tip.next_validators)
        following = Tip(header.height, header.hash, header.timestamp_ms, state, tip.next_validators, members)
        self.subject.save(effect.decided, following)
        if self.tape.rarely(8):
            self.subject.tip = following
            self.subject.start()
        else:
            self._feed(Advanced(following))

    def _next_set(self, members: ValidatorSet) -> ValidatorSet:
        if not self.tape.rarely(4):
            return members
        voice = self.tape.pick(self.speech.voices)
        leaves = voice in members and len(members) > 1
        return members.updated(((voice, not leaves),))

    def _stray(self) -> Event:
        """An answer that nobody asked for, or one that comes too late."""
        tape, tip = self.tape, self.speech.tip
        place = max(1, tape.number(MAX_U64, tip.height + 1)), self.speech.some_view(tape)
        match tape.below(4):
            case 0:
                return Timeout(*place)
            case 1:
                return Proposed(*place, (tape.chunk(6),), tape.number(MAX_U64 - 2**32, tip.timestamp_ms))
            case 2:
                verdict = tape.pick((Verdict.ACCEPT, Verdict.REJECT, Verdict.UNAVAILABLE))
                return Validated(*place, self.speech.block(tape).hash, verdict)
            case _:
                late = place[0] if place[0] != tip.height + 1 else tip.height
                return Advanced(replace(tip, height=late, hash=tape.take(32)))


def core(tape: Tape) -> set[str]:
    """The target: one run."""
    return CoreRun(tape).run()
