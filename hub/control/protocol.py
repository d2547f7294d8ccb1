"""Requests and answers of the control socket, and their bytes.

A connection carries one request and one answer, each a frame: its length in four bytes, big-endian, then canonical CBOR.

    request   [TAG, "query", path]     path of `hub.ppdl.app.answers`, text
              [TAG, "submit", tx]      bytes of a transaction
    answer    [TAG, ok, value, height, reason]

The value of an answer to a query is what the application said, to a submission the transaction's keccak-256. Not here:
sockets, what a path or a transaction means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hub.ppdl.consensus.block import MAX_TX_BYTES
from openmg import codec

TAG = "openmg.hub.control.v1"
HEAD_BYTES = 4
MAX_PATH_CHARS = 256
"""The longest path of the application names a number of 78 digits, a chain and a contract: 150 characters."""
MAX_REQUEST_BYTES = MAX_TX_BYTES + 1024
"""A transaction and what is around it."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""The same as a frame between hubs: the application's largest answer, two days of slots, has some 100 KiB."""
MAX_REASON_CHARS = 1000
CONTROL_PATH = "control"
"""The one query that the socket answers itself: `ControlCounts`."""
_QUERY, _SUBMIT = "query", "submit"


class ProtocolError(ValueError):
    """The bytes are no request or no answer; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Query:
    """A read of the committed state."""

    path: str


@dataclass(frozen=True, slots=True)
class Submit:
    """A transaction for the chain."""

    tx: bytes


Request = Query | Submit


@dataclass(frozen=True, slots=True)
class Answer:
    """`reason` says why when `ok` is false; `height` is the hub's last block, 0 when it does not matter."""

    ok: bool
    value: bytes = b""
    height: int = 0
    reason: str = ""


@dataclass
class ControlCounts:
    """What came over the socket since the hub's start.

    answered: requests. refused: queries and transactions that the chain's rules refused. malformed: frames that are no
    request. slow: clients that did not send or take in time, or went away. strangers: other users. busy: clients
    that came while too many were served. failed: requests at which the hub itself failed.
    """

    PURPOSE: ClassVar[str] = "query"
    answered: int = 0
    refused: int = 0
    malformed: int = 0
    slow: int = 0
    strangers: int = 0
    busy: int = 0
    failed: int = 0


def frame(body: bytes, bound: int) -> bytes:
    """The body with its length. Raises ProtocolError for a body over the bound."""
    if len(body) > bound:
        raise ProtocolError(f"control socket: {len(body)} bytes do not fit a frame of {bound}")
    return len(body).to_bytes(HEAD_BYTES, "big") + body


def body_length(head: bytes, bound: int) -> int:
    """Length of the body after these HEAD_BYTES. Raises ProtocolError for an empty one and one over the bound."""
    length = int.from_bytes(head, "big")
    if not 1 <= length <= bound:
        raise ProtocolError(f"control socket: a frame of {length} bytes came, it may have 1 to {bound}")
    return length


def encode_request(request: Request) -> bytes:
    """The framed request. Raises ProtocolError for one over its bounds."""
    name, value = (_QUERY, request.path) if isinstance(request, Query) else (_SUBMIT, request.tx)
    _check(name, value)
    return frame(codec.encode([TAG, name, value]), MAX_REQUEST_BYTES)


def decode_request(body: bytes) -> Request:
    """The request in a frame's body. Raises ProtocolError."""
    fields = _fields(body, MAX_REQUEST_BYTES)
    if [type(field) for field in fields] not in ([str, str, str], [str, str, bytes]):
        raise ProtocolError("control socket: a request is a name with a path or a transaction")
    _, name, value = fields
    _check(name, value)
    return Query(value) if name == _QUERY else Submit(value)


def _check(name: str, value: str | bytes) -> None:
    if name == _QUERY and isinstance(value, str) and len(value) <= MAX_PATH_CHARS:
        return
    if name == _SUBMIT and isinstance(value, bytes) and 0 < len(value) <= MAX_TX_BYTES:
        return
    raise ProtocolError(
        f"control socket: it takes a query of up to {MAX_PATH_CHARS} characters or a transaction of 1 to {MAX_TX_BYTES} bytes"
    )


def encode_answer(answer: Answer) -> bytes:
    """The framed answer; one that is too large becomes a refusal that says so."""
    if len(answer.value) > MAX_ANSWER_BYTES - 2 * MAX_REASON_CHARS:
        answer = Answer(False, height=answer.height, reason=f"the answer has {len(answer.value)} bytes, too many for a frame")
    reason = answer.reason[:MAX_REASON_CHARS].encode("ascii", "replace").decode("ascii")
    return frame(codec.encode([TAG, answer.ok, answer.value, answer.height, reason]), MAX_ANSWER_BYTES)


def decode_answer(body: bytes) -> Answer:
    """The answer in a frame's body. Raises ProtocolError."""
    fields = _fields(body, MAX_ANSWER_BYTES)
    if [type(field) for field in fields] != [str, bool, bytes, int, str]:
        raise ProtocolError("control socket: the hub's answer has another form; use commands of the hub's own version")
    return Answer(*fields[1:])


def _fields(body: bytes, bound: int) -> list[Any]:
    try:
        fields = codec.decode(body, max_bytes=bound)
    except codec.DecodeError as error:
        raise ProtocolError(f"control socket: the frame is not canonical CBOR ({error})") from error
    if not isinstance(fields, list) or not fields or fields[0] != TAG:
        raise ProtocolError(f"control socket: the frame does not begin with {TAG!r}")
    return fields
