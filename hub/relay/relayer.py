"""A relayer: brings decided PPDL headers to the plasma chain's light client, beside others that do the same.

Theory of operation. The relayer keeps no state of its own: what is relayed stands in the contract, what is decided stands
in its source, so it may stop and start at any moment. In each turn it reads the contract's height, takes what follows, and
submits it as one batch, a single header in the short form. The contract gives every height to one relayer for a window
after the header's time; this one leaves a fresh header alone unless the turn is its own. What nobody relayed in the window
is anybody's: then the relayers step in one after another, in the order of turns, a step apart, so that they seldom pay
for the same header twice.
Rules: a relayer is trusted with nothing; the contract checks every header and seal. A lost race is taken for what it is. A
validator-set change is applied when the contract waits for one. After trouble it waits, longer each time.
Not here: how headers are decided (`hub.ppdl`), where they are read (`hub.relay.source`), what the events prove (the
contracts), the process (`hub.relay.daemon`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.chain.client import Contract, EvmClient, Receipt
from hub.chain.errors import CallReverted, ChainError

log = logging.getLogger(__name__)

MAX_BATCH = 64
"""Headers per submission; the contract takes 256, and a smaller one is mined sooner."""
HEADER_WORD = 32
DEFAULT_POLL_SECONDS = 0.5
STEP_MS = 1_000
"""After the window, how long a relayer leaves a header to each of those whose turn comes before its own."""
MAX_BACK_OFF_SECONDS = 30.0
"""Longest wait after trouble; the first is the poll's, and each is twice the one before it."""
SHORT_FORM_VIEWS = 2**32
"""A header of a later view needs the long form."""


class SourceError(Exception):
    """Decided headers cannot be read; one sentence."""


class SignedHeader(Protocol):
    """A decided header with its quorum certificate, as `hub.ppdl.engine` gives it."""

    @property
    def header_bytes(self) -> bytes: ...

    @property
    def view(self) -> int: ...

    @property
    def seals(self) -> Sequence[bytes]: ...


class HeaderSource(Protocol):
    """Where decided headers come from."""

    def headers_after(self, height: int, limit: int) -> Sequence[SignedHeader]:
        """Up to `limit` consecutive headers, the first at `height + 1`; empty when there is none."""
        ...


class ValidatorSource(Protocol):
    """Who knows the PPDL validators of a height."""

    def validators_at(self, height: int) -> Sequence[bytes]:
        """Addresses of the set that seals `height`, ascending."""
        ...


@dataclass(frozen=True)
class RelayerStatus:
    """Counted since start, except `height`, which is the contract's as last seen, and `trouble`, the last turn's, if any.

    waits: turns in which decided headers were left to the relayer whose turn they are.
    """

    height: int
    submissions: int
    headers: int
    races_lost: int
    failures: int
    waits: int
    gas_used: int
    trouble: str


@dataclass(frozen=True)
class _Turns:
    """Who takes turns at the contract, this relayer's place among them (None: not one of them), and how long they are."""

    count: int
    own: int | None
    heights: int
    window_ms: int

    def may_relay(self, height: int, timestamp_ms: int, now_ms: int) -> bool:
        """Whether the header is this relayer's to submit now."""
        if self.count == 0:
            return True
        turn = height // self.heights % self.count
        steps = self.count if self.own is None else (self.own - turn) % self.count
        return steps == 0 or now_ms > timestamp_ms + self.window_ms + (steps - 1) * STEP_MS


class Relayer:
    """One relayer; `client` signs for the account that earns the rewards. `now` gives Unix seconds."""

    def __init__(
        self,
        client: EvmClient,
        relay: Contract,
        source: HeaderSource,
        *,
        validators: ValidatorSource | None = None,
        poll_seconds: float = DEFAULT_POLL_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.client = client
        self.relay = relay
        self._source = source
        self._validators = validators
        self._poll_seconds = poll_seconds
        self._now = now
        self._height = self._submissions = self._headers = self._races_lost = self._failures = 0
        self._waits = self._gas_used = 0
        self._trouble = ""
        self.wait_seconds = poll_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set."""
        while not stop.is_set():
            relayed = await self.turn()
            if relayed == 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self.wait_seconds)

    async def turn(self) -> int:
        """One attempt; returns how many headers this relayer added."""
        try:
            relayed = await asyncio.to_thread(self.relay_next)
        except (ChainError, SourceError) as error:
            self._failures += 1
            if str(error) != self._trouble:
                log.warning("relayer: %s", error)
            if self._trouble:
                self.wait_seconds = min(2 * self.wait_seconds, MAX_BACK_OFF_SECONDS)
            self._trouble = str(error)
            return 0
        self._trouble, self.wait_seconds = "", self._poll_seconds
        return relayed

    def relay_next(self) -> int:
        """Submit what follows the contract's height (blocking); 0 when there is nothing or a race was lost.

        The height is that of the block to come, so that what another relayer has sent already is not sent again.
        """
        self._height = self._height_to_come()
        decided = self._source.headers_after(self._height, MAX_BATCH)
        headers = self._ours(_up_to_a_new_set(decided))
        if not headers:
            self._waits += bool(decided)
            return 0
        try:
            self._apply_validators(self._height + 1)
            receipt = self._submit(headers)
        except CallReverted:
            if self._height_to_come() == self._height:
                raise  # nobody was faster: the header itself is refused
            self._races_lost += 1
            return 0
        self._gas_used += receipt.gas_used
        self._submissions += 1
        self._headers += len(headers)
        self._height += len(headers)
        return len(headers)

    def _fits_short_form(self, header: SignedHeader) -> bool:
        """Whether the contract would complete the header to the same bytes; of any other it can say what is wrong."""
        parent = bytes(self.client.call(self.relay, "lastHeaderHash", at="pending"))
        return _word(header, 3) == parent and not _announces(header) and header.view < SHORT_FORM_VIEWS

    def claim(self) -> int:
        """Take the rewards earned so far; returns the wei (0 when there are none)."""
        amount = int(self.client.call(self.relay, "earned", self.client.address))
        if amount:
            self.client.transact(self.relay, "claimReward")
        return amount

    def status(self) -> RelayerStatus:
        """Figures for the console and the report."""
        return RelayerStatus(
            self._height,
            self._submissions,
            self._headers,
            self._races_lost,
            self._failures,
            self._waits,
            self._gas_used,
            self._trouble,
        )

    def _ours(self, headers: Sequence[SignedHeader]) -> Sequence[SignedHeader]:
        """The headers up to the first that is another relayer's for now: whoever ends a batch with it works for that one."""
        if not headers:
            return headers
        turns, now_ms = self._turns(), int(self._now() * 1000)
        for position, header in enumerate(headers):
            timestamp_ms = int.from_bytes(_word(header, 4), "big")
            if not turns.may_relay(self._height + 1 + position, timestamp_ms, now_ms):
                return headers[:position]
        return headers

    def _turns(self) -> _Turns:
        """As the contract has them; the guardian may change them at any time."""
        relayers = [bytes.fromhex(address[2:]) for address in self.client.call(self.relay, "relayers")]
        own = relayers.index(self.client.address) if self.client.address in relayers else None
        heights, window_ms = (int(self.client.call(self.relay, name)) for name in ("TURN_HEIGHTS", "WINDOW_MS"))
        return _Turns(len(relayers), own, heights, window_ms)

    def _submit(self, headers: Sequence[SignedHeader]) -> Receipt:
        """One header in the short form where that can say it, otherwise all in the long one."""
        last, seals = headers[-1], b"".join(headers[-1].seals)
        if len(headers) > 1 or not self._fits_short_form(last):
            batch = b"".join(header.header_bytes for header in headers)
            return self.client.transact(self.relay, "submitHeaders", batch, last.view, seals)
        numbers = int.from_bytes(_word(last, 4), "big") << 192 | last.view << 160 | int.from_bytes(_word(last, 5), "big")
        brief = numbers, _word(last, 6), _word(last, 7), _word(last, 8)
        data = self.client.call_data(self.relay, "submitHeader", brief) + seals
        where = f"{self.relay.name}.submitHeader"
        return self.client.wait(self.client.send_raw_call(self.relay.address, data, where=where), where=where)

    def _height_to_come(self) -> int:
        return int(self.client.call(self.relay, "height", at="pending"))

    def _apply_validators(self, height: int) -> None:
        if self._validators is None or not any(self.client.call(self.relay, "pendingValidatorsHash")):
            return
        members = [bytes(address) for address in self._validators.validators_at(height)]
        self.client.transact(self.relay, "applyValidators", members)


def _word(header: SignedHeader, number: int) -> bytes:
    """One of a header's ten words."""
    return header.header_bytes[number * HEADER_WORD : (number + 1) * HEADER_WORD]


def _announces(header: SignedHeader) -> bool:
    """Whether the next height is sealed by another set."""
    return _word(header, 8) != _word(header, 9)


def _up_to_a_new_set(headers: Sequence[SignedHeader]) -> Sequence[SignedHeader]:
    """The headers up to the first that announces another set: the contract takes what follows only after `applyValidators`."""
    for position, header in enumerate(headers, 1):
        if _announces(header):
            return headers[:position]
    return headers
