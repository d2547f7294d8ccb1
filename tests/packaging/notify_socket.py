"""The service manager's end of sd_notify: a real datagram socket that keeps what it was told."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time


class NotifySocket:
    """Bound while used as a context manager; `address` is for $NOTIFY_SOCKET."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="notify-")  # a socket's path has at most 107 bytes, pytest's may have more
        self.address = f"{self._folder}/socket"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> NotifySocket:
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()
        shutil.rmtree(self._folder)

    def take(self) -> list[str]:
        """Lines that came since the last call, oldest first."""
        lines: list[str] = []
        while True:
            try:
                lines += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return lines

    def wait_for(self, line: str, seconds: float = 20.0) -> list[str]:
        """What came until the line did; fails when it does not in time."""
        lines, deadline = [], time.monotonic() + seconds
        while line not in lines:
            assert time.monotonic() < deadline, f"{line} did not come; {lines[-5:]} did"
            lines += self.take()
            time.sleep(0.02)
        return lines
