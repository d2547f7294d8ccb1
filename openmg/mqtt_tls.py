"""Mutual TLS of an MQTT connection: the three files, the context made of them, and what a refusal means in words.

Rules: TLS 1.3; the broker's certificate must come from `ca` and be for the host that is dialled. With TLS 1.3 a client is told
that its certificate is not taken only after its side of the handshake is done: connecting succeeds, then the connection ends.
OpenSSL's reason is all there is to explain it with; `explain` turns it into a sentence.
Not here: who issues certificates (`hub.devices`), their renewal (`edge_agent.certificates`).
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

MAX_DETAIL = 200
"""Characters of an unknown reason that are repeated."""
_REASONS = {
    "CERTIFICATE_REQUIRED": "wants a client certificate and got none; enrol this device, or name its files in [mqtt]",
    "CERTIFICATE_EXPIRED": "refused the client certificate because it has expired; renew it or enrol anew",
    "CERTIFICATE_REVOKED": "refused the client certificate because it was revoked; ask the operator",
    "UNKNOWN_CA": "refused the client certificate as of another authority; enrol at this broker's hub",
    "BAD_CERTIFICATE": "refused the client certificate; look at the clock here and there, or enrol anew",
    "CERTIFICATE_VERIFY_FAILED": "shows a certificate that ca_file does not vouch for; correct ca_file, url or the clock",
    "WRONG_VERSION_NUMBER": "does not speak TLS on this port; correct the url",
}


class TlsFilesError(Exception):
    """The files cannot be used; one sentence: which and what to do."""


class _ClosedOnFailure(ssl.SSLSocket):
    """A socket that is closed when its handshake fails: paho 2.1 forgets it then, once for each attempt of an outage."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


@dataclass(frozen=True)
class TlsFiles:
    """The authority's certificate, and a client's certificate with its key (0600), all PEM."""

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """A context for connections to a broker. Raises TlsFilesError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.sslsocket_class = _ClosedOnFailure
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Has the context's next connections use what the files hold now. Raises TlsFilesError."""
        path = self.ca
        try:
            context.load_verify_locations(self.ca)
            path = self.key
            if os.stat(path).st_mode & 0o077:
                raise TlsFilesError(f"TLS key {path} is open to other users; run chmod 600 on it")
            path = self.certificate
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except FileNotFoundError:
            raise TlsFilesError(f"{path} is missing; enrol this device, or correct [mqtt]") from None
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise TlsFilesError(f"{path} cannot be used for TLS ({reason}); correct [mqtt] or enrol anew") from error

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """Changes when a file is written or replaced."""
        found = []
        for path in (self.ca, self.certificate, self.key):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((status.st_mtime_ns, status.st_ino))
        return tuple(found)


def _no_password() -> str:
    """Called for an encrypted key; without it OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted")


def tls_files(tls: bool, ca: Path | None, certificate: Path | None, key: Path | None) -> TlsFiles | None:
    """The files of an [mqtt] section; ValueError when they do not go with the url. tls: whether it says mqtts."""
    named = {"ca_file": ca, "certificate_file": certificate, "key_file": key}
    if not tls:
        for name, path in named.items():
            if path is not None:
                raise ValueError(f"{name} is for TLS; write mqtts:// in url, or leave it out")
        return None
    if ca is None or certificate is None or key is None:
        missing = next(name for name, path in named.items() if path is None)
        raise ValueError(f"{missing} is missing; mqtts needs ca_file, certificate_file and key_file")
    return TlsFiles(ca, certificate, key)


def explain(detail: str) -> str | None:
    """What OpenSSL's text about a failed connection means for the reader; None when it is not about TLS."""
    for reason, sentence in _REASONS.items():
        if reason in detail:
            return sentence
    return f"ended the TLS connection ({detail[:MAX_DETAIL]})" if "SSL" in detail else None
