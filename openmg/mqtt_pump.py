"""The bytes of one connection: paho's socket in the asyncio loop, connected again and again.

Rules: a connection has no thread of its own, for a gateway has a hundred: only looking up the broker's name, connecting and the
TLS handshake, which block, are done in threads that all share. Attempts are ever more seldom until the broker has accepted one.
What waits to be written waits for the socket; what has come is read a bounded number of messages at a time.
Not here: what the messages are and who hears of a connection (`mqtt`).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from openmg.tasks import end_task

if TYPE_CHECKING:
    from paho.mqtt.client import Client

log = logging.getLogger(__name__)
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 15.0
LONGEST_TURN_S = 75.0
"""A connection is looked after every few seconds; without a broker it waits for the last retry, a name and an address."""
LOOK_S = 5.0
"""Between looks at a connection that stands: a quarter of the keep-alive."""
MAX_CONNECTING = 8
"""Threads that connect, for all connections of the process together."""
MAX_READS = 64
"""Messages of one connection in one turn of the loop."""


class Pump:
    """Connects a paho client and moves its bytes from `start` to `end`; made and used in one loop.

    on_failed: called in the thread that connects, within the exception, when there is no connection.
    """

    def __init__(self, client: Client, name: str, on_failed: Callable[[], None]) -> None:
        self._client, self._name, self._on_failed = client, name, on_failed
        self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
        self._keeping: asyncio.Task[None] | None = None
        self._down = asyncio.Event()
        self._pause_s = FIRST_RETRY_S
        self._looking: asyncio.TimerHandle | None = None
        self._flushing = self._ending = False
        self.accepted = False
        """Whether the broker has accepted the present connection; whoever hears that says so."""
        self.turns = 0
        """Times that the connection was looked after, with or without a broker."""
        client.on_socket_register_write, client.on_socket_close = self._has_output, self._socket_closes

    def start(self) -> None:
        """Begins to connect in the background."""
        self._keeping = self._loop.create_task(self._keep_connected(), name=f"mqtt {self._name}")

    def good(self) -> None:
        """The connection is of use: the next one that fails is tried again at once."""
        self._pause_s = FIRST_RETRY_S

    def down(self) -> None:
        """The connection has ended."""
        self._down.set()

    def give_up(self) -> None:
        """A connection that comes about from now on is ended at once."""
        self._ending = True

    async def end(self) -> None:
        """Connects no more."""
        await end_task(self._keeping)

    def in_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        """Has the loop make the call; from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    # In the loop

    async def _keep_connected(self) -> None:
        """Connects again and again; runs until cancelled."""
        while True:
            self._down.clear()
            attempt = _connectors().submit(self._connect)
            while not attempt.done():
                await asyncio.wait((asyncio.wrap_future(attempt),), timeout=LOOK_S)
                self.turns += not attempt.running()  # it waits for a thread; one that hangs is no sign of life
            if (connection := self._client.socket()) is not None:
                await self._look_after(connection)
            self.turns += 1
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LAST_RETRY_S)

    async def _look_after(self, connection: Any) -> None:
        """Serves the connection until it ends."""
        self._loop.add_reader(connection, self._readable, connection)
        self._flush_soon()
        self._look(connection)
        try:
            while self._client.socket() is connection:
                await self._down.wait()
                self._down.clear()
        finally:
            if self._looking is not None:
                self._looking.cancel()

    def _look(self, connection: Any) -> None:
        """Looks at a connection that stands every LOOK_S. All of a loop at the same moments: one wake serves them all, where a
        task each would wake the process a hundred times."""
        if self._client.socket() is connection:
            self._client.loop_misc()  # pings, and an end when nothing answers them
        self.turns += 1
        if self._client.socket() is connection:
            self._looking = self._loop.call_at((self._loop.time() // LOOK_S + 1) * LOOK_S, self._look, connection)
        else:
            self._down.set()

    def _readable(self, connection: Any) -> None:
        """Reads what has come; TLS may hold more of it than the socket shows."""
        client = self._client
        try:
            for _ in range(MAX_READS):
                client.loop_read()
                if client.socket() is not connection or not _has_more(connection):
                    return
        except Exception:
            log.exception("%s: a message could not be handled; the connection goes on", self._name)
        if client.socket() is connection and _has_more(connection):
            self._loop.call_soon(self._readable, connection)

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Writes what waits, and has the loop say when there is room for the rest."""
        self._flushing = False
        client = self._client
        if (connection := client.socket()) is None:
            return
        if not self.accepted:
            client.loop_read()  # why a broker refuses TLS is lost once something was written to it
        client.loop_write()
        if client.socket() is connection:
            if client.want_write():
                self._loop.add_writer(connection, self._flush)
            else:
                self._loop.remove_writer(connection)

    # What follows may run in a thread that connects.

    def _connect(self) -> None:
        try:
            self._client.reconnect()
        except (OSError, ValueError):
            self._on_failed()
        else:
            if self._ending:
                self._client.disconnect()
                self._client.loop_write()

    def _has_output(self, _client: Client, _data: Any, _socket: Any) -> None:
        if threading.get_ident() == self._loop_thread:
            self._flush_soon()
        else:
            self.in_loop(self._flush_soon)

    def _socket_closes(self, _client: Client, _data: Any, connection: Any) -> None:
        if threading.get_ident() == self._loop_thread:
            self._loop.remove_reader(connection)
            self._loop.remove_writer(connection)


def _has_more(connection: Any) -> bool:
    """Whether TLS has bytes that the loop's selector does not know of."""
    return isinstance(connection, ssl.SSLSocket) and connection.fileno() >= 0 and connection.pending() > 0


@functools.cache
def _connectors() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_CONNECTING, thread_name_prefix="mqtt-connect")
