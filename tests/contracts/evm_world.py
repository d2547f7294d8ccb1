"""A real chain with our contracts on it, and a PPDL chain of four keys whose headers and seals are built by hand.

Rules: nothing of `hub.ppdl` is used here: headers, seals and events follow the published format (320-byte header,
event words), so that contract and engine are each checked against a third writing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from hub.chain.client import Contract, EvmClient
from hub.chain.errors import CallReverted
from openmg.hashing import keccak256, merkle_proof, merkle_root, word, words
from openmg.signing import address_of, sign_digest

ETHER = 10**18
PPDL_CHAIN_ID = 770_077
GENESIS_HASH = keccak256(b"a genesis")
HEADER_TAG = keccak256(b"openmg.ppdl.header.v1")
COMMIT_TAG = keccak256(b"PPDL-COMMIT-V1")
APP_TAG = keccak256(b"openmg.ppdl.app.v1")
SLOT_TAG = keccak256(b"openmg.event.slot.v1")
INFERENCE_TAG = keccak256(b"openmg.event.inference.v1")


def key(name: str) -> bytes:
    """A private key that belongs to a name."""
    return keccak256(b"openmg tests " + name.encode())


def validator_keys(count: int, label: str = "validator") -> list[bytes]:
    """Private keys in ascending order of their addresses."""
    return sorted((key(f"{label} {i}") for i in range(count)), key=address_of)


@dataclass
class PpdlChain:
    """Headers of a PPDL chain and the events that they prove."""

    keys: list[bytes]
    headers: list[bytes] = field(default_factory=list)
    last_hash: bytes = GENESIS_HASH
    timestamp_ms: int = 1_000
    app_hash: bytes = keccak256(b"genesis application")
    next_keys: list[bytes] | None = None

    def validators_hash(self, keys: list[bytes]) -> bytes:
        return keccak256(words(*[address_of(k) for k in keys]))

    def header(self, **changed: int | bytes) -> bytes:
        """The next header's 320 bytes, with any fields changed."""
        now = self.validators_hash(self.keys)
        fields: dict[str, int | bytes] = {
            "tag": HEADER_TAG,
            "chain_id": PPDL_CHAIN_ID,
            "height": len(self.headers) + 1,
            "parent": self.last_hash,
            "timestamp_ms": self.timestamp_ms,
            "proposer": address_of(self.keys[0]),
            "tx_root": bytes(32),
            "app_hash": self.app_hash,
            "validators_hash": now,
            "next_validators_hash": self.validators_hash(self.next_keys) if self.next_keys else now,
        }
        assert changed.keys() <= fields.keys()
        return words(*(fields | changed).values())

    def extend(self, events: list[bytes] | None = None, **changed: int | bytes) -> bytes:
        """Add a header; `events` are those of the block, proved by the header after it."""
        header = self.header(**changed)
        self.headers.append(header)
        self.last_hash = keccak256(header)
        self.timestamp_ms += 500
        state, model = keccak256(b"state" + word(len(self.headers))), keccak256(b"model")
        self.app_hash = keccak256(words(APP_TAG, state, merkle_root(events or []), model))
        return header

    def proof(self, height: int, events: list[bytes], index: int) -> tuple[object, ...]:
        """The EventProof struct of an event of block `height`."""
        state, model = keccak256(b"state" + word(height)), keccak256(b"model")
        return height, index, len(events), merkle_proof(events, index), state, model

    def seals(self, header: bytes, height: int, view: int = 0, keys: list[bytes] | None = None) -> bytes:
        """Commit seals of the given keys (default: three of four, a quorum), in their order."""
        digest = keccak256(words(COMMIT_TAG, PPDL_CHAIN_ID, GENESIS_HASH, height, view, keccak256(header)))
        chosen = self.keys[: (len(self.keys) + (len(self.keys) - 1) // 3) // 2 + 1] if keys is None else keys
        return b"".join(sign_digest(k, digest) for k in chosen)

    def relay(self, client: EvmClient, relay: Contract, first: int, last: int) -> None:
        """Submit the headers `first` to `last` as one batch."""
        batch = b"".join(self.headers[first - 1 : last])
        client.transact(relay, "submitHeaders", batch, 0, self.seals(self.headers[last - 1], last))


def slot_event(microgrid: int, slot: int, members: int, import_wh: int, export_wh: int) -> bytes:
    return words(SLOT_TAG, PPDL_CHAIN_ID, microgrid, slot, members, import_wh, export_wh)


@dataclass(frozen=True)
class Chain:
    """A running node and what tests do with it besides ordinary transactions."""

    url: str

    def client(self, name: str | bytes) -> EvmClient:
        return EvmClient(self.url, name if isinstance(name, bytes) else key(name))

    def give(self, address: bytes, amount_wei: int) -> None:
        EvmClient(self.url).rpc("anvil_setBalance", "0x" + address.hex(), hex(amount_wei))

    def skip(self, seconds: int) -> None:
        client = EvmClient(self.url)
        client.rpc("evm_increaseTime", seconds)
        client.rpc("evm_mine")

    def block_at(self, seconds_ahead: int = 10) -> tuple[str, int]:
        """Mines a block; returns its number (hex, for calls at it) and its timestamp, which such calls see exactly."""
        client = EvmClient(self.url)
        timestamp = client.block("latest").timestamp + seconds_ahead
        client.rpc("evm_setNextBlockTimestamp", timestamp)
        client.rpc("evm_mine")
        return hex(client.block_number()), timestamp

    def set_storage(self, contract: Contract, slot: int, value: int) -> None:
        client = EvmClient(self.url)
        client.rpc("anvil_setStorageAt", contract.checksum_address, "0x" + word(slot).hex(), "0x" + word(value).hex())

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Everything inside is taken back at the end."""
        client = EvmClient(self.url)
        snapshot = client.rpc("evm_snapshot")
        try:
            yield
        finally:
            assert client.rpc("evm_revert", snapshot)


@contextmanager
def refused(error: str) -> Iterator[None]:
    """The block must be refused by a contract with this custom error."""
    with pytest.raises(CallReverted) as caught:
        yield
    assert caught.value.error == error, str(caught.value)


Sender = Callable[[str], EvmClient]
