"""Messages of state transfer and their canonical encoding [kind, field, ...], on a channel of their own.

None carries a signature: the transport names the sender, a manifest proves itself, a chunk has a proved hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hub.ppdl.application import CHUNK_BYTES, MAX_CHUNKS
from hub.ppdl.genesis import MAX_U64
from hub.ppdl.snapshots.manifest import MAX_FORMAT, MAX_MANIFEST_BYTES, Manifest, ManifestError, decode_manifest
from openmg import codec

HASH_BYTES = 32
_MAX_BYTES = MAX_MANIFEST_BYTES + 64
_MAX_ITEMS = 16
_ASK, _OFFER, _NOTHING, _FETCH, _CHUNK = range(1, 6)


class SnapshotMessageError(ValueError):
    """Bytes that are no message of state transfer."""


@dataclass(frozen=True)
class AskSnapshots:
    """Asks for manifests of snapshots above a height."""

    above: int


@dataclass(frozen=True)
class Offer:
    """One manifest."""

    manifest: Manifest


@dataclass(frozen=True)
class NothingToOffer:
    """No snapshot above the height asked for."""


@dataclass(frozen=True)
class ChunkId:
    """One chunk of a snapshot: its height and layout, the hash that names its content, the chunk's place."""

    height: int
    format: int
    snapshot: bytes
    index: int


@dataclass(frozen=True)
class FetchChunk:
    """Asks for a chunk."""

    chunk: ChunkId


@dataclass(frozen=True)
class Chunk:
    """A chunk; empty when the sender keeps it no longer."""

    chunk: ChunkId
    data: bytes


SnapshotMessage = AskSnapshots | Offer | NothingToOffer | FetchChunk | Chunk


def _id_fields(chunk: ChunkId) -> list[Any]:
    return [chunk.height, chunk.format, chunk.snapshot, chunk.index]


def encode_snapshot_message(message: SnapshotMessage) -> bytes:
    """Canonical bytes."""
    match message:
        case AskSnapshots():
            return codec.encode([_ASK, message.above])
        case Offer():
            return codec.encode([_OFFER, message.manifest.encoded])
        case NothingToOffer():
            return codec.encode([_NOTHING])
        case FetchChunk():
            return codec.encode([_FETCH, *_id_fields(message.chunk)])
        case Chunk():
            return codec.encode([_CHUNK, *_id_fields(message.chunk), message.data])


def is_request(data: bytes) -> bool:
    """Whether a message asks for something, seen without decoding it: its kind is the byte after that of the list."""
    return data[1:2] in (bytes([_ASK]), bytes([_FETCH]))


def decode_snapshot_message(data: bytes) -> SnapshotMessage:
    """Parse canonical bytes. Raises SnapshotMessageError for anything else."""
    try:
        value = codec.decode(data, max_bytes=_MAX_BYTES, max_items=_MAX_ITEMS)
        if not isinstance(value, list) or not value or type(value[0]) is not int:
            raise SnapshotMessageError("message names no kind")
        match value:
            case [1, above]:
                return AskSnapshots(_int(above, 0, MAX_U64))
            case [2, manifest]:
                return Offer(decode_manifest(_bytes(manifest, MAX_MANIFEST_BYTES)))
            case [3]:
                return NothingToOffer()
            case [4, *fields]:
                return FetchChunk(_id(fields))
            case [5, *fields, content]:
                return Chunk(_id(fields), _bytes(content, CHUNK_BYTES))
            case _:
                raise SnapshotMessageError("unknown kind of snapshot message")
    except (codec.DecodeError, ManifestError) as error:
        raise SnapshotMessageError(str(error)) from error


def _int(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise SnapshotMessageError("number is out of range")
    return value


def _bytes(value: Any, most: int) -> bytes:
    if type(value) is not bytes or len(value) > most:
        raise SnapshotMessageError("bytes have a wrong length")
    return value


def _id(fields: Any) -> ChunkId:
    if not isinstance(fields, list) or len(fields) != 4:
        raise SnapshotMessageError("list has a wrong length")
    height, format_, snapshot, index = fields
    if len(_bytes(snapshot, HASH_BYTES)) != HASH_BYTES:
        raise SnapshotMessageError("bytes have a wrong length")
    place = _int(height, 1, MAX_U64), _int(format_, 0, MAX_FORMAT)
    return ChunkId(*place, snapshot, _int(index, 0, MAX_CHUNKS - 1))
