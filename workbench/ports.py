"""Free TCP ports for the processes of a run.

Rules: a port that was chosen stays bound here, never listening, until the reservation is closed: the system then gives it
to nobody else, while a server that sets SO_REUSEADDR (all of ours do) can listen on it. So two runs on one machine, each
with dozens of ports and seconds between choosing and using them, do not take each other's.
"""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


class PortReservation:
    """Different ports that nobody listens on now; `close` lets go of them."""

    def __init__(self, count: int) -> None:
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
        try:
            for item in self._sockets:
                item.bind((HOST, 0))
                item.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        except OSError:
            self.close()
            raise
        self.ports = [int(item.getsockname()[1]) for item in self._sockets]

    def close(self) -> None:
        for item in self._sockets:
            item.close()


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of this machine's loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
