"""The enrolment server: TLS 1.3 on one port, one CBOR frame at a time, for enrolments and renewals.

Frame: length (4 bytes, big-endian), then `openmg.enrolment.messages`. Without a client certificate a connection can only
enrol; with one that the authority issued, that holds and was not revoked, it can only renew. A connection makes one hello and
one request, or one renewal, and has CONNECTION_SECONDS for it.
Rules: bad input ends its connection and is counted, never the server. Strangers share MAX_CONNECTIONS, of which one address has
MAX_OF_ONE, and one address says MAX_HELLOS hellos a minute; nothing that is said in them is logged.
Not here: decisions (`hub.devices.desk`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hub.devices.desk import EnrolmentDesk, Session
from hub.devices.folder import DevicesFolder
from hub.operators.errors import OperatorError
from openmg.enrolment.messages import (
    MAX_FRAME_BYTES,
    REFUSED,
    Answer,
    Challenge,
    Frame,
    Hello,
    Renewal,
    Request,
    decode_frame,
    encode_frame,
)
from openmg.messages.base import InvalidMessage
from openmg.tasks import end_tasks

log = logging.getLogger(__name__)
CONNECTION_SECONDS = 30.0
HANDSHAKE_SECONDS = 10.0
MAX_CONNECTIONS, MAX_OF_ONE = 128, 16
MAX_HELLOS = 120
"""A minute and address: a device that waits for approval needs thirty, and a house may have several."""
MAX_ADDRESSES = 4096
"""Of whom hellos are counted; beyond, all others share one count."""
WINDOW_SECONDS = 60.0
LENGTH_BYTES = 4


@dataclass
class ServerCounts:
    """Since the server started. failed: connections that ended by a fault of this program."""

    connections: int = 0
    refused: int = 0
    malformed: int = 0
    failed: int = 0


class HelloLimit:
    """How many hellos an address has said in this window."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._since, self._said = now, now(), Counter[str]()

    def allows(self, address: str) -> bool:
        """Counts one hello; False when there were too many."""
        if self._now() - self._since >= WINDOW_SECONDS:
            self._since = self._now()
            self._said.clear()
        key = address if address in self._said or len(self._said) < MAX_ADDRESSES else "others"
        self._said[key] += 1
        return self._said[key] <= MAX_HELLOS


class EnrolmentServer:
    """Serves between `start` and `stop`."""

    def __init__(self, desk: EnrolmentDesk, folder: DevicesFolder, host: str, port: int) -> None:
        self.desk, self.host, self.port = desk, host, port
        self.counts = ServerCounts()
        self._context = server_context(folder)
        self._certificate = ssl.PEM_cert_to_DER_cert(_first_pem(folder.server_certificate.read_text(encoding="ascii")))
        self._server: asyncio.Server | None = None
        self._open: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._hellos = HelloLimit()

    async def start(self) -> None:
        """Opens the port (0: any free one, then in `port`). Raises OperatorError when it cannot be."""
        try:
            self._server = await asyncio.start_server(
                self._connected, self.host, self.port, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS,
                limit=2 * MAX_FRAME_BYTES,
            )  # fmt: skip
        except OSError as error:
            raise OperatorError(
                f"{self.host}:{self.port} cannot be opened ({error.strerror}): give another --listen"
            ) from error
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await end_tasks(tuple(self._tasks))
            self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str((writer.get_extra_info("peername") or ("?",))[0])
        task = asyncio.current_task()
        assert task is not None
        self.counts.connections += 1
        if self._open.total() >= MAX_CONNECTIONS or self._open[address] >= MAX_OF_ONE:
            self.counts.refused += 1
            writer.close()
            return
        self._open[address] += 1
        self._tasks.add(task)
        try:
            async with asyncio.timeout(CONNECTION_SECONDS):
                await self._serve(reader, writer, address)
        except InvalidMessage:
            self.counts.malformed += 1
        except (OSError, EOFError, TimeoutError):
            pass  # gone, or too slow
        except Exception:
            self.counts.failed += 1
            log.exception("an enrolment failed; the server goes on")
        finally:
            self._tasks.discard(task)
            self._open[address] -= 1
            if self._open[address] <= 0:
                del self._open[address]
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1.0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        first = await _read(reader)
        if shown is not None:
            if not isinstance(first, Renewal):
                raise InvalidMessage("a connection with a certificate can only renew it")
            await _write(writer, await asyncio.to_thread(self.desk.renew, first, shown))
            return
        if not isinstance(first, Hello):
            raise InvalidMessage("a connection without a certificate can only enrol")
        if not self._hellos.allows(address):
            self.counts.refused += 1
            await _write(writer, Answer(REFUSED, "too many attempts from this address", int(WINDOW_SECONDS), b""))
            return
        answer = await asyncio.to_thread(self.desk.challenge, first, self._certificate)
        if isinstance(answer, Answer):
            await _write(writer, answer)
            return
        await self._request(reader, writer, *answer)

    async def _request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, challenge: Challenge, session: Session
    ) -> None:
        await _write(writer, challenge)
        request = await _read(reader)
        if not isinstance(request, Request):
            raise InvalidMessage("a challenge is answered by a request")
        await _write(writer, await asyncio.to_thread(self.desk.request, request, session))


def server_context(folder: DevicesFolder) -> ssl.SSLContext:
    """TLS 1.3 with the server's certificate; a client may show one of the authority's. Raises OperatorError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # no resumption: every connection shows its certificates
    try:
        context.load_cert_chain(folder.server_certificate, folder.server_key)
        context.load_verify_locations(folder.authority_certificate)
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror
        raise OperatorError(
            f"{folder.server_certificate} and its key cannot be used ({reason}): run openmg-hub devices init"
        ) from error
    return context


def _first_pem(text: str) -> str:
    end = "-----END CERTIFICATE-----"
    return text[: text.index(end) + len(end)]


async def _read(reader: asyncio.StreamReader) -> Frame:
    size = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if not 0 < size <= MAX_FRAME_BYTES:
        raise InvalidMessage("a frame of an impossible length")
    return decode_frame(await reader.readexactly(size))


async def _write(writer: asyncio.StreamWriter, message: Frame) -> None:
    data = encode_frame(message)
    writer.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
    await writer.drain()
