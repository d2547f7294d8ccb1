"""Changing the validator set of a running chain: read where it stands, propose, consent, vote, follow.

Rules: what is signed is computed here from the terms that are shown, and must give the hash that the hub names: a hub that
answered wrongly cannot make its operator vote for something else. Whoever is added consents in its own process; for the
identity that `keys rotate --validator` prepared, which lies in this hub's folder, that is this one.
Not here: the rules of the chain (`hub.ppdl.app.governance`), how it is said (`governance_commands`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hub.keys import HubKeys
from hub.operators.errors import OperatorError
from hub.operators.running import RunningHub
from hub.ppdl.app.governance import MAX_PROPOSAL_BLOCKS, MAX_SPANS
from hub.ppdl.app.membership import ProposalsAnswer, ValidatorsAnswer
from hub.ppdl.app.set_change import (
    SetChange,
    change_hash,
    open_propose,
    propose_tx,
    sign_consent,
    sign_vote,
    vote_tx,
)
from hub.ppdl.app.state import FOUR, OpenProposal, SetSpan
from hub.ppdl.app.transactions import InvalidTransaction, decode_tx
from openmg.messages.base import InvalidMessage, decode

POLL_S = 0.3
SETTLE_S = 20.0
"""How long a command waits for its transaction to be in a block: some blocks, and a view change."""
MAX_CONSENT_BYTES = 4096


@dataclass(frozen=True)
class Consent:
    """A change with the signature of the validator that it adds, as a file goes to whoever proposes it."""

    PURPOSE: ClassVar[str] = "ppdl-consent"
    change: SetChange
    signature: bytes


@dataclass(frozen=True)
class Reading:
    """What the hub said: open proposals, and after them the sets (of the same block or a later one)."""

    proposals: ProposalsAnswer
    validators: ValidatorsAnswer

    @property
    def current(self) -> SetSpan:
        """The set that agrees on the next block."""
        following = self.validators.height + 1
        return next(span for span in reversed(self.validators.sets) if span.from_height <= following)

    @property
    def latest(self) -> SetSpan:
        """The set of the last change, which may begin later."""
        return self.validators.sets[-1]

    @property
    def upcoming(self) -> SetSpan | None:
        """The announced set, when there is one."""
        return self.latest if self.latest.number > self.current.number else None

    def find(self, hash_: bytes) -> OpenProposal | None:
        """The open proposal with this hash."""
        return next((one for one in self.proposals.proposals if one.proposal_hash == hash_), None)

    def counted(self, proposal: OpenProposal) -> int:
        """Votes of those who are in the set now; others do not count."""
        return sum(address in proposal.votes for address in self.current.addresses)

    def passed(self, add: bytes, remove: bytes, after: int) -> SetSpan | None:
        """The set that such a change made, if one did after set number `after`."""
        sets = self.validators.sets
        for before, span in zip(sets, sets[1:], strict=False):
            come, gone = set(span.addresses) - set(before.addresses), set(before.addresses) - set(span.addresses)
            if span.number > after and come == ({add} - {b""}) and gone == ({remove} - {b""}):
                return span
        return None


def read(hub: RunningHub) -> Reading:
    """Where the chain stands. Raises OperatorError."""
    proposals = hub.query("proposals", ProposalsAnswer)
    return Reading(proposals, hub.query("validators", ValidatorsAnswer))


def _own_seat(hub: RunningHub, now: Reading) -> HubKeys:
    """This hub's keys; OperatorError when its validator is not in the set."""
    keys = hub.keys()
    if keys.validator not in now.current.addresses:
        raise OperatorError(
            f"0x{keys.validator.hex()} of {hub.config.hub.name} is not in the validator set now: only a validator's operator"
            " may propose and vote"
        )
    return keys


def make_consent(keys: HubKeys, change: SetChange, chain_id: int, chain: bytes) -> Consent:
    """The consent of the validator that the change adds."""
    return Consent(change, sign_consent(change_hash(change, chain_id, chain), chain_id, chain, keys.validator_key))


def read_consent(path: Path) -> Consent:
    """The consent in a file; OperatorError when it is none."""
    try:
        with path.open("rb") as file:
            return decode(Consent, file.read(MAX_CONSENT_BYTES))
    except OSError as error:
        raise OperatorError(f"{path} cannot be read ({error.strerror}): correct --consent") from error
    except InvalidMessage as error:
        raise OperatorError(f"{path} is no consent: ask its operator to send the file again") from error


def new_change(now: Reading, add: bytes, remove: bytes, below_four: bool, blocks: int) -> SetChange:
    """A change of the latest set that may pass within so many blocks. Raises OperatorError."""
    if not 1 <= blocks <= MAX_PROPOSAL_BLOCKS:
        raise OperatorError(f"--blocks is {blocks}: a proposal is open for 1 to {MAX_PROPOSAL_BLOCKS} blocks")
    try:
        return SetChange(now.proposals.number, add, remove, below_four, now.proposals.height + blocks)
    except ValueError as error:
        raise OperatorError(f"{error}: give --add, --remove or both, and two different validators") from error


def _consent_to(hub: RunningHub, change: SetChange) -> bytes:
    """The signature of the prepared successor, if it is who is added. OperatorError tells how to get that of anybody else."""
    successor = hub.folder.successor if hub.folder is not None else None
    if successor is not None and successor.hub_key.exists():
        keys = HubKeys.load(successor.hub_key)
        if keys.validator == change.add:
            return make_consent(keys, change, hub.genesis.chain_id, hub.genesis.hash).signature
    options = f"--number {change.number} --expires-height {change.expires_height}"
    options += f" --remove 0x{change.remove.hex()}" if change.remove else ""
    options += " --below-four" if change.below_four else ""
    raise OperatorError(
        f"0x{change.add.hex()} has not consented: its operator runs openmg-hub validators consent --dir DIR {options}, and you"
        " give the file that it makes with --consent"
    )


def _check_size(now: Reading, change: SetChange) -> None:
    """OperatorError for a set that tolerates no fault, unless that is wanted."""
    size = len(now.latest.addresses)
    after = size + bool(change.add) - bool(change.remove)
    if now.latest.reached_four and after < min(FOUR, size) and not change.below_four:
        raise OperatorError(
            f"{after} validators would be left, which tolerate no fault: add one in the same change, or give --below-four"
        )


def propose(hub: RunningHub, change: SetChange, consent: bytes | None) -> tuple[bytes, Reading]:
    """Open a proposal with this hub's vote; its hash, and where the chain stands then. Raises OperatorError."""
    before = read(hub)
    keys = _own_seat(hub, before)
    _check_size(before, change)
    chain_id, chain = hub.genesis.chain_id, hub.genesis.hash
    if change.add and consent is None:
        consent = _consent_to(hub, change)
    hash_ = change_hash(change, chain_id, chain)
    tx = propose_tx(change, consent or b"", sign_vote(hash_, chain_id, chain, keys.validator_key))
    try:
        open_propose(decode_tx(tx).payload, chain_id, chain)
    except InvalidTransaction as error:
        raise OperatorError(f"{error}: ask its operator for a consent to this change") from error
    hub.submit(tx)

    def opened(now: Reading) -> bool:
        return now.find(hash_) is not None or now.passed(change.add, change.remove, change.number) is not None

    return hash_, settle(hub, opened)


def terms_of(hub: RunningHub, now: Reading, proposal: OpenProposal) -> SetChange:
    """The change that the proposal's hash stands for. OperatorError when the terms that the hub tells do not give it."""
    terms = proposal.add, proposal.remove, proposal.below_four, proposal.expires_height
    for number in range(now.proposals.number, max(-1, now.proposals.number - MAX_SPANS), -1):
        change = SetChange(number, *terms)
        if change_hash(change, hub.genesis.chain_id, hub.genesis.hash) == proposal.proposal_hash:
            return change
    raise OperatorError(
        f"the hub's terms of proposal 0x{proposal.proposal_hash.hex()} do not give its hash, so nothing is signed: ask another"
        " operator what is proposed"
    )


def find_open(now: Reading, hash_: bytes) -> OpenProposal:
    """The open proposal; OperatorError when it is not open."""
    proposal = now.find(hash_)
    if proposal is None:
        raise OperatorError(
            f"no proposal 0x{hash_.hex()} is open at height {now.proposals.height}: it has passed or ended, or is in no block"
            " yet; see openmg-hub validators list"
        )
    return proposal


def vote(hub: RunningHub, hash_: bytes) -> tuple[OpenProposal, SetChange, Reading]:
    """Vote for an open proposal: what it was, its terms, and where the chain stands then. Raises OperatorError.

    A vote that was cast before is not cast again.
    """
    before = read(hub)
    keys, proposal = _own_seat(hub, before), find_open(before, hash_)
    change = terms_of(hub, before, proposal)
    if keys.validator in proposal.votes:
        return proposal, change, before
    chain_id, chain = hub.genesis.chain_id, hub.genesis.hash
    hub.submit(vote_tx(hash_, sign_vote(hash_, chain_id, chain, keys.validator_key)))

    def counted(now: Reading) -> bool:
        known = now.find(hash_)
        return known is None or keys.validator in known.votes

    return proposal, change, settle(hub, counted)


def settle(hub: RunningHub, done: Callable[[Reading], bool], limit_s: float = SETTLE_S) -> Reading:
    """Read until `done`, or until the time is over: the last reading."""
    end_s = time.monotonic() + limit_s
    while not done(now := read(hub)) and time.monotonic() < end_s:
        time.sleep(POLL_S)
    return now


def follow(hub: RunningHub, hash_: bytes, limit_s: float, tell: Callable[[str], None]) -> tuple[OpenProposal, int, Reading]:
    """Wait until a proposal is no longer open; `tell` hears of every vote. Raises OperatorError when the time is over.

    Gives the proposal, the number of the latest set while it was open, and where the chain stands then.
    """
    first = read(hub)
    proposal, told = find_open(first, hash_), ""

    def ended(now: Reading) -> bool:
        nonlocal told
        known = now.find(hash_)
        if known is not None:
            progress = f"{now.counted(known)} of {now.validators.quorum} votes"
            if progress != told:
                told = progress
                tell(f"height {now.validators.height}: {progress}, open until height {known.expires_height}")
        return known is None

    last = settle(hub, ended, limit_s)
    if last.find(hash_) is not None:
        raise OperatorError(f"proposal 0x{hash_.hex()} is still open after {limit_s:g} s: wait again, or ask who has not voted")
    return proposal, first.proposals.number, last
