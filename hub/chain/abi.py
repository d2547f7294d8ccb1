"""ABI pieces of the chain client: contracts and their functions, events, values as bytes and hex, refusals.

Rules: our contracts overload no function name, so a name is enough. Addresses are 20 bytes, or hex in any case.
Not here: the network (`hub.chain.client`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address
from web3 import Web3

from hub.chain.artifacts import Artifact, explain_revert
from hub.chain.errors import CallReverted, ChainError
from openmg.evm.rlp import encode as rlp_encode
from openmg.evm.rlp import integer as rlp_integer
from openmg.hashing import keccak256

_WEB3 = Web3()
"""Without a provider: its codec and its event decoder only."""


@dataclass(frozen=True)
class Contract:
    """A contract on a chain: its name (of the artifact), 20-byte address and ABI."""

    name: str
    address: bytes
    abi: tuple[dict[str, Any], ...]

    @property
    def checksum_address(self) -> str:
        return to_checksum_address(self.address)


@dataclass(frozen=True)
class Receipt:
    """A mined transaction: hash, block, success, gas and the address it created (or None)."""

    tx_hash: bytes
    block: int
    succeeded: bool
    gas_used: int
    contract_address: bytes | None


@dataclass(frozen=True)
class Event:
    """A decoded log: event name, arguments by name, and where it stands."""

    name: str
    args: Mapping[str, Any]
    block: int
    tx_hash: bytes
    log_index: int


@dataclass(frozen=True)
class BlockInfo:
    """What a checkpoint needs of a block."""

    number: int
    hash: bytes
    state_root: bytes
    transactions_root: bytes
    timestamp: int
    transaction_count: int


def create_address(sender: bytes, nonce: int) -> bytes:
    """The address of a contract that `sender` creates with `nonce` (yellow paper, section 7)."""
    return keccak256(rlp_encode([sender, rlp_integer(nonce)]))[12:]


def function_abi(contract: Contract, name: str) -> Mapping[str, Any]:
    """The ABI of a function; none of our contracts overloads a name."""
    for part in contract.abi:
        if part["type"] == "function" and part["name"] == name:
            return part
    raise ChainError(f"{contract.name} has no function {name}; is its artifact old?")


def selector_of(contract: Contract, function: str) -> bytes:
    """The four bytes that name a function."""
    return _selector(function_abi(contract, function))


def encode_call(contract: Contract, function: str, args: Sequence[Any]) -> bytes:
    """Selector and arguments of a call; structs are tuples."""
    entry = function_abi(contract, function)
    return _selector(entry) + _WEB3.codec.encode([_kind(item) for item in entry["inputs"]], list(args))


def decode_result(contract: Contract, function: str, data: bytes) -> Any:
    """What a function returned: its value, or a tuple when there are several."""
    kinds = [_kind(item) for item in function_abi(contract, function)["outputs"]]
    values = _WEB3.codec.decode(kinds, data)
    return values[0] if len(values) == 1 else values


def encode_constructor(artifact: Artifact, args: Sequence[Any]) -> bytes:
    """Arguments that are put behind the creation code."""
    inputs: list[Any] = next((part["inputs"] for part in artifact.abi if part["type"] == "constructor"), [])
    return _WEB3.codec.encode([_kind(item) for item in inputs], list(args))


class EventDecoder:
    """Decodes the logs of one event of a contract."""

    def __init__(self, contract: Contract, name: str) -> None:
        self._event = _WEB3.eth.contract(abi=contract.abi).events[name]()
        self.topic = to_hex(to_bytes(self._event.topic))

    def decode(self, raw: Mapping[str, Any]) -> Event:
        """The event of a log as the node sent it."""
        log = {
            **raw,
            "topics": [to_bytes(topic) for topic in raw["topics"]],
            "data": to_bytes(raw["data"]),
            "blockNumber": int(raw["blockNumber"], 16),
            "logIndex": int(raw["logIndex"], 16),
            "transactionIndex": int(raw["transactionIndex"], 16),
        }
        decoded = self._event.process_log(log)
        tx_hash = to_bytes(raw["transactionHash"])
        return Event(decoded["event"], dict(decoded["args"]), log["blockNumber"], tx_hash, log["logIndex"])


def refusal(method: str, error: Mapping[str, Any]) -> ChainError:
    """What a node's error answer means: CallReverted when a contract refused."""
    data = error.get("data")
    if error.get("code") == 3 or "revert" in str(error.get("message", "")):
        try:
            name, detail = explain_revert(to_bytes(data) if isinstance(data, str) else b"")
        except ValueError:  # not hex: some nodes put a text there
            name, detail = "unknown", str(data)
        return CallReverted(method, name, detail)
    return ChainError(f"{method} failed: {error.get('message', error)}")


def _selector(entry: Mapping[str, Any]) -> bytes:
    kinds = ",".join(_kind(item) for item in entry["inputs"])
    return keccak256(f"{entry['name']}({kinds})".encode())[:4]


def _kind(item: Mapping[str, Any]) -> str:
    """Canonical ABI type of an output, tuples spelt out."""
    kind: str = item["type"]
    if not kind.startswith("tuple"):
        return kind
    return "(" + ",".join(_kind(part) for part in item["components"]) + ")" + kind[5:]


def to_hex(data: bytes) -> str:
    """0x and lowercase digits."""
    return "0x" + data.hex()


def to_bytes(text: Any) -> bytes:
    """Bytes of hex text, with or without 0x; bytes as they are."""
    return bytes(text) if isinstance(text, bytes | bytearray) else bytes.fromhex(str(text).removeprefix("0x"))
