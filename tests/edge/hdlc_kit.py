"""A meter's side of an HDLC connection for the tests, written apart from the client's, and one that answers over TCP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from edge_agent.dlms.hdlc.frame import DISC, DM, FINAL, RNR, RR, SNRM, UA, Frame, client_address, server_address
from edge_agent.dlms.hdlc.parameters import Parameters, parsed
from edge_agent.dlms.hdlc.station import LLC_COMMAND, LLC_RESPONSE
from edge_agent.dlms.hdlc.stream import FrameStream

STANDARD = Parameters()
CLIENT, SERVER = client_address(16), server_address(1, None, 1)
Reply = Callable[[bytes], bytes]
"""The answer to an APDU."""


class HdlcMeter:
    """The other side, for one client at a time: answers messages as `reply` says, and loses what `loses` says it does."""

    def __init__(self, own: Parameters = STANDARD, address: bytes = SERVER, reply: Reply = lambda apdu: apdu[::-1]) -> None:
        self.own, self.address, self.reply = own, address, reply
        self.loses: Callable[[], bool] = lambda: False
        self.client = CLIENT
        self.agreed = Parameters()
        self.stream = FrameStream()
        self.connected = False
        self.received = self.first = 0
        self.message, self.messages = b"", 0
        self.pending: list[bytes] = []
        self.in_flight = 0
        self.not_ready = 0

    def hear(self, data: bytes) -> bytes:
        """What it sends for what came, less what is lost on the way here and back."""
        out = b""
        for frame in self.stream.feed(data):
            if self.loses():
                continue
            for reply in self.answer(frame):
                if not self.loses():
                    out += reply
        return out

    def answer(self, frame: Frame) -> list[bytes]:
        if frame.destination != self.address:
            return []
        self.client = frame.source
        if frame.kind == SNRM:
            self.connected, self.received, self.first, self.message = True, 0, 0, b""
            self.pending, self.in_flight = [], 0
            self.agreed = self.own.agreed(parsed(frame.information))
            return [self.frame(UA | FINAL, self.agreed.encoded())]
        if not self.connected or frame.kind == DISC:
            self.connected = False
            return [self.frame((UA if frame.kind == DISC else DM) | FINAL)]
        arrived = (frame.expected - self.first) % 8
        if arrived <= self.in_flight:
            del self.pending[:arrived]
            self.first, self.in_flight = frame.expected, self.in_flight - arrived
        if frame.is_information and frame.sent == self.received:
            self.received = (self.received + 1) % 8
            self.message += frame.information
            if not frame.segmented:
                assert self.message.startswith(LLC_COMMAND)
                self.messages += 1
                self.pending = self.cut(LLC_RESPONSE + self.reply(self.message[3:]))
                self.message = b""
        if not frame.is_final:
            return []
        if self.not_ready:
            self.not_ready -= 1
            return [self.frame((RNR if self.not_ready % 2 else RR) | FINAL | self.received << 5)]
        return self.window() or [self.frame(RR | FINAL | self.received << 5)]

    def cut(self, message: bytes) -> list[bytes]:
        size = self.agreed.send_bytes
        return [message[start : start + size] for start in range(0, len(message), size)]

    def window(self) -> list[bytes]:
        parts = self.pending[: self.agreed.send_window]
        self.in_flight = len(parts)
        return [
            self.frame(
                self.received << 5 | (self.first + place) % 8 << 1 | FINAL * (place == len(parts) - 1),
                part,
                place + 1 < len(self.pending),
            )
            for place, part in enumerate(parts)
        ]

    def frame(self, control: int, content: bytes = b"", segmented: bool = False) -> bytes:
        return Frame(self.client, self.address, control, content, segmented).encoded()


Serve = Callable[[HdlcMeter], Awaitable[int]]


@pytest.fixture
async def serve_hdlc() -> AsyncIterator[Serve]:
    """Has a meter answer on a TCP port, which is told."""
    servers: list[asyncio.Server] = []
    writers: list[asyncio.StreamWriter] = []

    async def begin(meter: HdlcMeter) -> int:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(4096):
                    writer.write(meter.hear(data))
            writer.close()

        servers.append(await asyncio.start_server(answer, "127.0.0.1", 0))
        return int(servers[-1].sockets[0].getsockname()[1])

    yield begin
    for server in servers:
        server.close()
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
