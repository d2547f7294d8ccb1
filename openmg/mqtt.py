"""One MQTT connection for meters and hubs: what it subscribes to, hears and sends, and what is said of a broker that is away.

    mqtt_settings   address, will, credentials, counts
    mqtt_pump       the socket in the asyncio loop
    mqtt_tls        TLS files, and why a TLS connection ended
Rules: MQTT 3.1.1, clean session, QoS 1; whoever needs certainty keeps its own outbox and waits for an
application's answer, because a broker's PUBACK is no promise. Reconnects for ever with back-off, subscribes
again each time, says once per outage what is unreachable. Outgoing messages wait in a bounded queue, what does not fit is
dropped and counted; incoming ones wait in the socket.
With TLS (`mqtts://`) a broker that does not take the client's certificate lets it connect and then hangs up: such ends before
the broker has accepted are counted, and said with their reason once an outage.
Whoever uses a connection imports all of it from here. Not here: topics and messages (`openmg.messages`), outboxes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openmg.messages.base import MAX_MESSAGE_BYTES
from openmg.mqtt_pump import LONGEST_TURN_S, Pump
from openmg.mqtt_settings import Credentials, MqttAddress, MqttCounts, Will
from openmg.mqtt_tls import TlsFiles, TlsFilesError, explain

if TYPE_CHECKING:
    from paho.mqtt.client import Client

__all__ = ["LONGEST_TURN_S", "Credentials", "MqttAddress", "MqttCounts", "MqttLink", "Will"]
log = logging.getLogger(__name__)
KEEP_ALIVE_S = 20
MAX_OUTGOING = 2000
"""Messages that paho may hold for a slow broker."""
STOP_S = 2.0
"""So long the last message and the good-bye may take."""
MAX_IN_FLIGHT = 200
MAX_SAID = 8
"""Different sentences about one outage."""


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
        """None before the start and from the end on."""
        self._pump: Pump | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._received = self._dropped_in = 0
        self._connects = self._published = self._dropped_out = 0
        self._connected = False
        self._refused = 0
        self._detail = ""
        self._said: set[str] = set()
        self._problem = "gave no connection; start it or correct the url"

    @property
    def problem(self) -> str:
        """What the broker did when it last gave no connection, and what to do; empty while there is one."""
        if self._connected:
            return ""
        times = f" ({self._refused} times so far)" if self._refused and self._tls is not None else ""
        return self._problem + times

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the present connection."""
        return self._connected

    @property
    def turns(self) -> int | None:
        """Times that the connection was looked after, with or without a broker; None while it waits for usable TLS files."""
        return None if self._client is None or self._pump is None else self._pump.turns

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
        if self._credentials.username:
            client.username_pw_set(self._credentials.username, self._credentials.password())
        if self._will:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        client.on_connect, client.on_disconnect = self._connect_done, self._disconnected
        client.on_message = self._arrived
        if self._tls is not None:
            self._context = self._tls.context()
            client.tls_set_context(self._context)
            client.on_log = self._heard_log
        client.connect_async(self.address.host, self.address.port, keepalive=KEEP_ALIVE_S)
        self._client, self._pump = client, Pump(client, self.client_id, self._connect_failed)
        self._pump.start()

    async def stop(self) -> None:
        """Publishes the will by itself (a clean disconnect does not) and disconnects."""
        client, self._client = self._client, None
        if client is None or self._pump is None:
            return
        self._pump.give_up()
        if self._will and self._connected:
            message = client.publish(self._will.topic, self._will.payload, qos=1, retain=True)
            await _within(STOP_S, message.is_published)
        client.disconnect()
        await _within(STOP_S, lambda: client.socket() is None)
        await self._pump.end()
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

    # What follows may run in a thread that connects.

    def _in_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._pump is not None:
            self._pump.in_loop(call, *arguments)

    def _connect_done(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._in_loop(self._say_down, f"refused the connection ({reason}); check user name and password")
            return
        if self._pump is not None:
            self._pump.accepted = True
        self._detail = ""
        filters = tuple(self._filters)
        for topic_filter in filters:
            client.subscribe(topic_filter, qos=1)
        self._in_loop(self._now_connected, filters)

    def _disconnected(self, _client: Client, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        pump = self._pump
        accepted = pump is not None and pump.accepted
        if pump is not None:
            pump.accepted = False
        self._refused += not accepted
        detail, self._detail = self._detail, ""
        self._in_loop(self._now_down, None if accepted else explain(detail))

    def _connect_failed(self) -> None:
        error = sys.exc_info()[1]
        why = explain(str(error)) if isinstance(error, ssl.SSLError) else None
        self._refused += why is not None
        self._in_loop(self._say_down, why or "cannot be reached; start it or correct the url")

    def _heard_log(self, _client: Client, _data: Any, _level: int, text: str) -> None:
        if "SSL" in text:  # paho says nowhere else why a TLS connection ended
            self._detail = text

    def _arrived(self, _client: Client, _data: Any, message: Any) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if topic and not self._wanted(topic):
            return  # amqtt greets a client with what others subscribed to
        if topic and len(message.payload) <= MAX_MESSAGE_BYTES and self._loop is not None:
            self._loop.call_soon(self._deliver, topic, bytes(message.payload))
        else:
            self._dropped_in += 1

    def _wanted(self, topic: str) -> bool:
        from paho.mqtt.client import topic_matches_sub

        return any(topic_matches_sub(topic_filter, topic) for topic_filter in tuple(self._filters))

    # And this in the loop.

    def _now_connected(self, subscribed: tuple[str, ...]) -> None:
        if self._client is None or self._pump is None:
            return
        self._connected = True
        self._pump.good()
        self._said.clear()
        for topic_filter in self._filters:
            if topic_filter not in subscribed:  # added between paho's callback and this one
                self._client.subscribe(topic_filter, qos=1)
        self._connects += 1
        log.info("%s: connected to broker %s", self.client_id, self.address)
        self._on_connected()

    def _now_down(self, why: str | None) -> None:
        self._connected = False
        if self._pump is not None:
            self._pump.down()
        if self._client is not None:
            self._say_down(why or "closed the connection; trying again")

    def _say_down(self, what: str) -> None:
        self._problem = what
        if what not in self._said and (not self._said or self._tls is not None) and len(self._said) < MAX_SAID:
            self._said.add(what)
            log.warning("%s: broker %s %s (retrying for ever)", self.client_id, self.address, what)

    def _deliver(self, topic: str, payload: bytes) -> None:
        self._received += 1
        self._on_message(topic, payload)


async def _within(seconds: float, condition: Callable[[], bool]) -> None:
    """Returns when the condition holds, when it never can, or after so long: the will speaks then."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(RuntimeError, ValueError):  # of paho, when the connection went down meanwhile
        while not condition() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
