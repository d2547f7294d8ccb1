"""TLS keys and self-signed certificates (P-256, X.509). The certificate says nothing but its times: whose it is says the
card that carries it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from hub.ppdl.net.cards import certificate_name

CLOCK_SKEW = timedelta(days=1)
"""A certificate holds from a day before it was made: a peer whose clock is behind takes it at once."""


@dataclass(frozen=True)
class Certificate:
    """A new key and its certificate."""

    key_pem: bytes = field(repr=False)
    pem: bytes
    der: bytes


def make_certificate(issued_s: int, expires_s: int) -> Certificate:
    """A fresh key and a certificate for it, for either end of a connection."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    subject = certificate_name(public)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(issued_s, UTC) - CLOCK_SKEW)
        .not_valid_after(datetime.fromtimestamp(expires_s, UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    encoding = serialization.Encoding
    return Certificate(private, certificate.public_bytes(encoding.PEM), certificate.public_bytes(encoding.DER))
