"""What the operator knows of devices: invitations, devices, certificates and revocations, in one SQLite file of mode 0600.

Rules: of a code only its verifier is kept (`openmg.enrolment.code`). One open invitation for each name; a new one for a name
ends the older. A device's row says which signing address, mask key and TLS key belong to its name; certificates are never
deleted, so that all of a device's can be revoked. Several processes (commands, the enrolment server, the hub) use the file
at once; every change is one transaction. Times are Unix seconds.
Not here: who may do what (`hub.devices.desk`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.devices.authority import Revoked
from hub.operators.errors import OperatorError
from openmg.enrolment.code import CodeVerifier
from openmg.enrolment.transcript import DeviceKeys

SCHEMA_VERSION = 1
BUSY_MS = 10_000
"""How long a command waits for another one's transaction."""
WAITING, APPROVED, REVOKED = "waiting", "approved", "revoked"
_SCHEMA = """
CREATE TABLE invitations (
    id TEXT PRIMARY KEY, device TEXT NOT NULL, microgrid INTEGER NOT NULL, role TEXT NOT NULL,
    device_public BLOB NOT NULL, hub_mac BLOB NOT NULL, expires_s INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, next_try_s INTEGER NOT NULL DEFAULT 0, used_by BLOB) WITHOUT ROWID;
CREATE TABLE devices (
    name TEXT PRIMARY KEY, microgrid INTEGER NOT NULL, role TEXT NOT NULL, address BLOB NOT NULL, mask_public BLOB NOT NULL,
    tls_key BLOB NOT NULL, public_key BLOB NOT NULL, state TEXT NOT NULL, since_s INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE requests (
    name TEXT PRIMARY KEY, microgrid INTEGER NOT NULL, role TEXT NOT NULL, address BLOB NOT NULL, mask_public BLOB NOT NULL,
    tls_key BLOB NOT NULL, public_key BLOB NOT NULL, since_s INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY, device TEXT NOT NULL, tls_key BLOB NOT NULL, der BLOB NOT NULL, issued_s INTEGER NOT NULL,
    expires_s INTEGER NOT NULL, revoked_s INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX certificates_by_device ON certificates (device, issued_s);
"""


@dataclass(frozen=True)
class Invitation:
    """A name that may be enrolled once by who has the code. used_by: SHA-256 of the TLS key that has used it."""

    id: str
    device: str
    microgrid: int
    role: str
    verifier: CodeVerifier
    expires_s: int
    tries: int = 0
    next_try_s: int = 0
    used_by: bytes | None = None


@dataclass(frozen=True)
class Applicant:
    """A device that has proved its keys; public_key: of TLS, SubjectPublicKeyInfo DER; since_s: when it did."""

    keys: DeviceKeys
    microgrid: int
    role: str
    public_key: bytes
    since_s: int


@dataclass(frozen=True)
class EnrolledDevice:
    """A device that was approved; state: APPROVED or REVOKED."""

    keys: DeviceKeys
    microgrid: int
    role: str
    public_key: bytes
    state: str
    since_s: int


@dataclass(frozen=True)
class IssuedCertificate:
    """A certificate as it was issued; revoked_s: 0 while it counts."""

    device: str
    tls_key: bytes
    serial: int
    der: bytes
    issued_s: int
    expires_s: int
    revoked_s: int = 0


class DeviceStore:
    """One open database, made when missing; calls may come from any thread. Raises OperatorError when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.RLock()
        try:
            self._db = _open(path)
        except (OSError, sqlite3.Error) as error:
            raise OperatorError(
                f"{path} cannot be opened ({error}): check folder and owner, or restore it from backup"
            ) from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is done inside is done whole or not at all."""
        with self._lock:
            inner = bool(self._db.in_transaction)
            if not inner:
                self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                if not inner:
                    self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # some failures have rolled it back already
                    self._db.execute("ROLLBACK")
                raise

    @property
    def version(self) -> int:
        """Changes when another connection has committed."""
        with self._lock:
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    # Invitations

    def invite(self, invitation: Invitation) -> None:
        """Keeps it in place of an older one for the same name. Raises OperatorError when its id is taken."""
        with self.transaction():
            self._db.execute("DELETE FROM invitations WHERE device = ?", (invitation.device,))
            verifier = invitation.verifier
            row = (invitation.id, invitation.device, invitation.microgrid, invitation.role, verifier.device_public,
                   verifier.hub_mac, invitation.expires_s)  # fmt: skip
            try:
                self._db.execute(
                    "INSERT INTO invitations (id, device, microgrid, role, device_public, hub_mac, expires_s)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
            except sqlite3.IntegrityError as error:
                raise OperatorError("the invitation's number is taken by another: invite again") from error

    def invitation(self, invitation_id: str) -> Invitation | None:
        with self._lock:
            row = self._db.execute(f"{_INVITATIONS} WHERE id = ?", (invitation_id,)).fetchone()
        return _invitation(row) if row else None

    def invitations(self) -> tuple[Invitation, ...]:
        with self._lock:
            return tuple(map(_invitation, self._db.execute(f"{_INVITATIONS} ORDER BY device").fetchall()))

    def count_try(self, invitation_id: str, next_try_s: int) -> None:
        """One wrong proof more; the next one counts from `next_try_s` on."""
        with self.transaction():
            self._db.execute(
                "UPDATE invitations SET tries = tries + 1, next_try_s = ? WHERE id = ?", (next_try_s, invitation_id)
            )

    def use_invitation(self, invitation_id: str, tls_key: bytes) -> bool:
        """Ties the invitation to the key; False when another key has used it."""
        with self.transaction():
            sql = "UPDATE invitations SET used_by = ? WHERE id = ? AND (used_by IS NULL OR used_by = ?)"
            return self._db.execute(sql, (tls_key, invitation_id, tls_key)).rowcount == 1

    def drop_invitation(self, device: str) -> None:
        with self.transaction():
            self._db.execute("DELETE FROM invitations WHERE device = ?", (device,))

    # Devices

    def apply(self, applicant: Applicant) -> None:
        """A device waits for approval; an older request under its name is replaced."""
        keys = applicant.keys
        row = (keys.device, applicant.microgrid, applicant.role, keys.address, keys.mask_public, keys.tls_key,
               applicant.public_key, applicant.since_s)  # fmt: skip
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def applicant(self, device: str) -> Applicant | None:
        return next(iter(self._applicants("WHERE name = ?", device)), None)

    def applicants(self) -> tuple[Applicant, ...]:
        """Devices that wait for approval, by name."""
        return self._applicants("ORDER BY name")

    def _applicants(self, which: str, *names: str) -> tuple[Applicant, ...]:
        columns = "name, address, mask_public, tls_key, microgrid, role, public_key, since_s"
        with self._lock:
            rows = self._db.execute(f"SELECT {columns} FROM requests {which}", names).fetchall()
        return tuple(Applicant(DeviceKeys(*row[:4]), *row[4:]) for row in rows)

    def admit(self, applicant: Applicant, certificate: IssuedCertificate, now_s: int) -> None:
        """The applicant is a device from now on, with this certificate."""
        keys = applicant.keys
        row = (keys.device, applicant.microgrid, applicant.role, keys.address, keys.mask_public, keys.tls_key,
               applicant.public_key, APPROVED, now_s)  # fmt: skip
        with self.transaction():
            self._db.execute("DELETE FROM requests WHERE name = ?", (keys.device,))
            self._db.execute("INSERT OR REPLACE INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            self.add_certificate(certificate)

    def device(self, name: str) -> EnrolledDevice | None:
        return next(iter(self._devices("WHERE name = ?", name)), None)

    def devices(self) -> tuple[EnrolledDevice, ...]:
        """Devices that are or were approved, by name."""
        return self._devices("ORDER BY name")

    def _devices(self, which: str, *names: str) -> tuple[EnrolledDevice, ...]:
        columns = "name, address, mask_public, tls_key, microgrid, role, public_key, state, since_s"
        with self._lock:
            rows = self._db.execute(f"SELECT {columns} FROM devices {which}", names).fetchall()
        return tuple(EnrolledDevice(DeviceKeys(*row[:4]), *row[4:]) for row in rows)

    def revoke(self, name: str, now_s: int) -> int:
        """The device, its request and invitation end now; how many certificates were revoked by it."""
        with self.transaction():
            self._db.execute("UPDATE devices SET state = ?, since_s = ? WHERE name = ?", (REVOKED, now_s, name))
            self._db.execute("DELETE FROM requests WHERE name = ?", (name,))
            self._db.execute("DELETE FROM invitations WHERE device = ?", (name,))
            return self.revoke_certificates(name, now_s)

    # Certificates

    def add_certificate(self, certificate: IssuedCertificate) -> None:
        row = (f"{certificate.serial:x}", certificate.device, certificate.tls_key, certificate.der, certificate.issued_s,
               certificate.expires_s)  # fmt: skip
        with self.transaction():
            self._db.execute(
                "INSERT INTO certificates (serial, device, tls_key, der, issued_s, expires_s) VALUES (?, ?, ?, ?, ?, ?)", row
            )

    def revoke_certificates(self, device: str, now_s: int) -> int:
        """All of a device's certificates; how many counted until now."""
        with self.transaction():
            sql = "UPDATE certificates SET revoked_s = ? WHERE device = ? AND revoked_s = 0"
            return self._db.execute(sql, (now_s, device)).rowcount

    def certificate(self, serial: int) -> IssuedCertificate | None:
        with self._lock:
            row = self._db.execute(f"{_CERTIFICATES} WHERE serial = ?", (f"{serial:x}",)).fetchone()
        return _certificate(row) if row else None

    def newest_certificate(self, device: str) -> IssuedCertificate | None:
        with self._lock:
            sql = f"{_CERTIFICATES} WHERE device = ? ORDER BY issued_s DESC, expires_s DESC LIMIT 1"
            row = self._db.execute(sql, (device,)).fetchone()
        return _certificate(row) if row else None

    def revoked(self, now_s: int) -> tuple[Revoked, ...]:
        """Revoked certificates that have not ended by themselves."""
        with self._lock:
            sql = "SELECT serial, revoked_s FROM certificates WHERE revoked_s > 0 AND expires_s > ? ORDER BY serial"
            return tuple(Revoked(int(serial, 16), at_s) for serial, at_s in self._db.execute(sql, (now_s,)).fetchall())


_INVITATIONS = (
    "SELECT id, device, microgrid, role, device_public, hub_mac, expires_s, tries, next_try_s, used_by FROM invitations"
)
_CERTIFICATES = "SELECT device, tls_key, serial, der, issued_s, expires_s, revoked_s FROM certificates"


def _invitation(row: tuple[Any, ...]) -> Invitation:
    name, device, microgrid, role, device_public, hub_mac, *others = row
    return Invitation(name, device, microgrid, role, CodeVerifier(device_public, hub_mac), *others)


def _certificate(row: tuple[Any, ...]) -> IssuedCertificate:
    device, tls_key, serial, *others = row
    return IssuedCertificate(device, tls_key, int(serial, 16), *others)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its other files the mode of this one
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")
    if version not in (0, SCHEMA_VERSION):
        db.close()
        raise sqlite3.DatabaseError(f"it has version {version}, and this program knows {SCHEMA_VERSION}")
    return db
