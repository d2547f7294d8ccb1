"""What set-up remembers between runs: a record inside .venv, and keys over the files that decide each step.

Rules: a step counts as done only while its key equals the recorded one; the record says `busy` while a step
changes the environment, so that one that was killed half-way is seen and rebuilt; written atomically.
Keys are hashes of contents, never of times: a fresh clone of the same commit has the same keys.

Not here: what a step does when its key differs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

RECORD_NAME = "openmg-setup.json"
SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """The state of one environment: where and with what it was made, and the key of each step done in it.

    `failed` maps an optional step to the key it last failed with: it is not tried again until that changes;
    `reasons` has the sentence that was told then.
    """

    root: str
    base: str
    version: str
    busy: str | None = None
    done: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    size_mb: int = 0

    def with_done(self, step: str, key: str) -> Record:
        failed = {name: value for name, value in self.failed.items() if name != step}
        return replace(self, busy=None, done={**self.done, step: key}, failed=failed)

    def with_failed(self, step: str, key: str, reason: str) -> Record:
        failed, reasons = {**self.failed, step: key}, {**self.reasons, step: reason}
        return replace(self.without(step), failed=failed, reasons=reasons)

    def without(self, step: str) -> Record:
        """`step` is due again, and nothing is busy."""
        return replace(self, busy=None, done={name: key for name, key in self.done.items() if name != step})


def load(venv: Path) -> Record | None:
    """The record of `venv`, or None when there is none that this version can read."""
    try:
        fields = json.loads((venv / RECORD_NAME).read_text(encoding="utf-8"))
        if fields.pop("schema") != SCHEMA:
            return None
        return Record(**fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save(venv: Path, record: Record) -> None:
    """Write the record so that a crash leaves the old one or the new one."""
    target = venv / RECORD_NAME
    draft = target.with_suffix(".new")
    draft.write_text(json.dumps({"schema": SCHEMA, **asdict(record)}, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, target)


def key_of(parts: Iterable[object]) -> str:
    """A short key over plain values."""
    return hashlib.sha256(json.dumps(list(parts), sort_keys=True, default=str).encode()).hexdigest()[:24]


def hash_files(files: Iterable[Path], base: Path) -> str:
    """A hash over the relative names and the contents of `files`; a missing file counts as missing."""
    digest = hashlib.sha256()
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "missing"
        digest.update(f"{file.relative_to(base).as_posix()}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def size_on_disk_mb(folders: Iterable[Path]) -> int:
    """Megabytes that `folders` take on disk, each file (inode) once."""
    seen: set[tuple[int, int]] = set()
    size_bytes = 0
    stack = [str(folder) for folder in folders if folder.is_dir()]
    while stack:
        for entry in os.scandir(stack.pop()):
            if entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
                continue
            info = entry.stat(follow_symlinks=False)
            if (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                size_bytes += info.st_blocks * 512
    return round(size_bytes / 1e6)
