"""What one node sees of both chains, and the checkpoint that follows from it.

Rules: every validator computes the next checkpoint alone, from its own node, by the same rule: an epoch is a fixed
number of blocks after the last committed one. So nobody proposes and nobody trusts a proposal; equal views sign equal
bytes. Note root and inbox count are read from events, which a node keeps longer than states. Before a checkpoint is
built, every payout of the bridge in its blocks is compared with the deposit on the root chain.
Not here: signatures and their exchange (`hub.plasma.signer`, `hub.plasma.operator`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.chain.client import Contract, Event, EvmClient
from hub.plasma.checkpoint import Checkpoint, InvalidCheckpoint
from openmg.hashing import keccak256, merkle_root, words

DEFAULT_EPOCH_BLOCKS = 20
"""At one block a second, a checkpoint every 20 s; well inside the 64 blocks whose state a node keeps."""


@dataclass(frozen=True)
class Anchor:
    """What the root contract has committed: the next epoch and what it must continue."""

    next_epoch: int
    last_block: int
    last_hash: bytes
    deposits: int


@dataclass(frozen=True)
class PlasmaLinks:
    """The contracts that tie the two chains together."""

    plasma_root: Contract
    bridge: Contract
    confidential: Contract


@dataclass(frozen=True)
class _Scan:
    """What the events say up to the end of a block; the hash tells whether the chain still has that block."""

    block: int
    block_hash: bytes
    note_root: bytes
    inbox_count: int


NOTHING_SCANNED = _Scan(-1, b"", bytes(32), 0)


class PlasmaView:
    """One node's view; the clients are used by one thread at a time."""

    def __init__(
        self, root: EvmClient, plasma: EvmClient, links: PlasmaLinks, epoch_blocks: int = DEFAULT_EPOCH_BLOCKS
    ) -> None:
        if epoch_blocks < 1:
            raise ValueError(f"epoch_blocks is {epoch_blocks}; it must be at least 1")
        self.root = root
        self.plasma = plasma
        self.links = links
        self.epoch_blocks = epoch_blocks
        self._scan_result = NOTHING_SCANNED
        self._members: tuple[bytes, ...] | None = None

    def members(self) -> tuple[bytes, ...]:
        """The validators that the root contract knows, ascending; asked once."""
        if self._members is None:
            listed = self.root.call(self.links.plasma_root, "validators")
            self._members = tuple(bytes.fromhex(address[2:]) for address in listed)
        return self._members

    def anchor(self) -> Anchor:
        """What the root contract has committed now.

        All is read at one block: a checkpoint that arrives between two calls would otherwise mix two epochs, and a
        signature over the mixture would contradict the validator's next one.
        """
        contract, at = self.links.plasma_root, hex(self.root.block_number())
        call = self.root.call
        return Anchor(
            next_epoch=call(contract, "checkpointCount", at=at),
            last_block=call(contract, "lastBlock", at=at),
            last_hash=call(contract, "lastCheckpointHash", at=at),
            deposits=call(contract, "depositCount", at=at),
        )

    def next_checkpoint(self) -> Checkpoint | None:
        """The checkpoint of the next epoch, or None while its last block does not exist.

        Raises InvalidCheckpoint when this node sees a payout that no deposit covers.
        """
        anchor = self.anchor()
        last = anchor.last_block + self.epoch_blocks
        if self.plasma.block_number() < last:
            return None
        scan = self._scan(last)
        blocks = [self.plasma.block(number) for number in range(anchor.last_block + 1, last + 1)]
        return Checkpoint(
            epoch=anchor.next_epoch,
            first_block=anchor.last_block + 1,
            last_block=last,
            block_hash=blocks[-1].hash,
            state_root=blocks[-1].state_root,
            tx_root=merkle_root([block.transactions_root for block in blocks]),
            note_root=scan.note_root,
            inbox_count=scan.inbox_count,
            prev_hash=anchor.last_hash,
            timestamp=blocks[-1].timestamp,
        )

    def _scan(self, last_block: int) -> _Scan:
        """Note root and inbox count at the end of `last_block`.

        Goes on from the last scan, or starts over when that went further or its block is no longer on the chain. It is
        kept only when all of it succeeded: half a scan would take the same payouts for new ones the next time.
        """
        before = self._scan_result
        if last_block < before.block or (before.block >= 0 and self.plasma.block(before.block).hash != before.block_hash):
            before = NOTHING_SCANNED
        block_hash, first = self.plasma.block(last_block).hash, before.block + 1
        note_root, inbox_count = before.note_root, before.inbox_count
        for minted in self.plasma.events(self.links.bridge, "Minted", first, last_block):
            self._check_payout(minted, inbox_count)
            inbox_count += 1
        batches = self.plasma.events(self.links.confidential, "BatchAppended", first, last_block)
        if batches:
            note_root = int(batches[-1].args["root"]).to_bytes(32, "big")
        self._scan_result = _Scan(last_block, block_hash, note_root, inbox_count)
        return self._scan_result

    def _check_payout(self, minted: Event, expected_nonce: int) -> None:
        nonce, amount = minted.args["nonce"], minted.args["amount"]
        recipient = bytes.fromhex(minted.args["recipient"][2:])
        deposited = self.root.call(self.links.plasma_root, "depositHash", nonce)
        if nonce != expected_nonce or deposited != keccak256(words(nonce, recipient, amount)):
            raise InvalidCheckpoint(
                f"block {minted.block} pays deposit {nonce} ({amount} wei), which the root chain does not have so; "
                "this node signs no checkpoint of it"
            )
