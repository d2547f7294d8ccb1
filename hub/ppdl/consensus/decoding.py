"""Consensus messages out of their canonical encoding (`messages.py`).

Rules: a decoder checks form and bounds and trusts no embedded hash or sender, both are computed again (`certs.py`). A message
is opened first: its fields are there, and the blocks among them are views of the bytes that came. So what stands around a
block, and its header, can be looked at before the block is decoded.

Not here: which blocks are worth it (`reading.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hub.ppdl.consensus.block import MIN_BLOCK_BYTES, Block, BlockError
from hub.ppdl.consensus.header import Header, HeaderError
from hub.ppdl.consensus.messages import (
    DIGEST_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_MESSAGE_ITEMS,
    MAX_SYNC_BLOCKS,
    MAX_VIEW,
    Announcement,
    Commit,
    Decided,
    DecidedAnnouncement,
    Kind,
    Message,
    MessageError,
    NewView,
    NewViewAnnouncement,
    Prepare,
    PreparedCert,
    PrePrepare,
    QuorumCert,
    Status,
    SyncRequest,
    SyncResponse,
    ViewChange,
)
from hub.ppdl.genesis import MAX_U64, MAX_VALIDATORS
from openmg import codec
from openmg.signing import SIGNATURE_BYTES

Held = Callable[[bytes], Block | None]
"""The block of a hash, if there is one already."""


class Opened(NamedTuple):
    """A message whose outer form has been checked; the blocks among its fields are views of the bytes that came."""

    kind: int
    fields: list[Any]

    def message(self, held: Held | None = None) -> Message:
        """The whole message; a block that is `held` already is not decoded again. Raises MessageError."""
        decoder = _DECODERS.get(self.kind)
        if decoder is None:
            raise MessageError("unknown message kind")
        try:
            return decoder(self.fields, held)
        except (BlockError, HeaderError) as error:
            raise MessageError(str(error)) from error

    def announcement(self) -> Announcement:
        """What a PRE-PREPARE announces. Raises MessageError."""
        return _announcement(self.fields)

    def block_bytes(self) -> int:
        """How long the block in a PRE-PREPARE is. Raises MessageError."""
        return len(_encoded_block(_listed(self.fields, 3, 3)[1]))

    def new_view(self) -> NewViewAnnouncement:
        """What a NEW-VIEW announces, and its proof. Raises MessageError."""
        try:
            height, view, changes, proposal, signature = _new_view_parts(self.fields)
        except HeaderError as error:
            raise MessageError(str(error)) from error
        return NewViewAnnouncement(height, view, changes, _announcement(proposal), signature)

    def decided(self) -> DecidedAnnouncement:
        """The header that a DECIDED proves, and its proof. Raises MessageError."""
        block, qc = _decided_parts(self.fields)
        return DecidedAnnouncement(_header(block), qc)

    def height(self) -> int:
        """The height of the block that a NEW-VIEW proposes or a DECIDED proves. Raises MessageError."""
        fields = self.fields
        if self.kind == Kind.NEW_VIEW:
            fields = _listed(_listed(fields, 5, 5)[3], 3, 3)[1:]
        return _header(_listed(fields, 2, 3)[0]).height

    def bare(self) -> Opened:
        """A VIEW-CHANGE without the block beside it."""
        return Opened(self.kind, [*self.fields[:-1], None])


def open_message(data: bytes) -> Opened:
    """Parse canonical bytes as far as the blocks in them. Raises MessageError."""
    try:
        value = codec.decode(data, max_bytes=MAX_MESSAGE_BYTES, max_items=MAX_MESSAGE_ITEMS, views_from=MIN_BLOCK_BYTES)
    except codec.DecodeError as error:
        raise MessageError(str(error)) from error
    kind, *fields = _listed(value, 1, MAX_VALIDATORS)
    return Opened(_int(kind, 0, 255), fields)


def decode_message(data: bytes) -> Message:
    """Parse canonical bytes. Raises MessageError for anything else."""
    return open_message(data).message()


def decode_cert(data: bytes) -> PreparedCert:
    """Exact inverse of `encode_cert`. Raises MessageError."""
    try:
        cert = _cert(codec.decode(data))
    except (codec.DecodeError, HeaderError) as error:
        raise MessageError(str(error)) from error
    if cert is None:
        raise MessageError("certificate is empty")
    return cert


def _int(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise MessageError("number is out of range")
    return value


def _bytes(value: Any, length: int) -> bytes:
    if type(value) is not bytes or len(value) != length:
        raise MessageError("bytes have a wrong length")
    return value


def _listed(value: Any, low: int, high: int) -> list[Any]:
    if not isinstance(value, list) or not low <= len(value) <= high:
        raise MessageError("list has a wrong length")
    return value


def _encoded_block(value: Any) -> bytes | memoryview:
    if not isinstance(value, bytes | memoryview):
        raise MessageError("block is not bytes")
    return value


def _header(block: Any) -> Header:
    try:
        return Block.decode_header(_encoded_block(block))
    except BlockError as error:
        raise MessageError(str(error)) from error


def _block(value: Any, held: Held | None) -> Block:
    known = None if held is None else held(_header(value).hash)
    return Block.decode(_encoded_block(value)) if known is None else known


def _signatures(value: Any) -> tuple[bytes, ...]:
    return tuple(_bytes(s, SIGNATURE_BYTES) for s in _listed(value, 1, MAX_VALIDATORS))


def _pre_prepare(fields: Any, held: Held | None) -> PrePrepare:
    view, block, signature = _listed(fields, 3, 3)
    return PrePrepare(_int(view, 0, MAX_VIEW), _block(block, held), _bytes(signature, SIGNATURE_BYTES))


def _vote(fields: Any) -> tuple[int, int, bytes, bytes]:
    height, view, digest, signature = _listed(fields, 4, 4)
    place = _int(height, 1, MAX_U64), _int(view, 0, MAX_VIEW)
    return *place, _bytes(digest, DIGEST_BYTES), _bytes(signature, SIGNATURE_BYTES)


def _cert(value: Any) -> PreparedCert | None:
    if value is None:
        return None
    view, header, signatures = _listed(value, 3, 3)
    if type(header) is not bytes:
        raise MessageError("header is not bytes")
    return PreparedCert(_int(view, 0, MAX_VIEW), Header.decode(header), _signatures(signatures))


def _view_change(fields: Any, held: Held | None) -> ViewChange:
    height, view, cert, signature, block = _listed(fields, 5, 5)
    return ViewChange(
        _int(height, 1, MAX_U64),
        _int(view, 1, MAX_VIEW),
        _cert(cert),
        _bytes(signature, SIGNATURE_BYTES),
        None if block is None else _block(block, held),
    )


def _bare_view_change(fields: Any) -> ViewChange:
    message = _view_change(fields, None)
    if message.block is not None:
        raise MessageError("view change inside a new view carries a block")
    return message


def _announcement(fields: Any) -> Announcement:
    view, block, signature = _listed(fields, 3, 3)
    return Announcement(_int(view, 0, MAX_VIEW), _header(block), _bytes(signature, SIGNATURE_BYTES))


def _new_view_parts(fields: Any) -> tuple[int, int, tuple[ViewChange, ...], Any, bytes]:
    """The parts of a NEW-VIEW; its proposal as it came."""
    height, view, changes, proposal, signature = _listed(fields, 5, 5)
    place = _int(height, 1, MAX_U64), _int(view, 1, MAX_VIEW)
    bare = tuple(_bare_view_change(vc) for vc in _listed(changes, 1, MAX_VALIDATORS))
    return *place, bare, proposal, _bytes(signature, SIGNATURE_BYTES)


def _new_view(fields: Any, held: Held | None) -> NewView:
    height, view, changes, proposal, signature = _new_view_parts(fields)
    return NewView(height, view, changes, _pre_prepare(proposal, held), signature)


def _decided_parts(fields: Any) -> tuple[Any, QuorumCert]:
    """The block of a DECIDED as it came, and the proof of it."""
    block, view, seals = _listed(fields, 3, 3)
    return block, QuorumCert(_int(view, 0, MAX_VIEW), _signatures(seals))


def _decided(fields: Any, held: Held | None) -> Decided:
    block, qc = _decided_parts(fields)
    return Decided(_block(block, held), qc)


def _height(fields: Any) -> int:
    return _int(_listed(fields, 1, 1)[0], 1, MAX_U64)


def _sync_response(fields: Any, held: Held | None) -> SyncResponse:
    blocks = _listed(_listed(fields, 1, 1)[0], 0, MAX_SYNC_BLOCKS)
    return SyncResponse(tuple(_decided(b, held) for b in blocks))


_DECODERS: dict[int, Callable[[Any, Held | None], Message]] = {
    Kind.PRE_PREPARE: _pre_prepare,
    Kind.PREPARE: lambda f, _: Prepare(*_vote(f)),
    Kind.COMMIT: lambda f, _: Commit(*_vote(f)),
    Kind.VIEW_CHANGE: _view_change,
    Kind.NEW_VIEW: _new_view,
    Kind.DECIDED: _decided,
    Kind.STATUS: lambda f, _: Status(_height(f)),
    Kind.SYNC_REQUEST: lambda f, _: SyncRequest(_height(f)),
    Kind.SYNC_RESPONSE: _sync_response,
}
