"""A command's side of the control socket: one request, one answer, within a time."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

from hub.control.place import SOCKET_NAME, ControlError, connect
from hub.control.protocol import (
    HEAD_BYTES,
    MAX_ANSWER_BYTES,
    Answer,
    ProtocolError,
    Request,
    body_length,
    decode_answer,
    encode_request,
)

ANSWER_S = 30.0
"""A transaction is checked in the thread that executes blocks, which may take seconds for a large one."""


def ask(folder: Path, request: Request, timeout_s: float = ANSWER_S) -> Answer:
    """What the hub with this state folder answers. Raises HubNotRunning, ControlError."""
    end_s = time.monotonic() + timeout_s
    where = folder / SOCKET_NAME
    with connect(folder, timeout_s) as connection:
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it answered before it has read all, and why
                connection.sendall(encode_request(request))
            head = _exactly(connection, HEAD_BYTES, end_s)
            return decode_answer(_exactly(connection, body_length(head, MAX_ANSWER_BYTES), end_s))
        except ProtocolError as error:
            raise ControlError(f"{where}: {error}") from error
        except TimeoutError as error:
            raise ControlError(f"{where}: the hub did not answer within {timeout_s:g} s: see its log, try again") from error
        except OSError as error:
            raise ControlError(f"{where}: the hub ended the connection ({error.strerror or error}): see its log") from error


def _exactly(connection: socket.socket, count: int, end_s: float) -> bytes:
    """So many bytes. Raises TimeoutError, OSError when they do not come."""
    received = bytearray()
    while len(received) < count:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        data = connection.recv(count - len(received))
        if not data:
            raise ConnectionResetError(0, "it was closed")
        received += data
    return bytes(received)
