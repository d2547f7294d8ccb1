"""Frames on a stream: 4 bytes length (big endian), 1 byte channel, payload; the length counts channel and payload."""

from __future__ import annotations

import asyncio
import io

from hub.ppdl.net.handshake import HandshakeError
from hub.ppdl.net.transport import CHANNEL_BYTES, MAX_FRAME_BYTES, Channel

LENGTH_BYTES = 4
PIECE_BYTES = 64 * 1024  # as much as a stream holds before it stops to read on
_LIMITS = {int(channel): limit for channel, limit in CHANNEL_BYTES.items()}


def frame_of(channel: Channel, payload: bytes) -> bytes:
    """Bytes of one frame."""
    return (1 + len(payload)).to_bytes(LENGTH_BYTES, "big") + bytes([channel]) + payload


def _checked(length: int, limit: int) -> int:
    if not 1 <= length <= limit:
        raise HandshakeError(f"peer announced a frame of {length} bytes, allowed are 1 to {limit}")
    return length


async def read_frame(reader: asyncio.StreamReader, limit: int) -> bytes:
    """Read the body of one frame.

    Raises HandshakeError when its length is 0 or above `limit`, IncompleteReadError at the end.
    """
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    return await reader.readexactly(_checked(length, limit))


async def read_head(reader: asyncio.StreamReader) -> tuple[int, int]:
    """(channel byte, length of the payload) of the next frame, before its payload is read.

    Raises HandshakeError for a length that its channel does not allow: nothing after it can be read.
    """
    head = await reader.readexactly(LENGTH_BYTES + 1)
    length, channel = int.from_bytes(head[:LENGTH_BYTES], "big"), head[LENGTH_BYTES]
    return channel, _checked(length, _LIMITS.get(channel, MAX_FRAME_BYTES)) - 1


async def read_payload(reader: asyncio.StreamReader, size: int) -> bytes:
    """Read a payload. A large one in pieces, into the place where it stays: `readexactly` alone, or joining the pieces, would
    hold it twice. What has not come yet takes no memory: the system gives a page when something is written there.
    """
    if size <= PIECE_BYTES:
        return await reader.readexactly(size)
    payload = io.BytesIO(bytes(size))
    while size:
        piece = await reader.readexactly(min(size, PIECE_BYTES))
        payload.write(piece)
        size -= len(piece)
    return payload.getvalue()


async def pass_over(reader: asyncio.StreamReader, size: int) -> None:
    """Read a payload and keep nothing of it."""
    while size:
        size -= len(await reader.readexactly(min(size, PIECE_BYTES)))
