"""The plasma operator: gives out deposits and brings signed checkpoints to the root chain.

Rules: deposits are given out strictly in the order of their nonces, and what is already given out is read from the
bridge at every turn, so that a restart repeats nothing. A checkpoint is submitted when a quorum of validators has
signed the very digest that this node computes. Foreign or malformed signatures are counted and dropped.
Not here: block production (the node), what validators check before they sign (`hub.plasma.view`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass

from hub.chain.client import BlockInfo
from hub.chain.errors import CallReverted, ChainError
from hub.plasma.checkpoint import (
    Checkpoint,
    InvalidCheckpoint,
    checkpoint_digest,
    merge,
    quorum,
    signer_of,
)
from hub.plasma.signer import DEFAULT_POLL_SECONDS, GOSSIP_KIND, SignedEpoch
from hub.plasma.view import PlasmaView

log = logging.getLogger(__name__)

MINT_GAS = 300_000
"""A mint costs under 160,000 gas with the 50,000 that a recipient may use."""
MAX_DEPOSITS_PER_TURN = 100
"""Half of what fits in a 60 Mgas block; the rest follows at the next turn."""
EPOCHS_AHEAD = 2
"""Signatures kept for epochs that this node has not computed yet."""


@dataclass(frozen=True)
class Deposit:
    """A deposit on the root chain."""

    nonce: int
    recipient: bytes
    amount_wei: int


@dataclass(frozen=True)
class OperatorStatus:
    """Counted since start; `deposits` and `checkpoints` are the chains' own counters as last seen."""

    deposits: int
    minted: int
    checkpoints: int
    last_checkpoint: Checkpoint | None
    last_signatures: int
    dropped_signatures: int


class PlasmaOperator:
    """The operator's role. `view.plasma` must sign as the bridge's operator, `view.root` as an account with gas."""

    def __init__(self, view: PlasmaView, *, confirmations: int = 0, poll_seconds: float = DEFAULT_POLL_SECONDS) -> None:
        self.view = view
        self._confirmations = confirmations
        self._poll_seconds = poll_seconds
        self._scanned: BlockInfo | None = None
        self._waiting: dict[int, Deposit] = {}
        self._lock = threading.Lock()  # signatures arrive on the event loop, turns run in a thread
        self._members: tuple[bytes, ...] = ()
        self._signatures: dict[int, dict[bytes, SignedEpoch]] = {}
        self._epoch = 0
        self._deposits = self._minted = self._checkpoints = self._dropped = 0
        self._last: Checkpoint | None = None
        self._last_signatures = 0
        self._complained: set[bytes] = set()
        self._last_trouble = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        await self._guarded_turn()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._poll_seconds)
            await self._guarded_turn()

    async def _guarded_turn(self) -> None:
        try:
            await asyncio.to_thread(self.turn)
            self._last_trouble = ""
        except (ChainError, InvalidCheckpoint) as error:
            if str(error) != self._last_trouble:
                log.warning("plasma operator: %s", error)
                self._last_trouble = str(error)

    def turn(self) -> None:
        """One look at both chains (blocking): deposits first, then the checkpoint."""
        self._members = self.view.members()
        self.mint_deposits()
        self.submit_checkpoint()

    # ---- deposits ---------------------------------------------------------------------------------------------

    def mint_deposits(self) -> int:
        """Give out what was deposited and not given out yet; returns how many."""
        self._scan_deposits()
        plasma, bridge = self.view.plasma, self.view.links.bridge
        self._minted = plasma.call(bridge, "mintedCount")
        self._waiting = {nonce: d for nonce, d in self._waiting.items() if nonce >= self._minted}
        due: list[Deposit] = []
        while len(due) < MAX_DEPOSITS_PER_TURN and (d := self._waiting.get(self._minted + len(due))):
            due.append(d)
        sent = [plasma.send(bridge, "mintFromDeposit", d.nonce, d.recipient, d.amount_wei, gas=MINT_GAS) for d in due]
        for tx_hash in sent:
            plasma.wait(tx_hash, where="PethBridge.mintFromDeposit")
            self._minted += 1
        return len(sent)

    def _scan_deposits(self) -> None:
        """Note the deposits of new blocks; start over when the newest block looked at is no longer on the chain."""
        root, seen = self.view.root, self._scanned
        last = root.block_number() - self._confirmations
        if last < 0 or (seen is not None and last < seen.number):
            return
        if seen is not None and root.block(seen.number).hash != seen.hash:
            self._waiting, self._scanned, seen = {}, None, None
        if seen is not None and seen.number == last:
            return
        newest = root.block(last)
        for event in root.events(self.view.links.plasma_root, "Deposited", seen.number + 1 if seen else 0, last):
            recipient = bytes.fromhex(event.args["recipient"][2:])
            deposit = Deposit(event.args["nonce"], recipient, event.args["amount"])
            self._waiting[deposit.nonce] = deposit
            self._deposits = deposit.nonce + 1
        self._scanned = newest

    # ---- checkpoints ------------------------------------------------------------------------------------------

    def on_gossip(self, kind: str, payload: bytes, sender: bytes) -> None:
        """Take a validator's signature, this hub's own included; asks no chain, so an event loop may call it."""
        if kind != GOSSIP_KIND:
            return
        try:
            signed = SignedEpoch.decode(payload)
        except InvalidCheckpoint as error:
            self._drop(sender, str(error))
            return
        if not self._members or not self._epoch <= signed.epoch <= self._epoch + EPOCHS_AHEAD:
            return  # not started, committed already, or from far ahead: the validator repeats its signature
        signer = signer_of(signed.digest, signed.signature, self._members)
        if signer is None:
            self._drop(sender, "the signer is not a validator")
            return
        with self._lock:
            self._signatures.setdefault(signed.epoch, {})[signer] = signed

    def submit_checkpoint(self) -> Checkpoint | None:
        """Submit the next checkpoint if a quorum has signed what this node sees; returns it then."""
        checkpoint = self.view.next_checkpoint()
        self._forget_before(checkpoint.epoch if checkpoint else self.view.anchor().next_epoch)
        if checkpoint is None:
            return None
        root, contract = self.view.root, self.view.links.plasma_root
        digest = checkpoint_digest(root.chain_id(), contract.address, checkpoint)
        with self._lock:
            held = list(self._signatures.get(checkpoint.epoch, {}).values())
        members = self._members
        signatures = merge(digest, members, [s.signature for s in held if s.digest == digest])
        if len(signatures) < quorum(len(members)):
            return None
        try:
            root.transact(contract, "submitCheckpoint", checkpoint.as_abi(), list(signatures))
        except CallReverted as error:
            if error.error != "WrongEpoch":
                raise
            return None  # somebody else brought it; the next turn continues from there
        self._last, self._last_signatures = checkpoint, len(signatures)
        self._forget_before(checkpoint.epoch + 1)
        return checkpoint

    def status(self) -> OperatorStatus:
        """Figures for the console and the report."""
        return OperatorStatus(self._deposits, self._minted, self._checkpoints, self._last, self._last_signatures, self._dropped)

    def _forget_before(self, epoch: int) -> None:
        with self._lock:
            self._epoch = self._checkpoints = epoch
            self._signatures = {e: held for e, held in self._signatures.items() if e >= epoch}

    def _drop(self, sender: bytes, why: str) -> None:
        self._dropped += 1
        if sender not in self._complained:
            self._complained.add(sender)
            log.warning("plasma checkpoint signature of 0x%s dropped: %s", sender.hex(), why)
