"""A relayer: brings decided PPDL headers to the plasma chain's light client, in competition with others.

Rules: a relayer is trusted with nothing; the contract checks every header and seal. It reads the contract's height,
submits what follows as one batch, and takes a lost race for what it is: it looks again. A validator-set
change is applied when the contract waits for one.
Not here: how headers are decided (`hub.ppdl`), what the events prove (the contracts).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.chain.client import Contract, EvmClient
from hub.chain.errors import CallReverted, ChainError

log = logging.getLogger(__name__)

MAX_BATCH = 64
"""Headers per submission; the contract takes 256, and a smaller one is mined sooner."""
VALIDATORS_HASH_OFFSET = 256
"""Where a header's last two words start: the hash of the set that sealed it, and of the set for the next height."""
DEFAULT_POLL_SECONDS = 0.5


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
    """Counted since start, except `height`, which is the contract's as last seen."""

    height: int
    submissions: int
    headers: int
    races_lost: int
    failures: int


class Relayer:
    """One relayer; `client` signs for the account that earns the rewards."""

    def __init__(
        self,
        client: EvmClient,
        relay: Contract,
        source: HeaderSource,
        *,
        validators: ValidatorSource | None = None,
        poll_seconds: float = DEFAULT_POLL_SECONDS,
    ) -> None:
        self.client = client
        self.relay = relay
        self._source = source
        self._validators = validators
        self._poll_seconds = poll_seconds
        self._height = self._submissions = self._headers = self._races_lost = self._failures = 0
        self._last_trouble = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set."""
        while not stop.is_set():
            relayed = await self.turn()
            if relayed == 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._poll_seconds)

    async def turn(self) -> int:
        """One attempt; returns how many headers this relayer added."""
        try:
            relayed = await asyncio.to_thread(self.relay_next)
        except ChainError as error:
            self._failures += 1
            if str(error) != self._last_trouble:
                log.warning("relayer: %s", error)
                self._last_trouble = str(error)
            return 0
        self._last_trouble = ""
        return relayed

    def relay_next(self) -> int:
        """Submit what follows the contract's height (blocking); 0 when there is nothing or a race was lost.

        The height is that of the block to come, so that what another relayer has sent already is not sent again.
        """
        self._height = self._height_to_come()
        headers = _up_to_a_new_set(self._source.headers_after(self._height, MAX_BATCH))
        if not headers:
            return 0
        try:
            self._apply_validators(self._height + 1)
            batch = b"".join(header.header_bytes for header in headers)
            last = headers[-1]
            self.client.transact(self.relay, "submitHeaders", batch, last.view, b"".join(last.seals))
        except CallReverted:
            if self._height_to_come() == self._height:
                raise  # nobody was faster: the header itself is refused
            self._races_lost += 1
            return 0
        self._submissions += 1
        self._headers += len(headers)
        self._height += len(headers)
        return len(headers)

    def claim(self) -> int:
        """Take the rewards earned so far; returns the wei (0 when there are none)."""
        amount = int(self.client.call(self.relay, "earned", self.client.address))
        if amount:
            self.client.transact(self.relay, "claimReward")
        return amount

    def status(self) -> RelayerStatus:
        """Figures for the console and the report."""
        return RelayerStatus(self._height, self._submissions, self._headers, self._races_lost, self._failures)

    def _height_to_come(self) -> int:
        return int(self.client.call(self.relay, "height", at="pending"))

    def _apply_validators(self, height: int) -> None:
        if self._validators is None or not any(self.client.call(self.relay, "pendingValidatorsHash")):
            return
        members = [bytes(address) for address in self._validators.validators_at(height)]
        self.client.transact(self.relay, "applyValidators", members)


def _up_to_a_new_set(headers: Sequence[SignedHeader]) -> Sequence[SignedHeader]:
    """The headers up to the first that announces another set: the contract takes what follows only after `applyValidators`."""
    for position, header in enumerate(headers, 1):
        sets = header.header_bytes[VALIDATORS_HASH_OFFSET:]
        if sets[:32] != sets[32:]:
            return headers[:position]
    return headers
