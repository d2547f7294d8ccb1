"""APDUs in the wrapper over a TCP connection of their own (IEC 62056-4-7).

Rules: an exchange ends within the time-out. Not here: what the APDUs say (`association`), HDLC (`hdlc_carrier`).
"""

from __future__ import annotations

import asyncio
import contextlib

from edge_agent.dlms.association import Garbled
from edge_agent.dlms.carrier import MAX_APDU_BYTES, DlmsTarget, NoAnswer
from edge_agent.dlms_section import DlmsSection

WRAPPER_VERSION, HEADER_BYTES = 1, 8


class WrapperCarrier:
    """A `Carrier`."""

    def __init__(self, target: DlmsTarget) -> None:
        self._target = target
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Connects; NoAnswer."""
        target = self._target
        try:
            async with asyncio.timeout(target.timeout_s):
                self._streams = await asyncio.open_connection(target.host, target.port, limit=MAX_APDU_BYTES)
        except (OSError, TimeoutError) as error:
            raise NoAnswer(f"cannot be reached ({_reason(error)}); check host and port") from error

    async def exchange(self, apdu: bytes) -> bytes:
        """The answer to an APDU; NoAnswer or Garbled."""
        assert self._streams is not None
        reader, writer = self._streams
        section = self._target.section
        try:
            async with asyncio.timeout(self._target.timeout_s):
                writer.write(header(section.client, section.server, len(apdu)) + apdu)
                await writer.drain()
                size = _announced(await reader.readexactly(HEADER_BYTES), section)
                return await reader.readexactly(size)
        except TimeoutError as error:
            raise NoAnswer(f"did not answer within {self._target.timeout_s:g} s; check port, client and server") from error
        except asyncio.IncompleteReadError as error:
            what = "in the middle of an answer" if error.partial else "without an answer; is another program connected to it?"
            raise NoAnswer(f"closed the connection {what}") from error
        except OSError as error:
            raise NoAnswer(f"lost the connection ({_reason(error)})") from error

    def abandon(self) -> None:
        """Ends the connection."""
        if self._streams is not None:
            self._streams[1].close()

    async def close(self) -> None:
        """Ends the connection, and with it the association; no release is asked for."""
        self.abandon()
        if self._streams is not None:
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(self._streams[1].wait_closed(), self._target.timeout_s)


def header(source: int, destination: int, size: int) -> bytes:
    """The wrapper's header: version, both ports, length of the APDU."""
    return b"".join(number.to_bytes(2, "big") for number in (WRAPPER_VERSION, source, destination, size))


def _announced(data: bytes, section: DlmsSection) -> int:
    """Bytes of the APDU that follows; Garbled when the header is not that of an answer to us."""
    size = int.from_bytes(data[6:], "big")
    if data != header(section.server, section.client, size) or not 1 <= size <= MAX_APDU_BYTES:
        raise Garbled("answers with what is no DLMS wrapper for this client; check port, client and server")
    return size


def _reason(error: OSError) -> str:
    return error.strerror or "no answer"
