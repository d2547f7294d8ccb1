"""The device's side of enrolment and renewal: what it says to the hub's enrolment server, and the files that come of it.

Enrolment: the TLS key is made here and never leaves; the server's certificate is not checked by TLS but by the code (the hub
proves that it knows the code on this very connection) before the device says who it is. Renewal: mutual TLS, both checked.
Rules: nothing is written before it was verified, and the certificate last, so that an interruption leaves an enrolment that the
same command finishes. Neither code nor keys are logged.
Not here: the command (`edge_agent.enrol_tool`), proofs (`openmg.enrolment.transcript`), the running agent (`certificates`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from openmg.durable import replace_durably
from openmg.enrolment import transcript as proofs
from openmg.enrolment.certificates import (
    CertificateError,
    is_development,
    key_hash,
    load_certificate,
    make_csr,
    require_issued,
)
from openmg.enrolment.code import EnrolmentCode
from openmg.enrolment.messages import (
    ISSUED,
    MAX_FRAME_BYTES,
    REFUSED,
    Answer,
    Challenge,
    Frame,
    Hello,
    Membership,
    Renewal,
    decode_frame,
    encode_frame,
)
from openmg.identity import DeviceKey
from openmg.keys.files import write_new_private
from openmg.messages.base import InvalidMessage
from openmg.mqtt_tls import TlsFiles, TlsFilesError

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 20.0
MAX_KEY_FILE_BYTES = 4096
_LENGTH_BYTES = 4


class EnrolError(Exception):
    """The device cannot be enrolled or its certificate not renewed; one sentence.

    wait_s: when it may be tried again; 0: not before somebody has done what the sentence says.
    """

    def __init__(self, text: str, wait_s: int = 0) -> None:
        super().__init__(text)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Expected:
    """What the configuration says already; None: nothing yet. demo: whether a development authority may be taken."""

    operator: bytes | None = None
    chain_id: int | None = None
    demo: bool = False


@dataclass(frozen=True)
class Attempt:
    """What one attempt brought: whom the hub wants to be believed, the fingerprint, and once there is one the certificate, with
    where the device belongs."""

    operator: bytes
    chain_id: int
    authority: bytes
    fingerprint: str
    certificate: bytes | None
    membership: Membership | None = None


def split_place(text: str) -> tuple[str, int]:
    """`host:port`; EnrolError when it is not one."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise EnrolError(f"{text!r} is not host:port of a hub's enrolment server")
    return host.strip("[]"), int(port)


def load_or_make_tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key of the file, made (0600) when missing. Raises EnrolError."""
    try:
        if not path.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            form, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                write_new_private(path, made.private_bytes(encoding, form, serialization.NoEncryption()))
        with path.open("rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise EnrolError(f"TLS key {path} cannot be made or read ({error.strerror}): check folder and owner") from error
    if mode & 0o077:
        raise EnrolError(f"TLS key {path} is open to other users: run chmod 600 on it, or move it away for a new one")
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EnrolError(f"{path} is no P-256 key in clear: move it away, and a new one is made")
    return key


def attempt(
    place: str, code: EnrolmentCode, name: str, device: DeviceKey, tls_key: ec.EllipticCurvePrivateKey, expected: Expected
) -> Attempt:
    """Ask the hub once to enrol this device. Raises EnrolError: refused, not the hub of this code, or not reached."""
    keys = code.keys()
    with _connection(place, _unchecked()) as connection:
        hello = Hello(code.invitation, secrets.token_bytes(32))
        challenge = _say(connection, hello)
        if isinstance(challenge, Answer):
            raise EnrolError(challenge.text, challenge.wait_s)
        if not isinstance(challenge, Challenge):
            raise EnrolError(f"{place} does not answer as an enrolment server: correct --hub")
        said = proofs.transcript(hello, challenge, connection.getpeercert(binary_form=True) or b"")
        try:
            proofs.check_hub(keys, challenge, said)
            _require_expected(challenge, expected)
            own = proofs.DeviceKeys(name, device.address, device.mask_public, key_hash(tls_key.public_key()))
            csr = make_csr(name, tls_key)
            request = proofs.make_request(keys, csr, own, device.signing_key, device.mask_key, challenge, said)
            answer = _answer(_say(connection, request), place)
            membership = proofs.open_membership(keys, answer, said) if answer.outcome == ISSUED else None
        except proofs.ProofError as error:
            raise EnrolError(str(error)) from error
    fingerprint = proofs.fingerprint(own, challenge.authority, challenge.chain_id)
    issued = None
    if answer.outcome == ISSUED:
        issued = _issued(answer.certificate, challenge.authority, name, tls_key.public_key())
    return Attempt(challenge.operator, challenge.chain_id, challenge.authority, fingerprint, issued, membership)


def save(done: Attempt, files: TlsFiles) -> None:
    """Put the authority's and then the device's certificate in place. Raises EnrolError."""
    assert done.certificate is not None
    try:
        replace_durably(files.ca, _pem(done.authority), mode=0o644)
        replace_durably(files.certificate, _pem(done.certificate), mode=0o644)
    except OSError as error:
        raise EnrolError(f"the certificate cannot be written ({error.strerror}): check {files.certificate.parent}") from error


def renew(files: TlsFiles, name: str, place: str) -> None:
    """Replace the certificate by a new one for the same key, over the one that still holds. Raises EnrolError."""
    key = load_or_make_tls_key(files.key)
    try:
        context, authority = files.context(), files.ca.read_bytes()
    except (TlsFilesError, OSError) as error:
        raise EnrolError(str(error)) from error
    with _connection(place, context) as connection:
        answer = _answer(_say(connection, Renewal(make_csr(name, key))), place)
    if answer.outcome != ISSUED:
        raise EnrolError(f"{place} did not renew it: {answer.text}")
    certificate = _issued(answer.certificate, authority, name, key.public_key())
    try:
        replace_durably(files.certificate, _pem(certificate), mode=0o644)
    except OSError as error:
        raise EnrolError(f"{files.certificate} cannot be written ({error.strerror}): check folder and free space") from error


def _require_expected(challenge: Challenge, expected: Expected) -> None:
    """The hub is the one of the code; it must be the one of the configuration, too. Raises EnrolError."""
    try:
        development = is_development(load_certificate(challenge.authority))
    except CertificateError as error:
        raise EnrolError(f"the hub's authority: {error}") from error
    if development and not expected.demo:
        raise EnrolError("this hub has a development authority, which only a demo may use: enrol at a real hub, or add --demo")
    if expected.operator not in (None, challenge.operator) or expected.chain_id not in (None, challenge.chain_id):
        raise EnrolError(
            f"the hub's operator is 0x{challenge.operator.hex()} on chain {challenge.chain_id}, and [hub] of the configuration"
            " names another: correct one of them"
        )


def _issued(certificate: bytes, authority: bytes, name: str, key: ec.EllipticCurvePublicKey) -> bytes:
    try:
        found = require_issued(certificate, load_certificate(authority), name, key)
    except CertificateError as error:
        raise EnrolError(f"the hub's answer cannot be used: {error}") from error
    return found.public_bytes(serialization.Encoding.DER)


def _answer(frame: Frame, place: str) -> Answer:
    if not isinstance(frame, Answer):
        raise EnrolError(f"{place} does not answer as an enrolment server: correct the place")
    if frame.outcome == REFUSED:
        raise EnrolError(frame.text, frame.wait_s)
    return frame


def _pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode("ascii")


def _unchecked() -> ssl.SSLContext:
    """TLS that leaves the server's certificate to be checked by the code."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.contextmanager
def _connection(place: str, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """A TLS connection; whatever goes wrong with it is an EnrolError."""
    host, port = split_place(place)
    try:
        with (
            socket.create_connection((host, port), CONNECT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.settimeout(ANSWER_SECONDS)
            yield connection
    except ssl.SSLError as error:
        raise EnrolError(f"TLS with {place} failed ({error.reason or error}): look at place, clock and certificate") from error
    except (OSError, EOFError) as error:
        why = getattr(error, "strerror", None) or "it hung up"
        raise EnrolError(f"{place} cannot be reached ({why}): start its enrolment server or correct the place", 5) from error
    except InvalidMessage as error:
        raise EnrolError(f"{place} does not answer as an enrolment server ({error}): correct the place") from error


def _say(connection: ssl.SSLSocket, message: Frame) -> Frame:
    data = encode_frame(message)
    connection.sendall(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    size = int.from_bytes(_receive(connection, _LENGTH_BYTES), "big")
    if not 0 < size <= MAX_FRAME_BYTES:
        raise InvalidMessage("a frame of an impossible length")
    return decode_frame(_receive(connection, size))


def _receive(connection: ssl.SSLSocket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
