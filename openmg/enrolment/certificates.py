"""The form of the X.509 certificates of devices: what a request must hold, what an issued certificate must say.

| part | device | broker and enrolment server | authority |
|---|---|---|---|
| subject CN | the device's name | `openmg devices` | `openmg devices <hash of its key>` |
| subject alternative name | URI `openmg:device:<chain id>:0x<signing address>` | host names and addresses | none |
| key | P-256, made on the device | P-256 | P-256 |
| use | client | server | signs certificates and CRLs |

A broker takes the CN as user name, so a hub's own certificate is called `hub:<name>`, which no device can be.
A development authority says so in its subject; `is_development` is how everybody else refuses it.
Not here: keys and issuing (`hub.devices.authority`), files (`edge_agent.certificates`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HUB_PREFIX = "hub:"
DEVELOPMENT = "DEVELOPMENT, never for real meters"
"""Organisational unit of a development authority."""
RENEW_AT = (2, 3)
"""Part of a certificate's life after which it is renewed."""
SECONDS_PER_DAY = 86_400


class CertificateError(ValueError):
    """A request or certificate is not of the form that is used here; one sentence."""


@dataclass(frozen=True)
class Validity:
    """When a certificate holds, Unix seconds."""

    begins_s: int
    ends_s: int

    @property
    def renew_s(self) -> int:
        """When it is to be renewed."""
        return self.begins_s + (self.ends_s - self.begins_s) * RENEW_AT[0] // RENEW_AT[1]

    def days_left(self, now_s: float) -> int:
        """Whole days until it ends; below 0 when it has."""
        return int((self.ends_s - now_s) // SECONDS_PER_DAY)


def device_uri(chain_id: int, address: bytes) -> str:
    """How a certificate names the signing address that it was issued for."""
    return f"openmg:device:{chain_id}:0x{address.hex()}"


def key_hash(key: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).digest()


def make_csr(device: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#10 request, DER, signed by the device's TLS key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def read_csr(data: bytes, device: str) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a request for this device whose own signature holds. Raises CertificateError."""
    try:
        request = x509.load_der_x509_csr(data)
        key, valid = request.public_key(), request.is_signature_valid
        subject = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise CertificateError("the certificate request cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1) or not valid:
        raise CertificateError("the certificate request is not signed by a P-256 key of its own")
    if [part.value for part in subject] != [device]:
        raise CertificateError(f"the certificate request is not for {device}")
    return key


def load_certificate(data: bytes) -> x509.Certificate:
    """The certificate in DER or PEM bytes. Raises CertificateError."""
    try:
        pem = data.lstrip().startswith(b"-----BEGIN")
        return x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise CertificateError("this is no certificate that can be read") from error


def validity(certificate: x509.Certificate) -> Validity:
    """Its times."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Validity(int(begins.timestamp()), int(ends.timestamp()))


def is_development(certificate: x509.Certificate) -> bool:
    """Whether the authority, or the one that issued the certificate, is for development only."""
    names = (certificate.subject, certificate.issuer)
    units = [part.value for name in names for part in name.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    return DEVELOPMENT in units


def require_issued(data: bytes, authority: x509.Certificate, device: str, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
    """The certificate that the authority issued to this device and key. Raises CertificateError when it is another."""
    certificate = load_certificate(data)
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateError("the certificate was not issued by the authority that the hub named") from error
    names = [part.value for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    issued_key = certificate.public_key()
    if names != [device] or not isinstance(issued_key, ec.EllipticCurvePublicKey) or key_hash(issued_key) != key_hash(key):
        raise CertificateError("the certificate is for another device or another key")
    return certificate
