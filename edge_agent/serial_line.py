"""A serial port as a transport of the asyncio loop, by pyserial.

Rules: the port is held exclusively; reads and writes never block; what the line does not take at once waits, up to
MAX_UNSENT_BYTES. An adapter that is pulled out ends the connection, with an OSError. Not here: what the bytes mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os

from serial import EIGHTBITS, Serial

from edge_agent.modbus.target import BusTarget

READ_BYTES = 4096
"""In one turn of the loop."""
MAX_UNSENT_BYTES = 16_384
"""A window of the longest frames that can be agreed on; a line that takes nothing of them is broken."""


class SerialLine(asyncio.Transport):
    """An open port from its making to `close`; OSError when it cannot be opened, ValueError for an impossible setting."""

    def __init__(self, target: BusTarget, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop, self._protocol = asyncio.get_running_loop(), protocol
        self._port = Serial(
            target.serial,
            target.baud,
            bytesize=EIGHTBITS,
            parity=target.parity,
            stopbits=target.stop_bits,
            timeout=0,
            exclusive=True,
        )
        self._unsent = bytearray()
        self._closing = False
        self._loop.add_reader(self._port.fileno(), self._readable)

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        if len(self._unsent) + len(data) > MAX_UNSENT_BYTES:
            self._end(OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)))
            return
        self._unsent += data
        self._send()

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(None)

    def _send(self) -> None:
        try:
            del self._unsent[: os.write(self._port.fileno(), self._unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(error)
            return
        if self._unsent:
            self._loop.add_writer(self._port.fileno(), self._send)
        else:
            self._loop.remove_writer(self._port.fileno())

    def _readable(self) -> None:
        try:
            data = self._port.read(READ_BYTES)
        except OSError as error:
            self._end(error)
            return
        if data:
            self._protocol.data_received(data)

    def _end(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._unsent.clear()
        self._loop.remove_reader(self._port.fileno())
        self._loop.remove_writer(self._port.fileno())
        with contextlib.suppress(OSError):  # of a port that is gone
            self._port.close()
        self._loop.call_soon(self._protocol.connection_lost, error)
