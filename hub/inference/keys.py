"""API keys: who may ask, how often and for what fee.

Rules: a key is `omg_ID_SECRET`; it is shown once, when it is made. The database holds its id and the SHA-256 of its secret,
which has 256 bits of chance, so a copy of the file opens nothing. Secrets are compared in constant time, also for an id
that does not exist. Limits and fee of a key never change, so what it owes is a product; another price is another key. A
revoked key stays listed, because its calls may still be on an invoice.
Bound: MAX_KEYS keys. Not here: what was asked and what it costs (`ledger`), rates (`quota`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from hub.inference.database import Database
from hub.inference.quota import MAX_PER_MINUTE, Rate

MAX_KEYS = 1_000
MAX_DAILY = 10_000_000
MAX_FEE_WEI = 10**18
"""One ether a call."""
SECRET_BYTES = 32
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9 ._-]{0,63}")
_KEY = re.compile(r"omg_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")

SCHEMA = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, per_minute INTEGER NOT NULL, daily INTEGER NOT NULL,
    fee_wei TEXT NOT NULL, created_s INTEGER NOT NULL, revoked_s INTEGER) WITHOUT ROWID;
CREATE TABLE calls (
    key_id TEXT NOT NULL, day INTEGER NOT NULL, endpoint TEXT NOT NULL, calls INTEGER NOT NULL, charged INTEGER NOT NULL,
    PRIMARY KEY (key_id, day, endpoint)) WITHOUT ROWID
"""
VERSION = 1


class KeyRefused(ValueError):
    """A key cannot be made or found; one sentence says why and what to do."""


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret. Times are unix seconds."""

    id: str
    name: str
    per_minute: int
    daily: int
    fee_wei: int
    created_s: int
    revoked_s: int | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise KeyRefused(f"name is {self.name!r}; use up to 64 letters, digits, spaces, dots, dashes")
        if not 1 <= self.per_minute <= MAX_PER_MINUTE:
            raise KeyRefused(f"{self.per_minute} requests per minute are not possible; give 1 to {MAX_PER_MINUTE}")
        if not 1 <= self.daily <= MAX_DAILY:
            raise KeyRefused(f"{self.daily} calls a day are not possible; give 1 to {MAX_DAILY}")
        if not 0 <= self.fee_wei <= MAX_FEE_WEI:
            raise KeyRefused(f"a fee of {self.fee_wei} wei a call is not possible; give 0 to {MAX_FEE_WEI}")

    @property
    def rate(self) -> Rate:
        return Rate(self.per_minute)


class KeyStore:
    """The keys of one hub; made when missing. Calls may come from any thread. Raises InferenceStoreError."""

    def __init__(self, path: Path) -> None:
        self.db = Database(path, SCHEMA, VERSION, synchronous="FULL")

    def close(self) -> None:
        self.db.close()

    def create(self, name: str, per_minute: int, daily: int, fee_wei: int, now_s: int) -> tuple[ApiKey, str]:
        """A new key and its text, which nobody can read again. Raises KeyRefused."""
        key = ApiKey(secrets.token_hex(4), name, per_minute, daily, fee_wei, now_s)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        with self.db.transaction() as db:
            if db.execute("SELECT count(*) FROM keys").fetchone()[0] >= MAX_KEYS:
                raise KeyRefused(f"{MAX_KEYS} keys exist, no more are kept; start another key database")
            if db.execute("SELECT 1 FROM keys WHERE name = ?", (name,)).fetchone():
                raise KeyRefused(f"a key named {name!r} exists; choose another name")
            if db.execute("SELECT 1 FROM keys WHERE id = ?", (key.id,)).fetchone():
                raise KeyRefused("the new key's id is taken by chance; try again")
            row = (key.id, name, _digest(secret), per_minute, daily, str(fee_wei), now_s)
            db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", row)
        return key, f"omg_{key.id}_{secret}"

    def list(self) -> list[ApiKey]:
        """All keys, revoked ones included, the oldest first."""
        sql = "SELECT id, name, per_minute, daily, fee_wei, created_s, revoked_s FROM keys ORDER BY created_s, name"
        return [_key(row) for row in self.db.rows(sql)]

    def revoke(self, name: str, now_s: int) -> ApiKey:
        """From now on the key opens nothing; a key that is revoked stays as it is. Raises KeyRefused for an unknown name."""
        with self.db.transaction() as db:
            db.execute("UPDATE keys SET revoked_s = ? WHERE name = ? AND revoked_s IS NULL", (now_s, name))
        found = next((key for key in self.list() if key.name == name), None)
        if found is None:
            raise KeyRefused(f"no key is named {name!r}; list shows the names")
        return found

    def find(self, text: str) -> ApiKey | None:
        """The key that this text opens; None for any other text and for a revoked key."""
        match = _KEY.fullmatch(text)
        key_id, secret = match.groups() if match else ("", "")
        sql = "SELECT id, name, per_minute, daily, fee_wei, created_s, revoked_s, digest FROM keys WHERE id = ?"
        rows = self.db.rows(sql, (key_id,))
        stored = rows[0][7] if rows else bytes(32)
        assert isinstance(stored, bytes)
        right = hmac.compare_digest(stored, _digest(secret))
        if not rows or not right:
            return None
        key = _key(rows[0][:7])
        return key if key.revoked_s is None else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


def _key(row: tuple[object, ...]) -> ApiKey:
    key_id, name, per_minute, daily, fee_wei, created_s, revoked_s = row
    assert isinstance(per_minute, int) and isinstance(daily, int) and isinstance(created_s, int)
    assert revoked_s is None or isinstance(revoked_s, int)
    return ApiKey(str(key_id), str(name), per_minute, daily, int(str(fee_wei)), created_s, revoked_s)
