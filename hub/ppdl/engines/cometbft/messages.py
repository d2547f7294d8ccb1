"""ABCI 2.0: the requests CometBFT sends and the answers it expects, as far as an `Application` needs them.

Field numbers are those of `tendermint.abci` (types.proto of CometBFT 0.38 to 0.40). A response's number in the
envelope is its request's plus one; 1 is the exception, after which CometBFT stops.
Not here: their meaning (`bridge.py`), framing and sockets (`server.py`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hub.ppdl.application import BlockCtx, TxResult
from hub.ppdl.engines.cometbft.wire import (
    Fields,
    WireError,
    bytes_field,
    get_all_bytes,
    get_bytes,
    get_int,
    get_text,
    int_field,
    message_field,
    parse,
    text_field,
)
from hub.ppdl.genesis import ADDRESS_BYTES

EXCEPTION = 1
SECP256K1ETH = 5  # member of tendermint.crypto.PublicKey
NANOS_PER_MS, MS_PER_S = 1_000_000, 1000
EVENT_TYPE, EVENT_KEY = "openmg", "data"


class Call(enum.IntEnum):
    """Numbers of the requests in their envelope."""

    ECHO = 1
    FLUSH = 2
    INFO = 3
    INIT_CHAIN = 5
    QUERY = 6
    CHECK_TX = 8
    COMMIT = 11
    LIST_SNAPSHOTS = 12
    OFFER_SNAPSHOT = 13
    LOAD_SNAPSHOT_CHUNK = 14
    APPLY_SNAPSHOT_CHUNK = 15
    PREPARE_PROPOSAL = 16
    PROCESS_PROPOSAL = 17
    EXTEND_VOTE = 18
    VERIFY_VOTE_EXTENSION = 19
    FINALIZE_BLOCK = 20


@dataclass(frozen=True, slots=True)
class Request:
    """One call and its fields, not yet interpreted."""

    call: Call
    fields: Fields


@dataclass(frozen=True, slots=True)
class BlockCall:
    """What PrepareProposal, ProcessProposal and FinalizeBlock say of a block; `hash` is empty while preparing."""

    ctx: BlockCtx
    txs: tuple[bytes, ...]
    hash: bytes


def decode_request(data: bytes) -> Request:
    """Open the envelope. Raises WireError."""
    fields = parse(data)
    if len(fields) != 1:
        raise WireError(f"a request has one call, not {len(fields)}")
    (number,) = fields
    try:
        return Request(Call(number), parse(get_bytes(fields, number)))
    except ValueError as error:
        raise WireError(f"request {number}: {error}") from error


def encode_response(call: Call, body: bytes) -> bytes:
    """The envelope of an answer."""
    return message_field(call + 1, body)


def exception(reason: str) -> bytes:
    """Tell CometBFT to stop."""
    return message_field(EXCEPTION, text_field(1, reason))


def timestamp_ms(data: bytes) -> int:
    """A google.protobuf.Timestamp in unix milliseconds, rounded down. Raises WireError."""
    fields = parse(data)
    return get_int(fields, 1) * MS_PER_S + get_int(fields, 2) // NANOS_PER_MS


def block_call(request: Request) -> BlockCall:
    """Read a block from one of the three calls that carry one. Raises WireError."""
    fields = request.fields
    txs, block_hash = (2, 0) if request.call is Call.PREPARE_PROPOSAL else (1, 4)
    proposer = get_bytes(fields, 8)
    if len(proposer) != ADDRESS_BYTES:
        raise WireError(f"proposer has {len(proposer)} bytes")
    ctx = BlockCtx(get_int(fields, 5), timestamp_ms(get_bytes(fields, 6)), proposer)
    return BlockCall(ctx, get_all_bytes(fields, txs), get_bytes(fields, block_hash) if block_hash else b"")


def init_chain_call(request: Request) -> tuple[str, bytes]:
    """(chain id, app state) of InitChain. Raises WireError."""
    return get_text(request.fields, 2), get_bytes(request.fields, 5)


def info_answer(height: int, app_hash: bytes) -> bytes:
    """ResponseInfo."""
    return text_field(1, "openmg") + int_field(4, height) + bytes_field(5, app_hash)


def init_chain_answer(app_hash: bytes) -> bytes:
    """ResponseInitChain; the validators of the genesis document stay."""
    return bytes_field(3, app_hash)


def query_answer(code: int, value: bytes, height: int, reason: str) -> bytes:
    """ResponseQuery."""
    return int_field(1, code) + text_field(3, reason) + bytes_field(7, value) + int_field(9, height)


def check_answer(code: int, reason: str) -> bytes:
    """ResponseCheckTx."""
    return int_field(1, code) + text_field(3, reason)


def prepare_answer(txs: Iterable[bytes]) -> bytes:
    """ResponsePrepareProposal."""
    return b"".join(message_field(1, tx) for tx in txs)


def process_answer(accept: bool) -> bytes:
    """ResponseProcessProposal: ACCEPT = 1, REJECT = 2."""
    return int_field(1, 1 if accept else 2)


def public_key(compressed: bytes) -> bytes:
    """A tendermint.crypto.PublicKey of a 33-byte secp256k1 key whose address is its EVM address."""
    return bytes_field(SECP256K1ETH, compressed)


def _tx_result(result: TxResult) -> bytes:
    return int_field(1, 0 if result.ok else 1) + bytes_field(2, result.data) + text_field(3, result.reason)


def _event(data: bytes) -> bytes:
    attribute = text_field(1, EVENT_KEY) + text_field(2, data.hex())
    return text_field(1, EVENT_TYPE) + message_field(2, attribute)


def finalize_answer(
    app_hash: bytes, results: Sequence[TxResult], powers: Sequence[tuple[bytes, int]], events: Sequence[bytes]
) -> bytes:
    """ResponseFinalizeBlock; `powers` are (compressed public key, power), power 0 removes."""
    updates = [message_field(1, public_key(key)) + int_field(2, power) for key, power in powers]
    return (
        b"".join(message_field(1, _event(event)) for event in events)
        + b"".join(message_field(2, _tx_result(result)) for result in results)
        + b"".join(message_field(3, update) for update in updates)
        + bytes_field(5, app_hash)
    )
