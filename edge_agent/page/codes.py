"""One-time codes for the owner's page: `openmg-agent page code` makes one, the page takes it once.

    K7QM-2XTA-93FD      12 characters of Crockford's base 32, 60 bits; case, blanks and dashes do not matter

Rules: a code is for one meter. The file keeps that, a salted hash and the wall time at which the code ends, never the code; it
is mode 0600 and changed under a lock, as whole files. A code is taken out before whoever gave it is let in, so that it opens
once, also in a crash. 60 bits for ten minutes need no slow hash. Not here: who may try how often (`access`).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.page.served import MAX_METERS
from openmg.crockford import ALPHABET, grouped, typed
from openmg.durable import locked, replace_durably

CHARACTERS = 12
LIFE_SECONDS = 600
"""From a terminal to a browser in the same home."""
MAX_CODES = 4
"""Of one meter, given out and not used; its oldest goes."""
MAX_FILE_BYTES = MAX_METERS * MAX_CODES * 256
"""A code takes some 200."""
MAX_TEXT = 64


@dataclass(frozen=True)
class KeptCode:
    """What is kept of a code: the meter it is for, salt and hash in hex, and the wall second at which it ends."""

    meter: str
    salt: str
    digest: str
    ends: int


def new_code() -> str:
    """A code as people write it. Secret."""
    return grouped("".join(secrets.choice(ALPHABET) for _ in range(CHARACTERS)))


def plain(text: str) -> str | None:
    """The characters of what somebody typed; None when it can be no code."""
    if len(text) > MAX_TEXT:
        return None
    code = typed(text)
    return code if len(code) == CHARACTERS and all(item in ALPHABET for item in code) else None


class CodeFile:
    """The codes that were given out and not used, in the page's folder, which is made when missing. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "codes.json"
        self._lock_path = folder / "codes.lock"

    def issue(self, meter: str, now: float) -> str:
        """A new code for a meter, from wall second `now` on."""
        code = new_code()
        salt = secrets.token_hex(16)
        with self._locked():
            kept = [item for item in self._load() if item.ends > now]
            others, own = ([item for item in kept if (item.meter == meter) is same] for same in (False, True))
            fresh = KeptCode(meter, salt, _digest(salt, code.replace("-", "")), int(now) + LIFE_SECONDS)
            self._save([*others, *own[-(MAX_CODES - 1) :], fresh])
        return code

    def take(self, text: str, now: float) -> str | None:
        """The meter of a code that has not ended, and is none any more afterwards; else None. All kept ones are compared."""
        code = plain(text)
        with self._locked():
            kept = self._load()
            same = [hmac.compare_digest(_digest(item.salt, code or ""), item.digest) for item in kept]
            opened = [item.meter for equal, item in zip(same, kept, strict=True) if equal and item.ends > now]
            left = [item for equal, item in zip(same, kept, strict=True) if not equal and item.ends > now]
            if len(left) != len(kept):
                self._save(left)
        return opened[0] if opened else None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self._lock_path):
            yield

    def _load(self) -> list[KeptCode]:
        """A file that does not read back holds no code: the owner makes another."""
        try:
            with self._path.open("rb") as file:
                rows = json.loads(file.read(MAX_FILE_BYTES))
            found = [KeptCode(str(row["meter"]), str(row["salt"]), str(row["digest"]), int(row["ends"])) for row in rows]
            return found[: MAX_METERS * MAX_CODES]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return []

    def _save(self, codes: list[KeptCode]) -> None:
        replace_durably(self._path, json.dumps([vars(item) for item in codes]).encode("ascii"))


def _digest(salt: str, code: str) -> str:
    return hashlib.sha256(f"openmg.page.code.v1:{salt}:{code}".encode("ascii")).hexdigest()
