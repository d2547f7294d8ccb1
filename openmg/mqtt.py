"""One MQTT connection for meters and hubs: paho's own thread on one side, an asyncio loop on the other.

Rules: MQTT 3.1.1, clean session, QoS 1; whoever needs certainty keeps its own outbox and waits for an
application's answer, because a broker's PUBACK is no promise. Reconnects for ever with back-off, subscribes
again each time, says once per outage what is unreachable. Messages in both directions wait in bounded queues;
what does not fit is dropped and counted.
With TLS (`mqtts://`) a broker that does not take the client's certificate lets it connect and then hangs up: such ends before
the broker has accepted are counted, and said with their reason once an outage.
Not here: topics and messages (`openmg.messages`), outboxes, TLS files and reasons (`openmg.mqtt_tls`).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openmg.messages.base import MAX_MESSAGE_BYTES
from openmg.mqtt_tls import TlsFiles, TlsFilesError, explain

if TYPE_CHECKING:
    from paho.mqtt.client import Client

log = logging.getLogger(__name__)
DEFAULT_PORT, DEFAULT_TLS_PORT = 1883, 8883
KEEP_ALIVE_S = 20
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 15.0
LONGEST_TURN_S = 75.0
"""paho's thread goes round once a second with a broker; without one it waits for the last retry, a name and connections."""
MAX_OUTGOING = 2000
"""Messages that paho may hold for a slow broker."""
MAX_INCOMING = 4000
"""Messages that may wait for the loop: a second of the fastest broker measured."""
MAX_IN_FLIGHT = 200
MAX_SAID = 8
"""Different sentences about one outage."""


@dataclass(frozen=True)
class MqttAddress:
    """Host and port of a broker, and whether it is spoken to over TLS."""

    host: str
    port: int
    tls: bool = False

    @staticmethod
    def parse(url: str) -> MqttAddress:
        """The address in `mqtt://host:port` or `mqtts://host:port`; ValueError when it is not one."""
        parts = urlsplit(url)
        tls = parts.scheme == "mqtts"
        try:
            port = parts.port or (DEFAULT_TLS_PORT if tls else DEFAULT_PORT)
        except ValueError:
            port = 0
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not port or parts.path not in ("", "/"):
            raise ValueError(f"url is {url!r}; write mqtt://host:port, or mqtts://host:port for TLS")
        return MqttAddress(parts.hostname, port, tls)

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


@dataclass(frozen=True)
class Will:
    """What the broker publishes (retained) when this client vanishes."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class Credentials:
    """User name and the file (0600) with its password; both empty for a broker that asks for none."""

    username: str = ""
    password_file: Path | None = None

    def require_readable(self) -> None:
        """ValueError when the file of the password cannot be read."""
        if self.password_file is None:
            return
        try:
            self.password_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"password_file {self.password_file} cannot be read ({error}); correct it") from error


@dataclass(frozen=True)
class MqttCounts:
    """What the connection has been through since the program started.

    refused: connections that the broker ended before it had accepted them.
    """

    connects: int
    received: int
    published: int
    dropped_incoming: int
    dropped_outgoing: int
    refused: int = 0


class MqttLink:
    """A connection whose callbacks run in the loop that called `start`.

    on_message(topic, payload) gets every message of the subscribed filters, on_connected() each new connection
    after its subscriptions were sent.
    """

    def __init__(
        self,
        address: MqttAddress,
        client_id: str,
        on_message: Callable[[str, bytes], None],
        on_connected: Callable[[], None],
        will: Will | None = None,
        credentials: Credentials | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        if address.tls != (tls is not None):
            raise ValueError(f"{address}: TLS files go with mqtts, and mqtts with TLS files")
        self.address, self.client_id = address, client_id
        self._on_message, self._on_connected = on_message, on_connected
        self._will, self._credentials = will, credentials or Credentials()
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._filters: list[str] = []
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._waiting = self._received = self._dropped_in = 0
        self._connects = self._published = self._dropped_out = 0
        self._connected = self._accepted = False
        self._refused = 0
        self._detail = ""
        self._said: set[str] = set()
        self._turns = 0
        self._problem = "gave no connection; start it or correct the url"

    @property
    def problem(self) -> str:
        """What the broker did when it last gave no connection, and what to do."""
        times = f" ({self._refused} times so far)" if self._refused and self._tls is not None else ""
        return self._problem + times

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the present connection."""
        return self._connected

    @property
    def turns(self) -> int | None:
        """Times that paho's thread went round, with or without a broker; None while it waits for usable TLS files."""
        return None if self._client is None else self._turns

    def counts(self) -> MqttCounts:
        counted = self._connects, self._received, self._published, self._dropped_in, self._dropped_out, self._refused
        return MqttCounts(*counted)

    def start(self) -> None:
        """Begins to connect in the background; returns at once and never fails for an absent broker.

        While TLS files cannot be used it says so and waits for `reload_tls`.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._begin()
        except TlsFilesError as error:
            self._say_down(f"is not connected to: {error}")

    def reload_tls(self) -> None:
        """Takes up changed TLS files for the next connection; one that stands goes on. Raises TlsFilesError."""
        if self._client is None:
            self._begin()
        elif self._tls is not None and self._context is not None:
            self._tls.load_into(self._context)

    def _begin(self) -> None:
        from paho.mqtt.client import Client, MQTTv311
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(CallbackAPIVersion.VERSION2, client_id=self.client_id, clean_session=True, protocol=MQTTv311)
        client.max_queued_messages_set(MAX_OUTGOING)
        client.max_inflight_messages_set(MAX_IN_FLIGHT)
        client.reconnect_delay_set(FIRST_RETRY_S, LAST_RETRY_S)  # type: ignore[arg-type]  # halves work as well
        if self._credentials.username:
            client.username_pw_set(self._credentials.username, _password(self._credentials))
        if self._will:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        client.on_connect, client.on_disconnect = self._connect_done, self._disconnected
        client.on_connect_fail, client.on_message = self._connect_failed, self._arrived
        if self._tls is not None:
            self._context = self._tls.context()
            client.tls_set_context(self._context)
            client.on_log = self._heard_log
        go_on = client.loop_misc

        def count_turn() -> Any:
            self._turns += 1
            return go_on()

        client.loop_misc = count_turn  # type: ignore[method-assign]  # paho calls it at the end of each turn
        client.connect_async(self.address.host, self.address.port, keepalive=KEEP_ALIVE_S)
        self._client = client
        client.loop_start()

    async def stop(self) -> None:
        """Publishes the will by itself (a clean disconnect does not), disconnects and ends paho's thread."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._will and self._connected:
            message = client.publish(self._will.topic, self._will.payload, qos=1, retain=True)
            await asyncio.to_thread(_wait_published, message)
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)
        self._connected = False

    def subscribe(self, topic_filter: str) -> None:
        """Subscribes now and after every reconnection."""
        if topic_filter not in self._filters:
            self._filters.append(topic_filter)
            if self._client is not None and self._connected:
                self._client.subscribe(topic_filter, qos=1)

    def subscribe_again(self) -> None:
        """Asks the broker for every subscription once more, and so for what is retained under them.

        For who waits in vain: a broker can lose a subscription, or a message to it, without closing the connection.
        """
        if self._client is not None and self._connected:
            for topic_filter in self._filters:
                self._client.subscribe(topic_filter, qos=1)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Hands the message to the broker connection; False (and counted) when it is down or its queue is full."""
        if self._client is None or not self._connected:
            self._dropped_out += 1
            return False
        result = self._client.publish(topic, payload, qos=qos, retain=retain)
        if result.rc != 0:
            self._dropped_out += 1
            return False
        self._published += 1
        return True

    # What follows runs in paho's thread.

    def _in_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(call, *arguments)

    def _connect_done(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._in_loop(self._say_down, f"refused the connection ({reason}); check user name and password")
            return
        self._accepted, self._detail = True, ""
        filters = tuple(self._filters)
        for topic_filter in filters:
            client.subscribe(topic_filter, qos=1)
        self._in_loop(self._now_connected, filters)

    def _disconnected(self, _client: Client, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        self._turns += 1
        accepted, self._accepted = self._accepted, False
        self._refused += not accepted
        detail, self._detail = self._detail, ""
        self._in_loop(self._now_down, None if accepted else explain(detail))

    def _connect_failed(self, _client: Client, _data: Any) -> None:
        self._turns += 1
        error = sys.exc_info()[1]  # paho calls this while it handles what went wrong
        why = explain(str(error)) if isinstance(error, ssl.SSLError) else None
        self._refused += why is not None
        self._in_loop(self._say_down, why or "cannot be reached; start it or correct the url")

    def _heard_log(self, _client: Client, _data: Any, _level: int, text: str) -> None:
        if "SSL" in text:  # paho says nowhere else why a TLS connection ended
            self._detail = text

    def _arrived(self, _client: Client, _data: Any, message: Any) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # must not end paho's thread
            topic = ""
        if topic and not self._wanted(topic):
            return  # amqtt greets a client with what others subscribed to
        if topic and len(message.payload) <= MAX_MESSAGE_BYTES:
            with self._lock:
                fits = self._waiting < MAX_INCOMING
                self._waiting += fits
            if fits:
                self._in_loop(self._deliver, topic, bytes(message.payload))
                return
        self._dropped_in += 1

    def _wanted(self, topic: str) -> bool:
        from paho.mqtt.client import topic_matches_sub

        return any(topic_matches_sub(topic_filter, topic) for topic_filter in tuple(self._filters))

    # And this in the loop.

    def _now_connected(self, subscribed: tuple[str, ...]) -> None:
        if self._client is None:
            return
        self._connected = True
        self._said.clear()
        for topic_filter in self._filters:
            if topic_filter not in subscribed:  # added between paho's callback and this one
                self._client.subscribe(topic_filter, qos=1)
        self._connects += 1
        log.info("%s: connected to broker %s", self.client_id, self.address)
        self._on_connected()

    def _now_down(self, why: str | None) -> None:
        self._connected = False
        if self._client is not None:
            self._say_down(why or "closed the connection; trying again")

    def _say_down(self, what: str) -> None:
        self._problem = what
        if what not in self._said and (not self._said or self._tls is not None) and len(self._said) < MAX_SAID:
            self._said.add(what)
            log.warning("%s: broker %s %s (retrying for ever)", self.client_id, self.address, what)

    def _deliver(self, topic: str, payload: bytes) -> None:
        with self._lock:
            self._waiting -= 1
        self._received += 1
        self._on_message(topic, payload)


def _password(credentials: Credentials) -> str | None:
    if credentials.password_file is None:
        return None
    return credentials.password_file.read_text(encoding="utf-8").strip()


def _wait_published(message: Any) -> None:
    import contextlib

    with contextlib.suppress(RuntimeError, ValueError):  # the connection went down meanwhile: the will speaks
        message.wait_for_publish(timeout=2.0)
