"""A validator's store that SQLite finds malformed is set aside, and a new one begins in its place.

What the old file knew of this validator's votes is lost with it. So the new one says that its log is lost, and the validator
abstains until it has caught up (`consensus/catchup.py`), as after any loss.

Rules. Only what SQLite itself calls malformed is replaced, and an empty file: not a store of another chain or version, not one
whose rows this program cannot read, not one that the disk does not give. It must have a marker beside it: a wrong path could
name any file. Nobody else may have the file open: another process would go on signing with what it knows. The file and its
write-ahead log are kept under other names, at most MAX_SET_ASIDE times; after that a human has to look at the disk. The chain
of a validator that was alone from its genesis on is nowhere else, so it is left to its operator.

The file goes first, its write-ahead log after it: a crash between the two leaves no store, which is a lost log. The other way
round it could leave an older store that passes for a whole one. While a file that was set aside lies there, or a marker that
has counted a transaction, no store is made that counts as complete (`store.initialise_store`).
Not here: what a store holds (`store.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from hub.ppdl.genesis import Genesis
from hub.ppdl.marker import marker_path
from hub.ppdl.store import PpdlStore
from hub.ppdl.storefiles import SIDE_FILES, StoreDamaged, StoreError, set_aside_numbers, set_aside_path
from openmg.durable import sync_folder

log = logging.getLogger(__name__)

MAX_SET_ASIDE = 4
"""A disk that damages a file as often is broken; the copies would fill what is left of it."""
_LOCKED_FROM, _LOCKED_BYTES = 0x40000002, 510
"""Where SQLite locks a database that is open (fileformat2.html, section 1.6): each process that has it open holds a part."""


def open_store(path: Path, genesis: Genesis) -> PpdlStore:
    """The store there, or a new one with a lost log in place of one that is malformed. Raises StoreError."""
    try:
        return PpdlStore(path, genesis)
    except StoreDamaged as damage:
        if len(genesis.validators) == 1:
            raise StoreError(f"{damage}; this validator was alone at first, so nobody else may have its chain") from damage
        kept = _set_aside(path, damage)
        log.critical(
            "PPDL store %s is damaged (%s) and kept as %s: this hub begins a new one, and is silent until it has caught up with"
            " the others; check the disk",
            path,
            damage.reason,
            kept,
        )
        return PpdlStore(path, genesis)


def _set_aside(path: Path, damage: StoreDamaged) -> Path:
    """Rename the file and what belongs to it; its new name. Raises StoreError when it must stay."""
    if path.is_symlink() or not path.is_file():
        raise StoreError(f"{damage}; it is a link, so it is left where it is") from damage
    if not marker_path(path).exists():
        raise StoreError(f"{damage}; it has no marker, so it may never have been a store: check ppdl's path") from damage
    free = set(range(1, MAX_SET_ASIDE + 1)) - set_aside_numbers(path)
    if not free:
        raise StoreError(f"{damage}; {MAX_SET_ASIDE} damaged ones before it are kept there already") from damage
    kept = set_aside_path(path, min(free))
    try:
        with _alone(path):
            for suffix in ("", *SIDE_FILES):
                with contextlib.suppress(FileNotFoundError):  # SQLite may have removed its own
                    path.with_name(path.name + suffix).rename(kept.with_name(kept.name + suffix))
            sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{damage}; it cannot be set aside ({error.strerror or error})") from error
    return kept


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While it runs, no process has the database open, nor can open it. Raises OSError when one has."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKED_BYTES, _LOCKED_FROM)
        except OSError as error:
            raise OSError(error.errno, "another process has it open: stop that one first") from error
        yield
    finally:
        os.close(file)
