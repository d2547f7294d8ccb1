"""An envelope relay: opens what homes sealed to it, shuffles, submits at the slot's end, and tells each home what came of it.

Theory of operation. Whatever arrives in a slot waits for the slot's end on the virtual clock: contents to submit, dummies,
repetitions, what is refused. Then the contents are submitted in random order, and when the chain has answered, all
receipts of the slot go out at once, in random order and in one size. So neither the order of arrival nor the time of a
receipt says what an envelope held, also not to a carrier that sends it again.
Rules: the relay never signs a call of a home's choice, except those that a proof authorises and that cost the relay
nothing on a chain with free gas; all else must be signed by its owner. An envelope that comes again gets the same receipt
(a dummy another one just like it). Contents, senders and reasons with values in them are never logged.
Not here: how envelopes travel (`hub.carrier`, `hub.relay_roles`), the sealing (`openmg.envelope`), which calls a proof
authorises (`hub.node`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hub.chain.client import EvmClient
from hub.chain.errors import CallReverted, ChainError, ChainUnreachable, NotMined
from openmg.clock import VirtualClock, slot_start
from openmg.envelope import Action, Content, Envelope, Outcome, Receipt, SealedReceipt, seal_receipt, unseal
from openmg.messages.base import InvalidMessage

log = logging.getLogger(__name__)

MAX_WAITING = 4_096
"""Envelopes of one slot, 16 MiB when all are full: those of a thousand homes that send all theirs to this relay."""
MAX_REMEMBERED = 4 * MAX_WAITING
"""Receipts kept for envelopes that are sent again; dummies need none."""
CALL_GAS = 3_000_000
"""A purchase checks two proofs and uses about a third of it; unused gas is not taken."""
RECEIPT_SECONDS = 30.0
"""Patience with the chain for the receipts of one submission, however many envelopes are in it."""
EXPIRED = "the envelope has expired"
FULL = "the relay is full; send the envelope again later"
NOT_ALLOWED = "the relay signs no call but those that a proof authorises; sign it as the owner"
NOT_TAKEN = "the chain did not take the transaction"


@dataclass(frozen=True)
class RelayStatus:
    """Counted since start."""

    envelopes: int
    dummies: int
    refused: int
    repeated: int
    transactions: int
    failed: int


class EnvelopeRelay:
    """One relay: `client` signs proof-carrying calls, `private_key` opens envelopes.

    `allowed`: for each contract's address, the 4-byte selectors of the calls it signs. `clock` tells when slots end.
    """

    def __init__(
        self,
        client: EvmClient,
        private_key: X25519PrivateKey,
        allowed: Mapping[bytes, frozenset[bytes]],
        clock: VirtualClock,
    ) -> None:
        self.client = client
        self.public_key = private_key.public_key().public_bytes_raw()
        self._private_key = private_key
        self._allowed = dict(allowed)
        self._clock = clock
        self._silent = False  # whether the chain did not answer in the submission under way
        self._waiting: list[tuple[Content, asyncio.Future[SealedReceipt]]] = []
        self._receipts: OrderedDict[bytes, Receipt] = OrderedDict()  # by reference
        self._envelopes = self._dummies = self._refused = self._repeated = self._transactions = self._failed = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Submit at the end of every slot until `stop` is set; what waits then is left to other relays."""
        while not stop.is_set():
            until = self._clock.wall_until(slot_start(self._clock.slot() + 1))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), until)
            if not stop.is_set():
                await self.flush()

    async def handle(self, envelope: Envelope) -> SealedReceipt | None:
        """Take an envelope and wait for its receipt, until the slot is over; None for one that cannot be opened."""
        self._envelopes += 1
        try:
            content = unseal(self._private_key, envelope)
        except InvalidMessage:
            self._refused += 1
            return None
        if len(self._waiting) >= MAX_WAITING:
            return seal_receipt(self._refuse(content, FULL))
        future: asyncio.Future[SealedReceipt] = asyncio.get_running_loop().create_future()
        self._waiting.append((content, future))
        return await future

    async def flush(self) -> int:
        """Submit everything collected so far in random order, then answer all; returns the number of envelopes."""
        batch, self._waiting = self._waiting, []
        secrets.SystemRandom().shuffle(batch)
        answers = self._answers_without_chain(batch)
        fresh = {content.reference: content for content, _ in batch if content.reference not in answers}
        for receipt in await asyncio.to_thread(self._submit_all, list(fresh.values())):
            answers[receipt.reference] = receipt
            self._remember(receipt)
        for content, future in batch:
            if not future.done():  # its task was cancelled
                future.set_result(seal_receipt(answers[content.reference]))
        return len(batch)

    def status(self) -> RelayStatus:
        """Figures for the console and the report."""
        return RelayStatus(self._envelopes, self._dummies, self._refused, self._repeated, self._transactions, self._failed)

    # ---- inner parts ------------------------------------------------------------------------------------------

    def _answers_without_chain(self, batch: list[tuple[Content, asyncio.Future[SealedReceipt]]]) -> dict[bytes, Receipt]:
        """Receipts, by reference, of the envelopes of which nothing is submitted; repetitions are counted on the way."""
        answers: dict[bytes, Receipt] = {}
        seen: set[bytes] = set()
        for content, _ in batch:
            known = self._receipts.get(content.reference)
            self._repeated += known is not None or content.reference in seen
            seen.add(content.reference)
            if not content.actions:
                self._dummies += 1
                answers.setdefault(content.reference, Receipt(content.reference, (), ""))
            elif known is not None:
                answers[content.reference] = known
            elif problem := self._problem(content):
                answers[content.reference] = self._refuse(content, problem)
        return answers

    def _problem(self, content: Content) -> str:
        """Why the content is not submitted, or nothing."""
        if content.valid_until < time.time():
            return EXPIRED
        for action in content.actions:
            if action.target and action.data[:4] not in self._allowed.get(action.target, frozenset()):
                return NOT_ALLOWED
        return ""

    def _refuse(self, content: Content, why: str) -> Receipt:
        self._refused += 1
        return Receipt(content.reference, (), why)

    def _remember(self, receipt: Receipt) -> None:
        self._receipts[receipt.reference] = receipt
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
                log.warning("envelope relay: a transaction was not taken: %s", error)
                self._silent = isinstance(error, ChainUnreachable)
                return hashes, NOT_TAKEN
        return hashes, ""

    def _send_action(self, action: Action) -> bytes:
        if action.target:
            self.client.simulate(action.target, action.data, where="a call of an envelope")
            tx_hash = self.client.send_raw_call(action.target, action.data, gas=CALL_GAS)
        else:
            tx_hash = self.client.send_raw_transaction(action.data)
        if len(tx_hash) != 32:
            raise ChainError(f"{self.client.url} answered with a hash of {len(tx_hash)} bytes; is it a node?")
        self._transactions += 1
        return tx_hash

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
