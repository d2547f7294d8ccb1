"""Simulated meters on one serial line: a serial device, or a pseudo terminal that is made for the purpose.

Rules: RTU framing; one request at a time, the next is answered after the one before; a frame with a wrong CRC, and
one for a unit that is not on the line, gets silence. A pseudo terminal has no bit rate, so the answer waits as long as
request and answer take on the wire (11 bits a byte); on a real port the wire itself takes that time.
Not here: frames (`framing`), answers (`device`).
Source: Modbus over Serial Line V1.02 section 2.5.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
import tty
from collections.abc import Mapping
from pathlib import Path

from firmware_sim.device import SimDevice
from firmware_sim.framing import RTU_REQUEST_BYTES, Request, RtuFraming
from firmware_sim.server import PortInUse, framed

BITS_PER_BYTE = 11
TURNAROUND_S = 0.005
"""Time a meter takes before it answers."""
MAX_WAITING_BYTES = 256
"""What a meter's receiver holds; more is lost, as on a line on which somebody talks without listening."""
BAUDS = (1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200)


class SerialLine:
    """The devices of one line by unit id; `path` is what a reader opens, after `start`."""

    def __init__(self, devices: Mapping[int, SimDevice], path: Path | None, baud: int) -> None:
        if baud not in BAUDS:
            raise ValueError(f"baud is {baud}; use one of {', '.join(map(str, BAUDS))}")
        self.devices, self.path, self.baud = dict(devices), path, baud
        self._fd = -1
        self._peer_fd = -1
        self._linked = False
        self._paced = True
        self._buffer = bytearray()
        self._busy: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Opens the device, or makes a pseudo terminal with a link of that name to it; PortInUse when that fails."""
        try:
            if self.path is not None and self.path.is_char_device():
                self._fd = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
                self._paced = os.ttyname(self._fd).startswith("/dev/pts/")
            else:
                self._make_pty()
            tty.setraw(self._fd)
            self._set_speed()
        except (OSError, termios.error) as error:
            raise PortInUse(f"serial line {self.path} cannot be opened ({error}); give another path") from error
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def _make_pty(self) -> None:
        self._fd, self._peer_fd = os.openpty()
        os.set_blocking(self._fd, False)
        tty.setraw(self._peer_fd)
        name = os.ttyname(self._peer_fd)
        if self.path is not None:
            os.symlink(name, self.path)
            self._linked = True
        self.path = self.path or Path(name)

    def _set_speed(self) -> None:
        attributes = termios.tcgetattr(self._fd)
        attributes[4] = attributes[5] = getattr(termios, f"B{self.baud}")
        termios.tcsetattr(self._fd, termios.TCSANOW, attributes)

    async def stop(self) -> None:
        """Closes the line and removes the link that was made for it."""
        if self._fd < 0:
            return
        asyncio.get_running_loop().remove_reader(self._fd)
        if self._busy is not None:
            self._busy.cancel()
        for fd in (self._fd, self._peer_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._peer_fd = -1
        if self._linked and self.path is not None:
            self.path.unlink(missing_ok=True)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, MAX_WAITING_BYTES)
        except (BlockingIOError, OSError):
            return
        self._buffer += data[: MAX_WAITING_BYTES - len(self._buffer)]
        if self._busy is None:
            self._serve()

    def _serve(self) -> None:
        """Answers the next request on the line, if one is there."""
        self._busy = None
        while (request := self._next_request()) is not None:
            device = self.devices.get(request.unit)
            outcome = device.answer(request.pdu) if device is not None else None
            if outcome is None or outcome.answer is None:
                continue
            frame = framed(RtuFraming, request, outcome)
            wire_s = (RTU_REQUEST_BYTES + len(frame)) * BITS_PER_BYTE / self.baud if self._paced else 0.0
            delay_s = TURNAROUND_S + wire_s + outcome.delay_s
            self._busy = asyncio.get_running_loop().call_later(delay_s, self._send, frame)
            return

    def _next_request(self) -> Request | None:
        """The next whole request; bytes that begin no frame are dropped one by one."""
        while True:
            try:
                return RtuFraming.take(self._buffer)
            except ValueError:
                del self._buffer[0]

    def _send(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody listens: the answer is lost, as on a cut wire
            os.write(self._fd, frame)
        self._serve()
