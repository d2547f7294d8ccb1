"""The page's own certificate: made on the meter, known by its fingerprint, which the owner compares once in the browser.

Rules: the key never leaves the page's folder and is mode 0600. Browsers take no certificate for more than 825 days, so one is
made anew when its end is near; its fingerprint is then another one, and is said. An owner's own files are used as they are.
Not here: the hub's certificates (`edge_agent.certificates`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge_agent.config import PageSection
from edge_agent.page.served import Served
from openmg.durable import replace_durably

LIFE_DAYS = 800
RENEW_DAYS = 30
CLOCK_SLACK_DAYS = 1
"""A browser's clock may be behind the meter's."""


class CertificateFileError(Exception):
    """The certificate cannot be used: one sentence."""


def files(served: Served) -> tuple[Path, Path]:
    """Certificate and key: the owner's, or the page's own, whether they exist or not."""
    section = served.section
    if section.certificate_file is not None and section.key_file is not None:
        return section.certificate_file, section.key_file
    return served.folder / "page.crt", served.folder / "page.key"


def tls_context(served: Served) -> ssl.SSLContext | None:
    """What to serve with; None without TLS. Makes the page's own certificate when there is none that lasts."""
    section = served.section
    if not section.tls:
        return None
    certificate, key = files(served)
    if section.certificate_file is None and not _lasts(certificate, key):
        _make(certificate, key, section)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateFileError(f"page: {certificate} and {key} cannot be used ({error}); check [page]") from error
    return context


def fingerprint(certificate: Path) -> str:
    """SHA-256 of a PEM file's first certificate, as browsers show it. Raises CertificateFileError."""
    try:
        text = certificate.read_text(encoding="ascii")
        end = "-----END CERTIFICATE-----"
        der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN") : text.index(end) + len(end)])
    except (OSError, ValueError) as error:
        raise CertificateFileError(
            f"page: {certificate} is no certificate ({error}); start the page with tls = true"
        ) from error
    digest = hashlib.sha256(der).hexdigest().upper()
    return ":".join(digest[start : start + 2] for start in range(0, len(digest), 2))


def _lasts(certificate: Path, key: Path) -> bool:
    """Whether both files are there and the certificate has some time to go."""
    if not certificate.exists() or not key.exists():
        return False
    from cryptography import x509

    try:
        ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return False
    return ends > datetime.now(UTC) + timedelta(RENEW_DAYS)


def _make(certificate: Path, key: Path, section: PageSection) -> None:
    """A self-signed certificate of an ECDSA key on P-256, for the address, localhost and the owner's names."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Open MG page")])
    names: list[x509.GeneralName] = [x509.DNSName(item) for item in ("localhost", *section.names)]
    names += [x509.IPAddress(ipaddress.ip_address(item)) for item in dict.fromkeys(("127.0.0.1", section.listen))]
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(CLOCK_SLACK_DAYS))
        .not_valid_after(now + timedelta(LIFE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    secret = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    try:
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_durably(key, secret)
        replace_durably(certificate, built.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise CertificateFileError(f"page: {key.parent} takes no certificate ({error.strerror}); check its owner") from error
