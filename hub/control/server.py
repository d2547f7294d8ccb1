"""The hub's side of the control socket.

One connection, one request, one answer. A client has REQUEST_S to send its request and ANSWER_S to take the answer, and
at most MAX_CLIENTS are served at once; the next one is told so. What is refused is counted by its reason (`ControlCounts`),
and the first of each reason is one sentence in the log. The query path
CONTROL_PATH is answered here, all others by the application.
Not here: what queries and transactions mean; who may vote.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

from hub.control.place import OpenSocket, listen, may_control, peer_uid, remove
from hub.control.protocol import (
    CONTROL_PATH,
    HEAD_BYTES,
    MAX_REQUEST_BYTES,
    Answer,
    ControlCounts,
    ProtocolError,
    Query,
    Request,
    body_length,
    decode_request,
    encode_answer,
)
from hub.ppdl.application import QueryResult
from hub.ppdl.mempool import TxRefused
from hub.ppdl.status import EngineFailed
from openmg.messages import base
from openmg.tasks import end_tasks

log = logging.getLogger(__name__)

MAX_CLIENTS = 32
"""Commands that are served at once: an operator's, and those of some scripts that wait."""
REQUEST_S = 5.0
"""A command on the same machine sends its request at once."""
ANSWER_S = 5.0

QueryCall = Callable[[str], QueryResult]
SubmitCall = Callable[[bytes], Awaitable[bytes]]


class ControlServer:
    """The socket of one hub.

    folder: the hub's state folder. query: safe from any thread. submit: as `PbftEngine.submit`. own_uid: the user that may
    use it beside root.
    """

    def __init__(self, folder: Path, query: QueryCall, submit: SubmitCall, own_uid: int | None = None) -> None:
        self.folder, self._query, self._submit = folder, query, submit
        self._own_uid = os.geteuid() if own_uid is None else own_uid
        self.counts = ControlCounts()
        self._opened: OpenSocket | None = None
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._thread = ThreadPoolExecutor(1, "control")  # its own: roles that wait for a chain fill the loop's default ones

    async def start(self) -> None:
        """Open the socket. Raises ControlError."""
        self._opened = await asyncio.get_running_loop().run_in_executor(self._thread, listen, self.folder)
        self._server = await asyncio.start_unix_server(self._serve, sock=self._opened.listening)

    async def stop(self) -> None:
        """Close the socket and end what is being served; without a start it does nothing."""
        if self._server is not None:
            self._server.close()
        await end_tasks(tuple(self._serving))
        self._thread.shutdown(cancel_futures=True)
        if self._opened is not None:
            remove(self._opened)
        self._server = self._opened = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            answer = await self._answer_to(reader, writer)
            if answer is not None:
                await self._send(writer, answer)
        except asyncio.CancelledError:
            pass  # by `stop`; asyncio's streams would report it as an error of this callback
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer_to(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer | None:
        """None for a client that gets no answer."""
        connection: socket.socket = writer.get_extra_info("socket")
        uid = peer_uid(connection)
        if not may_control(uid, self._own_uid):
            self._count("strangers", f"user {uid} may not use it")
            return None
        if len(self._serving) > MAX_CLIENTS:
            self._count("busy", f"{MAX_CLIENTS} commands are served already")
            return Answer(False, reason=f"the hub serves {MAX_CLIENTS} commands already; try again in some seconds")
        try:
            async with asyncio.timeout(REQUEST_S):
                length = body_length(await reader.readexactly(HEAD_BYTES), MAX_REQUEST_BYTES)
                request = decode_request(await reader.readexactly(length))
        except ProtocolError as error:
            self._count("malformed", str(error))
            return Answer(False, reason=str(error))
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            self._count("slow", "a client sent no whole request")
            return None
        return await self._carry_out(request)

    async def _carry_out(self, request: Request) -> Answer:
        try:
            answer = await self._ask(request) if isinstance(request, Query) else await self._hand_over(request.tx)
        except Exception:
            log.exception("control socket: a request failed")
            self.counts.failed += 1
            return Answer(False, reason="the hub failed at this request; see its log")
        self.counts.answered += 1
        return answer

    async def _ask(self, request: Query) -> Answer:
        if request.path == CONTROL_PATH:
            return Answer(True, base.encode(self.counts))
        result = await asyncio.get_running_loop().run_in_executor(self._thread, self._query, request.path)
        self.counts.refused += not result.ok
        return Answer(result.ok, result.value, result.height, result.reason)

    async def _hand_over(self, tx: bytes) -> Answer:
        try:
            return Answer(True, await self._submit(tx))
        except (TxRefused, EngineFailed) as error:
            self.counts.refused += 1
            return Answer(False, reason=str(error))

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                writer.write(encode_answer(answer))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError):
            self._count("slow", "a client did not take its answer")
            with contextlib.suppress(OSError):
                writer.transport.abort()

    def _count(self, what: str, sentence: str) -> None:
        """Count a client that was sent away; the first of each kind is told."""
        before = getattr(self.counts, what)
        setattr(self.counts, what, before + 1)
        if before == 0:
            log.warning("control socket %s: %s; more of the kind are only counted", self.folder, sentence)

    def summary(self) -> str:
        """The counts that are not zero, for the log."""
        named = ((field.name, getattr(self.counts, field.name)) for field in fields(self.counts))
        return ", ".join(f"{name} {count}" for name, count in named if count) or "never used"
