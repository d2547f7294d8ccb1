"""A disk that loses what was not synced: a VFS of SQLite that writes down how to undo every write until the next sync.

The real VFS does all the work; between it and SQLite each write and each truncation of a file is first noted in a journal
beside the file (`FILE.undo`), with the bytes that were there before and those that come, and a sync of the file empties its
journal. After `kill -9` the page cache has every write; `lose_unsynced` then turns the file into what a power cut may have
left: the state of the last sync, plus any of the later writes, in whole or torn at a sector. What SQLite did not sync is
really lost this way, whatever the program believes.

It stands for a disk that keeps its promises: a sync is durable, and a sector is written whole. Directory entries are
taken as durable, and a file that SQLite deletes is deleted.

`install` makes it the VFS of every SQLite connection of this process, so it belongs into a process of its own. The
library is reached through ctypes; the fields are those of `sqlite3.h`, which SQLite keeps stable.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import random
import struct
from pathlib import Path
from typing import Any

SECTOR_BYTES = 512
UNDO_SUFFIX = ".undo"
_HEAD = struct.Struct(">QQQII")  # offset, size of the file before, after, bytes before, bytes that came
_OK = 0

_POINTER, _INT, _I64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_Transfer = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _I64)
_Truncate = ctypes.CFUNCTYPE(_INT, _POINTER, _I64)
_Sync = ctypes.CFUNCTYPE(_INT, _POINTER, _INT)
_Size = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER)
_Open = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER)  # the name is kept by the VFS: no copy


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = [
        ("iVersion", _INT), ("xClose", _POINTER), ("xRead", _Transfer), ("xWrite", _Transfer), ("xTruncate", _Truncate),
        ("xSync", _Sync), ("xFileSize", _Size), *((f"other{i}", _POINTER) for i in range(12)),
    ]  # fmt: skip


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = [
        ("iVersion", _INT), ("szOsFile", _INT), ("mxPathname", _INT), ("pNext", _POINTER), ("zName", ctypes.c_char_p),
        ("pAppData", _POINTER), ("xOpen", _Open), *((f"other{i}", _POINTER) for i in range(17)),
    ]  # fmt: skip


_INSTALLED: list[LossyDisk] = []
"""SQLite calls it until the process ends, whoever else forgot it."""


class DiskError(RuntimeError):
    """This Python's SQLite cannot be given a VFS; the message says why."""


class LossyDisk:
    """The VFS. One for the life of the process; `syncs` counts what reached the disk."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("sqlite3")
        if name is None:
            raise DiskError("no shared SQLite library here: run on a system whose Python uses one (libsqlite3)")
        self._library = ctypes.CDLL(name)
        self._library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self._library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
        self._journals: dict[str, int] = {}
        self._paths: dict[int, str] = {}  # open file -> path; an address that is used again is entered again
        self._tables: dict[int, _Methods] = {}
        self._keep: list[Any] = []  # callbacks that C holds
        self.syncs = 0

    def install(self) -> None:
        """Put it before the default VFS, for all connections from now on."""
        base = self._library.sqlite3_vfs_find(None)
        self._real_open = base.contents.xOpen
        self._vfs = _Vfs()
        ctypes.memmove(ctypes.byref(self._vfs), base, ctypes.sizeof(_Vfs))
        self._vfs.zName, self._vfs.pNext = b"openmg-lossy", None
        self._vfs.xOpen = self._held(_Open(self._open))
        if self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1) != _OK:
            raise DiskError("SQLite refused the VFS: this library is too old")
        _INSTALLED.append(self)

    def _held(self, callback: Any) -> Any:
        self._keep.append(callback)
        return callback

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        code = int(self._real_open(vfs, name, file, flags, out))
        if code == _OK and name is not None:
            table = ctypes.cast(file, ctypes.POINTER(ctypes.c_void_p))
            real = table[0]
            assert real is not None
            if real not in self._tables:
                self._tables[real] = self._methods(real)
            table[0] = ctypes.addressof(self._tables[real])
            self._paths[file] = os.fsdecode(ctypes.string_at(name))
        return code

    def _methods(self, real_table: int) -> _Methods:
        """The real methods with three of them watched."""
        real = _Methods.from_address(real_table)
        mine = _Methods()
        ctypes.memmove(ctypes.byref(mine), real_table, ctypes.sizeof(_Methods))

        def write(file: int, data: int, count: int, offset: int) -> int:
            self._note(real, file, offset, ctypes.string_at(data, count), None)
            return int(real.xWrite(file, data, count, offset))

        def truncate(file: int, size: int) -> int:
            self._note(real, file, size, b"", size)
            return int(real.xTruncate(file, size))

        def sync(file: int, flags: int) -> int:
            code = int(real.xSync(file, flags))
            if code == _OK:
                self.syncs += 1
                os.ftruncate(self._journal(file), 0)
            return code

        mine.xWrite, mine.xTruncate = self._held(_Transfer(write)), self._held(_Truncate(truncate))
        mine.xSync = self._held(_Sync(sync))
        return mine

    def _journal(self, file: int) -> int:
        path = self._paths[file]
        if path not in self._journals:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._journals[path] = os.open(path + UNDO_SUFFIX, flags, 0o600)
        return self._journals[path]

    def _note(self, real: _Methods, file: int, offset: int, new: bytes, cut_to: int | None) -> None:
        """Write down how to undo a change, before it is made."""
        size = ctypes.c_int64()
        real.xFileSize(file, ctypes.addressof(size))
        end = size.value if cut_to is not None else min(size.value, offset + len(new))
        before = ctypes.create_string_buffer(max(0, end - offset))
        if end > offset:
            real.xRead(file, ctypes.addressof(before), end - offset, offset)
        after = cut_to if cut_to is not None else max(size.value, offset + len(new))
        head = _HEAD.pack(offset, size.value, after, max(0, end - offset), len(new))
        os.write(self._journal(file), head + before.raw[: max(0, end - offset)] + new)


def lose_unsynced(directory: Path, chance: random.Random, kept_share: float | None = None) -> int:
    """Let a power cut happen to the files of a killed process; returns how many writes were lost.

    `kept_share` of the unsynced writes survive; by default none, half or most. What shared memory held is gone.
    """
    lost = 0
    for journal in sorted(directory.rglob("*" + UNDO_SUFFIX)):
        path = journal.with_name(journal.name.removesuffix(UNDO_SUFFIX))
        if path.exists():
            share = chance.choice((0.0, 0.5, 0.9)) if kept_share is None else kept_share
            lost += _lose(path, _changes(journal.read_bytes()), chance, share)
        journal.unlink()
    for shared in directory.rglob("*-shm"):
        shared.unlink()
    return lost


def forget_undo(directory: Path) -> None:
    """The process was killed, but not the machine: every write is there."""
    for journal in directory.rglob("*" + UNDO_SUFFIX):
        journal.unlink()


_Change = tuple[int, int, int, bytes, bytes]


def _changes(data: bytes) -> list[_Change]:
    """The records of a journal; one cut off at the end was never followed by its write."""
    found: list[_Change] = []
    position = 0
    while position + _HEAD.size <= len(data):
        offset, size, after, had, came = _HEAD.unpack_from(data, position)
        start = position + _HEAD.size
        position = start + had + came
        if position > len(data):
            break
        found.append((offset, size, after, data[start : start + had], data[start + had : position]))
    return found


def _lose(path: Path, changes: list[_Change], chance: random.Random, kept_share: float) -> int:
    """Undo all changes since the sync, then make some of the writes again."""
    lost = 0
    with path.open("r+b") as file:
        for offset, size, _, before, _ in reversed(changes):
            file.seek(offset)
            file.write(before)
            file.truncate(size)
        for offset, _, after, _, new in changes:
            if chance.random() >= kept_share:
                lost += 1
            elif not new:
                file.truncate(after)
            else:
                whole = chance.random() < 0.5
                kept = len(new) if whole else chance.randrange(0, len(new) // SECTOR_BYTES + 1) * SECTOR_BYTES
                lost += kept < len(new)
                file.seek(offset)
                file.write(new[:kept])
    return lost
