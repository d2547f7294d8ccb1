"""Restores a meter from a backup into an empty state folder, with report numbers that were never used.

Rules, each of which keeps something from happening twice (docs/STORE.md):
- Numbers begin above whatever the lost card can have used, also when this clock was set back (`_first_number`).
- Reports of the outbox keep numbers and bytes, so the hub takes one that it has for the same.
- A slot without report, and the energy since the backup, may have been reported by the lost card: neither is reported again.
- Requests to a protected DLMS meter are numbered above whatever the lost card can have used (`edge_agent.dlms.counter`).
- Masking promises, wallet and pending updates are not brought back; the wallet begins as `wallet restore` has it begin, and
  what could be led to answer a private round twice is marked as unusable.
Everything is unpacked and checked beside its place first; the store comes last, so what is interrupted is no meter yet.
Not here: what is in a backup (`manifest`), its sealing (`archive`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from edge_agent.backup import manifest as contents
from edge_agent.backup.archive import CHUNK_BYTES, ArchiveError, UnsealingReader
from edge_agent.backup.manifest import BackupError, Manifest
from edge_agent.config import AgentConfig
from edge_agent.dlms import counter as dlms_counter
from edge_agent.dlms.counter import CounterError
from edge_agent.state_folder import lock_state
from edge_agent.store_file import LEAP, begin_numbers, open_store, set_counter, take_over
from openmg.durable import replace_durably
from openmg.keys.files import load_key, write_new_private

STAGING_PREFIX, ASIDE_PREFIX = "restore-", "replaced-"
RECORD = "restored.json"
TAKEN = ("store.sqlite*", "masking.sqlite*", "wallet.sqlite*", "learning-*")
"""What makes a state folder one that is in use."""
MARKER = b"restored from a backup: see docs/STORE.md\n"


@dataclass(frozen=True)
class Restored:
    """What came of it: numbers go on from first_seq, `waiting` reports are in the outbox, `withheld` slots are not reported.

    dlms_counter: where the numbers of a DLMS meter's requests go on; None when that is not known, or there are none.
    """

    manifest: Manifest
    first_seq: int
    waiting: int
    withheld: int
    aside: Path | None
    dlms_counter: int | None


def restore(config: AgentConfig, passphrase: str, source: BinaryIO, force: str | None = None) -> Restored:
    """Restores; raises BackupError, KeyFileError or StoreError and changes nothing when the backup does not fit.

    force: why what stands in the folder may be set aside; without it a folder that is in use is refused.
    """
    state = config.device.state_dir
    with lock_state(state), _staging(state) as staging:
        taken = _taken(config)
        if taken and force is None:
            raise BackupError(f"{taken[0]} is there already; restore into an empty state_dir, or add --force REASON")
        manifest = _unpack(source, passphrase, staging)
        _require_fit(config, manifest, staging, force)
        seed = load_key(staging / contents.OWNER_SEED, config.passphrases) if _has(manifest, contents.OWNER_SEED) else None
        now = int(time.time())
        aside = _set_aside(config, taken, now)
        try:
            first = begin_numbers(state, _first_number(config, manifest, now))
            waiting, withheld = _continue(staging / contents.STORE, first)
            _place_keys(config, manifest, staging, now)
            if seed is not None:
                from edge_agent.wallet.tool import claim_restored

                claim_restored(config, seed)
            for name in manifest.private_models:
                write_new_private(state / Path(name).name, MARKER)
            done = Restored(manifest, first, waiting, withheld, aside, _go_on_asking(config, manifest, now))
            _record(state, done, now, force)
            os.replace(staging / contents.STORE, config.store_path)
            _sync(state)
        except (OSError, sqlite3.Error, CounterError) as error:
            raise BackupError(f"the restore into {state} stopped half-way ({error}); make room, then --force it") from error
        return done


def _first_number(config: AgentConfig, manifest: Manifest, now: int) -> int:
    """Above what the lost card can have used: its next number at the backup, one for each slot since, and LEAP.

    A card's numbers begin at a wall second and grow by one a slot, so they lie below the present second for as long as a slot
    lasts longer than one; LEAP, 29 years of slots, is for clocks that were set back to any time after the backup.
    """
    slots = int((now - manifest.made) / config.clock.clock().slot_wall_seconds()) + 1
    return max(now, manifest.next_seq + slots) + LEAP


def _go_on_asking(config: AgentConfig, manifest: Manifest, now: int) -> int | None:
    """Moves the numbers of a protected DLMS meter's requests ahead; a file that is there already is never set back."""
    path, kept, meter = config.device.state_dir / dlms_counter.FILE_NAME, manifest.dlms_counter, config.meter
    if not kept and not meter.numbers_requests:
        return None
    if kept is None:
        if path.exists():
            path.rename(path.with_name(f"{path.name}.{ASIDE_PREFIX}{now}"))
        replace_durably(path, dlms_counter.UNKNOWN)
        return None
    number = dlms_counter.number_after(kept, now - manifest.made, meter.poll_seconds)
    return dlms_counter.move_ahead(path, number)


def _taken(config: AgentConfig) -> list[Path]:
    state = config.device.state_dir
    return sorted(path for pattern in TAKEN for path in state.glob(pattern))


def _has(manifest: Manifest, name: str) -> bool:
    return any(entry.name == name for entry in manifest.files)


@contextlib.contextmanager
def _staging(state: Path) -> Iterator[Path]:
    """A folder of this restore inside of the state folder; those that an earlier kill left go."""
    for left in state.glob(f"{STAGING_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = state / f"{STAGING_PREFIX}{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(source: BinaryIO, passphrase: str, staging: Path) -> Manifest:
    """Every file of the backup, checked against the manifest's digests."""
    try:
        reader = UnsealingReader(source, passphrase)
        with tarfile.open(fileobj=cast(BinaryIO, reader), mode="r|gz") as tar:
            manifest = contents.decode(_member(tar, contents.MANIFEST).read(contents.MAX_BYTES))
            for entry in manifest.files:
                if entry.name not in contents.NAMES:
                    raise BackupError(f"the backup has a file {entry.name[:40]!r} that is none of a meter; take another one")
                _write(staging / entry.name, _member(tar, entry.name), entry.sha256)
        while reader.read(CHUNK_BYTES):  # to its end, where a cut would show
            pass
    except (ArchiveError, tarfile.TarError, zlib.error, EOFError) as error:
        raise BackupError(f"the backup cannot be opened: {error}; check passphrase and file, or take another one") from error
    except OSError as error:
        raise BackupError(f"the backup cannot be unpacked ({error.strerror or error}); check file and free space") from error
    return manifest


def _member(tar: tarfile.TarFile, name: str) -> BinaryIO:
    member = tar.next()
    file = None if member is None or member.name != name else tar.extractfile(member)
    if file is None:
        raise BackupError(f"the backup lacks {name}; take another one")
    return cast(BinaryIO, file)


def _write(path: Path, file: BinaryIO, sha256: str) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
            target.write(block)
        target.flush()
        os.fsync(target.fileno())
    if digest.hexdigest() != sha256:
        raise BackupError(f"{path.name} of the backup is not what was put into it; take another backup")


def _require_fit(config: AgentConfig, manifest: Manifest, staging: Path, force: str | None) -> None:
    """BackupError when the backup is another's, of the future, or would replace a key or drop one."""
    differs = manifest.differs(config)
    if differs is not None:
        raise BackupError(f"the backup does not fit: {differs}")
    for name in (contents.STORE, contents.DEVICE_KEY):
        if not _has(manifest, name):
            raise BackupError(f"the backup lacks {name}; take another one")
    if manifest.made > time.time():
        raise BackupError("the backup was made later than this clock shows; set the clock (chrony, timedatectl), then restore")
    if _has(manifest, contents.OWNER_SEED) and config.wallet is None:
        raise BackupError("the backup holds the owner's seed and the configuration has no wallet; add [wallet] with seed_file")
    for name, path in contents.key_paths(config).items():
        if force is not None or name in contents.TLS_NAMES or not _has(manifest, name) or not path.exists():
            continue
        if path.read_bytes() != (staging / name).read_bytes():
            raise BackupError(f"key file {path} holds another key; move it away, or add --force REASON")


def _set_aside(config: AgentConfig, taken: list[Path], now: int) -> Path | None:
    if not taken:
        return None
    aside = config.device.state_dir / f"{ASIDE_PREFIX}{now}-{secrets.token_hex(2)}"
    aside.mkdir(mode=0o700)
    for path in taken:
        path.rename(aside / path.name)
    return aside


def _continue(store: Path, first: int) -> tuple[int, int]:
    """Makes the copied store one that goes on from `first`; returns reports that wait and slots that are not reported."""
    db = open_store(store)
    try:
        db.execute("BEGIN IMMEDIATE")
        withheld = take_over(db)
        for name, value in (("next_seq", first), ("start", first), ("replaced", 0)):
            set_counter(db, name, value)
        waiting = int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return waiting, withheld
    finally:
        db.close()


def _place_keys(config: AgentConfig, manifest: Manifest, staging: Path, now: int) -> None:
    """Key files into their places; a certificate that is there is newer and stays, another key is set aside."""
    for name, path in contents.key_paths(config).items():
        if not _has(manifest, name):
            continue
        content = (staging / name).read_bytes()
        if path.exists():
            if name in contents.TLS_NAMES or path.read_bytes() == content:
                continue
            path.rename(path.with_name(f"{path.name}.{ASIDE_PREFIX}{now}"))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_new_private(path, content)


def _record(state: Path, done: Restored, now: int, reason: str | None) -> None:
    """Leaves beside the store when it was restored, from when, and why something was set aside."""
    said = {
        "restored": now,
        "made": done.manifest.made,
        "first_seq": done.first_seq,
        "waiting": done.waiting,
        "withheld": done.withheld,
        "dlms_counter": done.dlms_counter,
        "aside": None if done.aside is None else done.aside.name,
        "reason": reason,
    }
    (state / RECORD).write_text(json.dumps(said) + "\n", encoding="utf-8")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
