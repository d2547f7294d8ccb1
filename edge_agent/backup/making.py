"""Makes a backup of a meter while its agent runs.

Rules: the store is copied by SQLite's backup API in one step, so that the copy is one moment's, and checked; key files are
copied as they are, sealed ones stay sealed. The archive stands under its name only when it is whole and synced. What is left
out, and why: `manifest.LEFT_OUT`. Not here: the sealing (`archive`).
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import secrets
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from edge_agent.backup import manifest as contents
from edge_agent.backup.archive import SealingWriter
from edge_agent.backup.manifest import BackupError, FileEntry, Manifest
from edge_agent.config import AgentConfig
from edge_agent.dlms.counter import FILE_NAME as DLMS_COUNTER
from edge_agent.dlms.counter import CounterError, read_number
from edge_agent.store_file import counter
from openmg.identity import DeviceKey
from openmg.keys.files import Protection, load_key, protection

COPY_PREFIX = "backup-"
COMPRESSION = 6


def make_backup(config: AgentConfig, passphrase: str, output: BinaryIO) -> Manifest:
    """Writes a backup into an open file and returns what is in it. Raises BackupError, KeyFileError and OSError."""
    keys = {name: path.read_bytes() for name, path in _key_files(config).items()}
    with _store_copy(config) as copy:
        manifest = _manifest(config, copy, keys)
        writer = SealingWriter(output, passphrase)
        with (
            gzip.GzipFile(fileobj=cast(BinaryIO, writer), mode="wb", compresslevel=COMPRESSION) as packed,
            tarfile.open(fileobj=packed, mode="w|") as tar,
        ):
            _add(tar, contents.MANIFEST, io.BytesIO(encoded := manifest.encode()), len(encoded))
            for entry in manifest.files:
                with copy.open("rb") if entry.name == contents.STORE else io.BytesIO(keys[entry.name]) as file:
                    _add(tar, entry.name, file, entry.bytes)
        writer.close()
    return manifest


def write_backup(config: AgentConfig, passphrase: str, path: Path) -> Manifest:
    """The same into a new file of mode 0600; BackupError when there is one already."""
    if path.resolve().is_relative_to(config.device.state_dir.resolve()):
        raise BackupError(f"{path} lies in the state folder, which it is to replace; name a file on another medium")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            manifest = make_backup(config, passphrase, file)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        raise BackupError(f"{path} exists already; name a new file") from None
    except OSError as error:
        raise BackupError(f"{path} cannot be written ({error.strerror}); check folder and free space") from error
    finally:
        draft.unlink(missing_ok=True)
    return manifest


def _key_files(config: AgentConfig) -> dict[str, Path]:
    return {name: path for name, path in contents.key_paths(config).items() if path.exists()}


def _manifest(config: AgentConfig, store: Path, keys: dict[str, bytes]) -> Manifest:
    if protection(config.device.key_file) is Protection.CREDENTIAL:
        raise BackupError("the device's key is a systemd credential, which is no file of ours; back up the credential instead")
    if contents.DEVICE_KEY not in keys:
        raise BackupError(f"key file {config.device.key_file} does not exist; start the agent once")
    address = DeviceKey(load_key(config.device.key_file, config.passphrases)).address
    with contextlib.closing(sqlite3.connect(store)) as db:
        next_seq = counter(db, "next_seq")
    files = [FileEntry(contents.STORE, store.stat().st_size, digest(store))]
    files += [FileEntry(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in keys.items()]
    return Manifest(
        made=int(time.time()),
        device=config.device.name,
        address=f"0x{address.hex()}",
        chain_id=config.hub.chain_id,
        microgrid=config.home.microgrid,
        role=config.home.role,
        next_seq=next_seq,
        files=tuple(files),
        private_models=tuple(sorted(path.name for path in config.device.state_dir.glob(contents.PRIVATE_GLOB))),
        dlms_counter=_dlms_counter(config),
    )


def _dlms_counter(config: AgentConfig) -> int | None:
    """Read after the store was copied, so no number that is in use now is above it by more than what follows."""
    try:
        return read_number(config.device.state_dir / DLMS_COUNTER)
    except CounterError:  # the agent says so
        return None


def digest(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _store_copy(config: AgentConfig) -> Iterator[Path]:
    """A copy of the store as it is now, beside it; removed afterwards, as are those that an earlier kill left."""
    folder, path = config.device.state_dir, config.store_path
    if not path.exists():
        raise BackupError(f"store {path} does not exist; start the agent once")
    for left in folder.glob(f"{COPY_PREFIX}*"):
        left.unlink(missing_ok=True)
    copy = folder / f"{COPY_PREFIX}{secrets.token_hex(4)}"
    try:
        _copy(path, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _copy(path: Path, copy: Path) -> None:
    try:
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(sqlite3.connect(path, timeout=10.0)) as db, contextlib.closing(sqlite3.connect(copy)) as target:
            db.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, no log beside it
            check = target.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if check != "ok":
                raise BackupError(f"store {path} is damaged ({check}); start the agent, which rebuilds it, and try again")
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"store {path} cannot be copied ({error}); check free space and the disk") from error


def _add(tar: tarfile.TarFile, name: str, file: BinaryIO, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    tar.addfile(entry, file)
