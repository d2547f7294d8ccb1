"""The ABCI socket: varint-delimited messages from CometBFT, answered in order on each of its connections.

The socket lies in a folder that only this user may enter. Every call of the application goes through the one thread
given. A message that cannot be read, or a call that fails, is answered with an exception, after which CometBFT stops:
it is the only client, so nothing else may have gone on.
Not here: what a call does (`bridge.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from hub.ppdl.engines.cometbft.messages import Call, Request, decode_request, encode_response, exception
from hub.ppdl.engines.cometbft.wire import MAX_VARINT_BYTES, WireError, get_bytes, message_field, varint
from openmg.tasks import end_tasks

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 48 * 1024 * 1024  # PrepareProposal may carry the whole mempool (32 MiB) and the last commit
MAX_CONNECTIONS = 8  # CometBFT opens four

Answer = Callable[[Request], bytes]
"""The body of the response to a request."""


class AbciServer:
    """Listens on a Unix socket. `failed` gets one sentence, once or more often, when CometBFT must stop."""

    def __init__(self, path: Path, answer: Answer, app_thread: Executor, failed: Callable[[str], None]) -> None:
        self._path, self._answer, self._thread, self._failed = path, answer, app_thread, failed
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._connected, str(self._path))

    async def stop(self) -> None:
        """Close the socket and every connection."""
        if self._server is not None:
            self._server.close()
        await end_tasks(self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # CometBFT went away
        except asyncio.CancelledError:
            pass  # stop(); the stream protocol would report it as an error otherwise
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                request = decode_request(await read_message(reader))
                response = await self._respond(request)
            except asyncio.IncompleteReadError:
                raise
            except Exception as error:
                log.exception("the ABCI connection of CometBFT ends")
                self._failed(str(error) or type(error).__name__)
                writer.write(delimited(exception(str(error))))
                await writer.drain()
                return
            writer.write(delimited(response))
            await writer.drain()

    async def _respond(self, request: Request) -> bytes:
        match request.call:
            case Call.ECHO:
                body = message_field(1, get_bytes(request.fields, 1))
            case Call.FLUSH:
                body = b""
            case _:
                body = await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, request)
        return encode_response(request.call, body)


def delimited(message: bytes) -> bytes:
    """The message with its length before it."""
    return varint(len(message)) + message


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """The next message. Raises WireError, or IncompleteReadError at the end."""
    size = 0
    for i in range(MAX_VARINT_BYTES):
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            break
    if size > MAX_MESSAGE_BYTES:
        raise WireError(f"a message of {size} bytes is longer than {MAX_MESSAGE_BYTES}")
    return await reader.readexactly(size)
