"""The embedded MQTT broker: for laptops, tests and demonstrations.

Rules: MQTT 3.1.1, anonymous, on loopback unless told otherwise; in the field a real broker with TLS and
access lists takes its place, by its URL. Not here: persistence: meters keep their reports until the hub
itself acknowledges them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from typing import Any

MAX_CONNECTIONS = 2000
SHUTDOWN_SECONDS = 3.0
"""amqtt's orderly end may wait for ever for clients that are busy; they reconnect elsewhere or later anyway."""


class _Subscriptions(dict[str, list[Any]]):
    """amqtt's subscriptions, walked over as they were when the walk began.

    amqtt (0.12) waits inside its walks, also while it greets a new client with retained messages. A client that
    subscribes meanwhile would end the walk with an error, and the new client would be connected but never served.
    """

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(super().__iter__()))

    def items(self) -> Any:
        return tuple((topic_filter, tuple(sessions)) for topic_filter, sessions in super().items())


class BrokerPortInUse(Exception):
    """The broker's port cannot be opened; the text says which and what to do."""


def broker_config(host: str, port: int) -> dict[str, Any]:
    """The settings that amqtt is started with."""
    listener = {"type": "tcp", "bind": f"{host}:{port}", "max_connections": MAX_CONNECTIONS}
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    return {"listeners": {"default": listener}, "timeout_disconnect_delay": 2, "plugins": plugins}


async def serve_broker(host: str, port: int, stop: asyncio.Event) -> None:
    """Runs the broker until `stop` is set; BrokerPortInUse when it cannot start."""
    from amqtt.broker import Broker
    from amqtt.errors import BrokerError

    logging.getLogger("transitions").setLevel(logging.ERROR)
    library = logging.getLogger("amqtt")
    library.setLevel(logging.CRITICAL + 1)  # a port in use is told below, not with a trace
    broker = Broker(broker_config(host, port))
    broker._subscriptions = _Subscriptions()
    try:
        await broker.start()
    except (BrokerError, OSError) as error:
        raise BrokerPortInUse(f"port {port} on {host} cannot be opened for MQTT; free it or choose another") from error
    library.setLevel(logging.ERROR)
    try:
        await stop.wait()
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await broker.shutdown()


def run_embedded_broker(host: str, port: int) -> int:
    """Runs the broker in this process until SIGINT or SIGTERM; the exit code."""

    async def until_interrupted() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve_broker(host, port, stop)

    try:
        asyncio.run(until_interrupted())
    except BrokerPortInUse as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The embedded MQTT broker.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    sys.exit(run_embedded_broker(arguments.host, arguments.port))
