"""An envelope relay: opens what homes sealed to it, shuffles, submits, and tells each home what became of it.

Rules: the relay never signs a call of a home's choice, except the confidential token's `transact`, which a proof
authorises and which costs the relay nothing on a chain with free gas; all else must be signed by its owner. Envelopes
are collected for a short while and submitted in random order, so that their order of arrival says nothing. An envelope
that comes again gets the same receipt. Contents, senders and reasons with values in them are never logged.
Not here: how envelopes travel (the hub that carries them), the sealing (`openmg.envelope`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hub.chain.client import Contract, EvmClient
from hub.chain.errors import CallReverted, ChainError, ChainUnreachable, NotMined
from openmg.envelope import Action, Content, Envelope, Outcome, Receipt, unseal
from openmg.messages.base import InvalidMessage

log = logging.getLogger(__name__)

MAX_WAITING = 1_024
"""Envelopes collected for one submission: four per home and slot for a hub of 250 homes."""
MAX_REMEMBERED = 4_096
"""Receipts kept for envelopes that are sent again."""
TRANSACT_GAS = 3_000_000
"""A transfer uses about a third of it; unused gas is not taken."""
RECEIPT_SECONDS = 30.0
"""Patience with the chain for the receipts of one submission, however many envelopes are in it."""
NOT_TAKEN = "the chain did not take the transaction"
DEFAULT_FLUSH_SECONDS = 0.5
NO_REFERENCE = bytes(16)


@dataclass(frozen=True)
class RelayStatus:
    """Counted since start."""

    envelopes: int
    refused: int
    repeated: int
    transactions: int
    failed: int


class EnvelopeRelay:
    """One relay; `client` signs proof-carrying calls, `private_key` opens envelopes."""

    def __init__(
        self,
        client: EvmClient,
        private_key: X25519PrivateKey,
        confidential: Contract,
        *,
        flush_seconds: float = DEFAULT_FLUSH_SECONDS,
    ) -> None:
        self.client = client
        self.public_key = private_key.public_key().public_bytes_raw()
        self._private_key = private_key
        self._confidential = confidential
        self._selector = client.selector(confidential, "transact")
        self._flush_seconds = flush_seconds
        self._silent = False  # whether the chain did not answer in the submission under way
        self._waiting: list[tuple[Content, asyncio.Future[Receipt]]] = []
        self._receipts: OrderedDict[bytes, asyncio.Future[Receipt]] = OrderedDict()
        self._envelopes = self._refused = self._repeated = self._transactions = self._failed = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Submit what was collected, again and again, until `stop` is set."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._flush_seconds)
            await self.flush()

    async def handle(self, envelope: Envelope) -> Receipt:
        """Take an envelope and wait for its receipt; one that cannot be taken gets a receipt that says why."""
        self._envelopes += 1
        try:
            content = unseal(self._private_key, envelope)
        except InvalidMessage:
            return self._refuse(NO_REFERENCE, "the envelope cannot be opened by this relay")
        known = self._receipts.get(content.reference)
        if known is not None:
            self._repeated += 1
            return await asyncio.shield(known)
        problem = self._problem(content)
        if problem:
            return self._refuse(content.reference, problem)
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._remember(content.reference, future)
        self._waiting.append((content, future))
        return await asyncio.shield(future)

    async def flush(self) -> int:
        """Submit everything collected so far in random order; returns the number of envelopes."""
        batch, self._waiting = self._waiting, []
        secrets.SystemRandom().shuffle(batch)
        receipts = await asyncio.to_thread(self._submit_all, [content for content, _ in batch])
        for (_, future), receipt in zip(batch, receipts, strict=True):
            future.set_result(receipt)
        return len(batch)

    def status(self) -> RelayStatus:
        """Figures for the console and the report."""
        return RelayStatus(self._envelopes, self._refused, self._repeated, self._transactions, self._failed)

    # ---- inner parts ------------------------------------------------------------------------------------------

    def _problem(self, content: Content) -> str:
        """Why the content is not submitted, or nothing."""
        if content.valid_until < time.time():
            return "the envelope has expired"
        if len(self._waiting) >= MAX_WAITING:
            return "the relay is full; send the envelope again later"
        allowed = self._confidential.address
        for action in content.actions:
            if action.target and (action.target != allowed or action.data[:4] != self._selector):
                return "the relay signs no call but a confidential transfer; sign it as the owner"
        return ""

    def _refuse(self, reference: bytes, why: str) -> Receipt:
        self._refused += 1
        return Receipt(reference, (), why)

    def _remember(self, reference: bytes, future: asyncio.Future[Receipt]) -> None:
        self._receipts[reference] = future
        while len(self._receipts) > MAX_REMEMBERED:
            self._receipts.popitem(last=False)

    def _submit_all(self, contents: list[Content]) -> list[Receipt]:
        """Send every action without waiting, then wait for all (blocking).

        Patience is for the submission, not for each envelope: a chain that is silent or stands still must not keep the
        envelopes that are collected meanwhile waiting for hours.
        """
        self._silent = False
        sent = [([], NOT_TAKEN) if self._silent else self._send(content) for content in contents]
        deadline = time.monotonic() + RECEIPT_SECONDS
        return [
            self._receipt(content, hashes, error, deadline) for content, (hashes, error) in zip(contents, sent, strict=True)
        ]

    def _send(self, content: Content) -> tuple[list[bytes], str]:
        """The hashes of what was sent; the first refusal ends an envelope, for later actions may depend on it."""
        hashes: list[bytes] = []
        for action in content.actions:
            try:
                hashes.append(self._send_action(action))
            except CallReverted as error:
                return hashes, f"refused: {error.error}"
            except ChainError as error:
                log.warning("envelope relay: a transaction was not taken (%s)", type(error).__name__)
                self._silent = isinstance(error, ChainUnreachable)
                return hashes, NOT_TAKEN
        return hashes, ""

    def _send_action(self, action: Action) -> bytes:
        if not action.target:
            self._transactions += 1
            return self.client.send_raw_transaction(action.data)
        self.client.simulate(action.target, action.data, where="ConfidentialToken.transact")
        self._transactions += 1
        return self.client.send_raw_call(action.target, action.data, gas=TRANSACT_GAS)

    def _receipt(self, content: Content, hashes: list[bytes], error: str, deadline: float) -> Receipt:
        outcomes = []
        for tx_hash in hashes:
            left = deadline - time.monotonic()
            try:
                if self._silent and left <= 0:
                    raise ChainUnreachable("asked already")
                succeeded = self.client.wait_mined(tx_hash, seconds=left).succeeded
                self._silent = False
            except NotMined:
                succeeded, error = False, error or "a transaction was not mined in time"
            except ChainError as trouble:
                self._silent = isinstance(trouble, ChainUnreachable)
                succeeded, error = False, error or "the chain did not answer"
            self._failed += not succeeded
            outcomes.append(Outcome(tx_hash, succeeded))
        return Receipt(content.reference, tuple(outcomes), error)
