"""Files of a ceremony on disk: read whole, written whole and never over another.

A contribution exists once and cannot be made again, so nothing here replaces a file.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.ceremony.transcript import Transcript

MAX_BYTES = 1 << 31
"""Phase 2 of the largest circuit has about 1.6 GB."""


def read_transcript(path: Path) -> Transcript:
    """CeremonyError when the file cannot be read or is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CeremonyError(f"{path} is larger than any ceremony file; give the file of init or contribute")
        data = path.read_bytes()
    except OSError as error:
        raise CeremonyError(f"{path} cannot be read ({error.strerror}); give the file of init or contribute") from error
    return Transcript.from_bytes(data, str(path))


def require_new(path: Path) -> None:
    """CeremonyError when something is there already; asked before the work as well as when it is written."""
    if os.path.lexists(path):
        raise CeremonyError(f"{path} exists and is not written over; choose another --out")


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet; a reader never sees a part of it."""
    require_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            _place(file.name, path)
    except OSError as error:
        raise CeremonyError(f"{path} cannot be written ({error.strerror}); choose another --out") from error


def _place(made: str, path: Path) -> None:
    """Fails where a file has come to be since it was asked for; a rename would replace it."""
    try:
        os.link(made, path)
    except FileExistsError as error:
        raise CeremonyError(f"{path} exists and is not written over; choose another --out") from error
