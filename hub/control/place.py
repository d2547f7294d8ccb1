"""Where the control socket lies: `control.sock` in the hub's state folder, and how to reach it under any path.

The name of a unix socket has at most MAX_NAME_BYTES bytes, fewer than a path may have. A longer path goes through a
descriptor of its folder (`/proc/self/fd/N/control.sock`): no change of the working directory, no second place.

The socket has mode 0600 from its first moment, since `bind` gives it the mode that its descriptor has; who may reach it is
decided by that, by the folder and by the credentials that the kernel tells of the other end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOCKET_NAME = "control.sock"
MAX_NAME_BYTES = 107
"""`sun_path` of Linux has 108 bytes, the last of them zero."""
SOCKET_MODE = 0o600
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
BACKLOG = 64
"""Connections that wait to be accepted: more than commands that anybody starts at once."""
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class ControlError(Exception):
    """The control socket cannot be opened or used; one sentence: what, where, what to do."""


class HubNotRunning(ControlError):
    """Nobody listens at the control socket."""


@dataclass(frozen=True)
class OpenSocket:
    """A listening socket, its folder's descriptor and its inode, by which `remove` knows it again."""

    listening: socket.socket
    folder: int
    inode: int


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of the folder, for as long as the block runs."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _name(folder: Path, descriptor: int) -> str:
    """The socket's name for `bind` and `connect`."""
    direct = os.path.abspath(folder / SOCKET_NAME)
    return direct if len(os.fsencode(direct)) <= MAX_NAME_BYTES else f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"


def connect(folder: Path, timeout_s: float) -> socket.socket:
    """A connection to the hub whose state folder this is. Raises HubNotRunning, ControlError."""
    where = folder / SOCKET_NAME
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        with _opened(folder) as descriptor:
            connection.connect(_name(folder, descriptor))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        connection.close()
        raise HubNotRunning(f"no hub is running at {where}") from error
    except PermissionError as error:
        connection.close()
        raise ControlError(f"{where} belongs to another user: run the command as the user that runs the hub") from error
    except OSError as error:
        connection.close()
        raise ControlError(f"{where} cannot be used ({error.strerror or error}): see the hub's log") from error
    return connection


def listen(folder: Path) -> OpenSocket:
    """Open the socket; one that a hub left behind when it was killed is replaced. Raises ControlError."""
    where = folder / SOCKET_NAME
    try:
        _check_folder(folder)
        _clear(folder)
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ControlError(f"{where} cannot be made ({error.strerror}): check the folder") from error
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listening.fileno(), SOCKET_MODE)
        listening.bind(_name(folder, descriptor))
        listening.listen(BACKLOG)
        listening.setblocking(False)
        return OpenSocket(listening, descriptor, os.stat(SOCKET_NAME, dir_fd=descriptor).st_ino)
    except OSError as error:
        listening.close()
        os.close(descriptor)
        raise ControlError(f"{where} cannot be made ({error.strerror or error}): check the folder") from error


def _check_folder(folder: Path) -> None:
    """ControlError when others may put a socket of theirs in this one's place."""
    if os.stat(folder).st_mode & OTHERS_MAY_WRITE:
        raise ControlError(f"{folder} can be written by other users, so no control socket is made in it: run chmod 700 on it")


def _clear(folder: Path) -> None:
    """Remove a socket that nobody listens at. Raises ControlError when somebody does, or when it is no socket."""
    where = folder / SOCKET_NAME
    try:
        mode = os.lstat(where).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{where} is no socket: move it away, the hub makes its control socket there")
    try:
        connect(folder, timeout_s=1.0).close()
    except HubNotRunning:
        where.unlink(missing_ok=True)
        return
    raise ControlError(f"{where} is in use by another hub: give each hub a state folder of its own")


def remove(opened: OpenSocket) -> None:
    """Close the socket and take it out of its folder, unless another has taken its place."""
    with contextlib.suppress(OSError):
        if os.stat(SOCKET_NAME, dir_fd=opened.folder).st_ino == opened.inode:
            os.unlink(SOCKET_NAME, dir_fd=opened.folder)
    opened.listening.close()
    os.close(opened.folder)


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end, as the kernel says it."""
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def may_control(uid: int, own_uid: int) -> bool:
    """Whether a user may control a hub that runs as `own_uid`: that user itself, and root."""
    return uid in (own_uid, 0)
