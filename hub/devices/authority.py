"""The authority that signs devices' certificates: P-256, made from 32 secret bytes in a key file like all others.

Rules: it issues three kinds of certificate (device, server, hub) and the list of revoked ones, and signs nothing else; a
certificate holds from a day before it was made, for devices whose clock is behind. A development authority says so in its
name, and agents and hubs outside demo mode refuse it. Pure but for the files of `create` and `open`.
Not here: who gets a certificate (`hub.devices.desk`), what is kept (`hub.devices.store`).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub.devices.folder import DevicesFolder
from hub.operators.certificates import CLOCK_SKEW
from hub.operators.errors import OperatorError
from hub.operators.folder import write_public
from openmg.enrolment.certificates import DEVELOPMENT, HUB_PREFIX, device_uri, is_development, key_hash, load_certificate
from openmg.kdf import hkdf
from openmg.keys.files import load_key, load_or_create_key, write_new_private
from openmg.keys.passphrase import Passphrases

DEVICE_DAYS = 90
SERVER_DAYS = 730
"""Of broker, enrolment server and the hub's own access; `devices broker-config` makes them anew."""
AUTHORITY_DAYS = 3_650
CRL_DAYS = 400
"""A broker refuses everybody once its list is this old. The list is written anew with each revocation and by each start of the
enrolment server, and once a day while that runs."""
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_EXTRA_BYTES = 16
"""More than the key has, so that the reduction's bias is negligible."""


@dataclass(frozen=True)
class Revoked:
    """A certificate that no longer counts: serial number, and when it was revoked (Unix s)."""

    serial: int
    at_s: int


@dataclass(frozen=True)
class IssuedPair:
    """A new key and its certificate, both PEM."""

    key_pem: bytes = field(repr=False)
    certificate_pem: bytes


@dataclass(frozen=True)
class Authority:
    """The authority's certificate, and its secret where something is to be signed (OperatorError without it)."""

    certificate: x509.Certificate
    secret: bytes | None = field(default=None, repr=False)

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        if self.secret is None:
            raise OperatorError("the authority's key was not opened for this command")
        return _signing_key(self.secret)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def development(self) -> bool:
        """Whether it is for development only."""
        return is_development(self.certificate)

    def issue_device(
        self, device: str, address: bytes, chain_id: int, key: ec.EllipticCurvePublicKey, now_s: int, days: int = DEVICE_DAYS
    ) -> x509.Certificate:
        """A device's certificate; `address` is that of its signing key."""
        name = x509.UniformResourceIdentifier(device_uri(chain_id, address))
        return self._issue(device, [name], [ExtendedKeyUsageOID.CLIENT_AUTH], key, now_s, days)

    def issue_server(self, hosts: Sequence[str], now_s: int, days: int = SERVER_DAYS) -> IssuedPair:
        """A key and certificate of a server that is reached under these host names and addresses."""
        names = [_host_name(host) for host in hosts]
        return self._issue_pair("openmg devices", names, ExtendedKeyUsageOID.SERVER_AUTH, now_s, days)

    def issue_hub(self, hub: str, now_s: int, days: int = SERVER_DAYS) -> IssuedPair:
        """A key and certificate with which a hub is the broker's client."""
        return self._issue_pair(HUB_PREFIX + hub, [], ExtendedKeyUsageOID.CLIENT_AUTH, now_s, days)

    def revocation_list(self, revoked: Iterable[Revoked], now_s: int) -> bytes:
        """The list of revoked certificates, PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(_time(now_s) - CLOCK_SKEW)
            .next_update(_time(now_s) + timedelta(days=CRL_DAYS))
            .add_extension(x509.CRLNumber(now_s), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for item in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(item.serial).revocation_date(_time(item.at_s))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _issue_pair(
        self, name: str, alternatives: list[x509.GeneralName], usage: x509.ObjectIdentifier, now_s: int, days: int
    ) -> IssuedPair:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(name, alternatives, [usage], key.public_key(), now_s, days)
        form, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
        return IssuedPair(
            key.private_bytes(encoding, form, serialization.NoEncryption()),
            certificate.public_bytes(encoding) + self.certificate.public_bytes(encoding),
        )

    def _issue(
        self,
        name: str,
        alternatives: list[x509.GeneralName],
        usages: list[x509.ObjectIdentifier],
        key: ec.EllipticCurvePublicKey,
        now_s: int,
        days: int,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_time(now_s) - CLOCK_SKEW)
            .not_valid_after(_time(now_s) + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def create_authority(folder: DevicesFolder, passphrases: Passphrases, development: bool, now_s: int) -> Authority:
    """A new authority in the folder. Raises OperatorError when there is one, KeyFileError for its key file."""
    if folder.authority_certificate.exists():
        raise OperatorError(f"{folder.authority_certificate} exists: these devices have an authority; give another --devices")
    try:
        folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OperatorError(f"{folder.root} cannot be made ({error.strerror}): give another --devices") from error
    secret = load_or_create_key(folder.authority_key, passphrases)
    authority = Authority(_self_signed(secret, development, now_s), secret)
    write_public(folder.authority_certificate, authority.certificate.public_bytes(serialization.Encoding.PEM))
    return authority


def open_authority(folder: DevicesFolder, passphrases: Passphrases, demo: bool) -> Authority:
    """The authority of the folder. Raises OperatorError when there is none, or it is for development and this is no demo."""
    certificate = read_authority(folder).certificate
    if is_development(certificate) and not demo:
        raise OperatorError(
            f"{folder.authority_certificate} is a development authority, which only a demo may use: make another with"
            " openmg-hub devices init"
        )
    secret = load_key(folder.authority_key, passphrases)
    issued_for = certificate.public_key()
    own = _signing_key(secret).public_key()
    if not isinstance(issued_for, ec.EllipticCurvePublicKey) or key_hash(issued_for) != key_hash(own):
        raise OperatorError(
            f"{folder.authority_key} is not the key of {folder.authority_certificate}: restore the two together"
        )
    return Authority(certificate, secret)


def read_authority(folder: DevicesFolder) -> Authority:
    """The authority without its secret, which can sign nothing. Raises OperatorError."""
    path = folder.authority_certificate
    try:
        return Authority(load_certificate(path.read_bytes()))
    except FileNotFoundError:
        raise OperatorError(f"{path} is missing: run openmg-hub devices init first, or give --devices") from None
    except OSError as error:
        raise OperatorError(f"{path} cannot be read ({error.strerror}): check its owner") from error
    except ValueError as error:
        raise OperatorError(f"{path}: {error}: restore it from backup") from error


def write_server_pair(pair: IssuedPair, key: Path, certificate: Path) -> None:
    """Put a server's or hub's new key and certificate in place of the old ones. Raises OperatorError."""
    try:
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        key.unlink(missing_ok=True)
        write_new_private(key, pair.key_pem)
    except OSError as error:
        raise OperatorError(f"{key} cannot be made ({error.strerror}): check the folder and free space") from error
    write_public(certificate, pair.certificate_pem)


def _signing_key(secret: bytes) -> ec.EllipticCurvePrivateKey:
    wide = int.from_bytes(hkdf(secret, "devices/authority", len(secret) + _EXTRA_BYTES), "big")
    return ec.derive_private_key(wide % (_P256_ORDER - 1) + 1, ec.SECP256R1())


def _self_signed(secret: bytes, development: bool, now_s: int) -> x509.Certificate:
    key = _signing_key(secret)
    public = key.public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, "openmg devices " + hashlib.sha256(spki).hexdigest()[:16])]
    if development:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, DEVELOPMENT))
    subject = x509.Name(parts)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now_s) - CLOCK_SKEW)
        .not_valid_after(_time(now_s) + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
