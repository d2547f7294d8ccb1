"""A plasma validator: signs the checkpoint that its own node sees and tells the others.

Rules: it signs one checkpoint per epoch and remembers it durably before the signature leaves, so that it never
contradicts itself, not even after a crash. It repeats its signature until the root chain has the epoch, because
gossip may be lost. Whatever is unreachable is tried again at the next turn; the same trouble is logged once.
Not here: who collects signatures (`hub.plasma.operator`).
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hub.chain.errors import ChainError
from hub.plasma.checkpoint import InvalidCheckpoint, checkpoint_digest, sign
from hub.plasma.view import PlasmaView
from openmg.codec import DecodeError, decode, encode
from openmg.durable import replace_durably
from openmg.signing import address_of

log = logging.getLogger(__name__)

GOSSIP_KIND = "plasma.checkpoint.signature"
MAX_PAYLOAD_BYTES = 256
DEFAULT_POLL_SECONDS = 1.0


class Gossip(Protocol):
    """Sends a payload to all other hubs; may be a coroutine function."""

    def __call__(self, kind: str, payload: bytes) -> Awaitable[None] | None: ...


@dataclass(frozen=True)
class SignedEpoch:
    """A validator's signature over the checkpoint digest of an epoch."""

    epoch: int
    digest: bytes
    signature: bytes

    def __post_init__(self) -> None:
        sizes = isinstance(self.digest, bytes) and isinstance(self.signature, bytes)
        if type(self.epoch) is not int or not 0 <= self.epoch < 2**64 or not sizes:
            raise ValueError("fields have wrong types")
        if len(self.digest) != 32 or len(self.signature) != 65:
            raise ValueError("digest or signature has a wrong length")

    def encode(self) -> bytes:
        return encode([self.epoch, self.digest, self.signature])

    @classmethod
    def decode(cls, payload: bytes) -> SignedEpoch:
        """Raises InvalidCheckpoint for bytes that are not one."""
        try:
            return cls(*decode(payload, max_bytes=MAX_PAYLOAD_BYTES))
        except (DecodeError, TypeError, ValueError) as error:
            raise InvalidCheckpoint(f"not a checkpoint signature: {error}") from error


class SigningMemory:
    """The newest signed epoch in a file: written before the signature leaves, read at start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: SignedEpoch | None = None
        if path.exists():
            try:
                self.last = SignedEpoch.decode(path.read_bytes())
            except InvalidCheckpoint as error:
                raise InvalidCheckpoint(f"{path} is damaged ({error}); restore it or stop signing") from error

    def remember(self, signed: SignedEpoch) -> None:
        """Durably note a signature; InvalidCheckpoint when it contradicts an earlier one."""
        if self.last is not None and (
            signed.epoch < self.last.epoch or (signed.epoch == self.last.epoch and signed.digest != self.last.digest)
        ):
            raise InvalidCheckpoint(f"epoch {signed.epoch} was signed with other content before; not signed again")
        if signed == self.last:
            return
        replace_durably(self.path, signed.encode())
        self.last = signed


class CheckpointSigner:
    """The validator's role; `local` gets its own signatures too (the operator in the same hub)."""

    def __init__(
        self,
        view: PlasmaView,
        private_key: bytes,
        memory: SigningMemory,
        gossip: Gossip,
        *,
        local: Callable[[str, bytes, bytes], None] | None = None,
        poll_seconds: float = DEFAULT_POLL_SECONDS,
    ) -> None:
        self.view = view
        self.address = address_of(private_key)
        self.signatures = 0
        self._private_key = private_key
        self._memory = memory
        self._gossip = gossip
        self._local = local
        self._poll_seconds = poll_seconds
        self._last_trouble = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Sign whatever becomes due until `stop` is set."""
        while not stop.is_set():
            await self.turn()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._poll_seconds)

    async def turn(self) -> SignedEpoch | None:
        """One look at the chains: sign and tell the checkpoint that is due, if there is one."""
        try:
            signed = await asyncio.to_thread(self.sign_due)
        except (ChainError, InvalidCheckpoint) as error:
            if str(error) != self._last_trouble:
                log.warning("plasma checkpoint: %s", error)
                self._last_trouble = str(error)
            return None
        self._last_trouble = ""
        if signed is None:
            return None
        payload = signed.encode()
        if self._local is not None:
            self._local(GOSSIP_KIND, payload, self.address)
        sent = self._gossip(GOSSIP_KIND, payload)
        if inspect.isawaitable(sent):
            await sent
        return signed

    def sign_due(self) -> SignedEpoch | None:
        """The signature over the next checkpoint of this node's view, or None while none is due."""
        checkpoint = self.view.next_checkpoint()
        if checkpoint is None:
            return None
        digest = checkpoint_digest(self.view.root.chain_id(), self.view.links.plasma_root.address, checkpoint)
        signed = SignedEpoch(checkpoint.epoch, digest, sign(self._private_key, digest))
        if signed != self._memory.last:
            self._memory.remember(signed)
            self.signatures += 1
        return signed
