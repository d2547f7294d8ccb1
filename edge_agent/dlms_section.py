"""The section [meter.dlms] of an agent's file: addresses, authentication and OBIS codes of a DLMS/COSEM meter.

Rules: secrets are in files of mode 0600 and never in the configuration; what an authentication does not use must not be
given. Codes that the owner leaves out are those of the blue book (total active energy and power, both directions), and an
empty code says that the meter has no such register. Not here: reading (`edge_agent.dlms`), host and port (`meter_section`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

from openmg.keys.passphrase import KeyFileError, read_private_text

AUTHENTICATIONS = ("none", "low", "hls_gmac")
WRAPPER, HDLC = "wrapper", "hdlc"
FRAMINGS = (WRAPPER, HDLC)
KEY_BYTES = 16
"""AES-128, security suite 0."""
TITLE_BYTES = 8
MAX_PASSWORD_BYTES = 64
MAX_ADDRESS = 0xFFFF
"""A port of the wrapper."""
MAX_HDLC_CLIENT, MAX_SHORT_PART, MAX_LONG_PART = 0x7E, 0x7E, 0x3FFE
"""Addresses of HDLC in one byte (7 bits) and in two (14); one above each is everybody's."""
INFORMATION_BYTES = range(32, 2031)
"""Of an HDLC frame that meters can agree to: as the standard has the least, and less what a frame of 2047 has around it."""
WINDOWS = range(1, 8)
MAX_COUNTER = 2**32 - 1
Obis = tuple[int, ...]
_OF_HDLC = ("physical", "address_bytes", "information_bytes", "window")
_OBIS = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})")
_FILES = {"none": (), "low": ("password_file",), "hls_gmac": ("encryption_key_file", "authentication_key_file")}


@dataclass(frozen=True)
class DlmsSection:
    """How the association is made and which registers are read.

    framing: wrapper (TCP) or hdlc. client, server: ports of the wrapper, or HDLC's addresses of the client and of the logical
    device; physical: the meter's own on its line; address_bytes: of both together, by default the fewest that hold them.
    information_bytes, window: the longest information field, and the meter's frames at once, that HDLC offers.
    system_title: the client's, 16 hex digits, for hls_gmac; no two clients of a meter share one. first_counter: below it no
    invocation counter is used. net_power: a signed register in place of both powers.
    """

    framing: str = WRAPPER
    client: int = 16
    server: int = 1
    physical: int | None = None
    address_bytes: int | None = None
    information_bytes: int = 128
    window: int = 1
    authentication: str = "none"
    password_file: Path | None = None
    encryption_key_file: Path | None = None
    authentication_key_file: Path | None = None
    system_title: str = ""
    first_counter: int = 1
    import_energy: str = "1.0.1.8.0.255"
    export_energy: str = "1.0.2.8.0.255"
    import_power: str = "1.0.1.7.0.255"
    export_power: str = "1.0.2.7.0.255"
    net_power: str = ""

    def __post_init__(self) -> None:
        if self.framing not in FRAMINGS:
            raise ValueError(f"framing is {self.framing!r}; use one of {', '.join(FRAMINGS)}")
        if self.framing == HDLC:
            self._check_hdlc()
        else:
            self._check_wrapper()
        if self.authentication not in AUTHENTICATIONS:
            raise ValueError(f"authentication is {self.authentication!r}; use one of {', '.join(AUTHENTICATIONS)}")
        self._check_secrets()
        for key in ("import_energy", "export_energy", "import_power", "export_power", "net_power"):
            if getattr(self, key):
                obis(key, getattr(self, key))
        if not self.import_energy:
            raise ValueError("import_energy is empty; a home's meter has that counter")
        if not self.import_power and not self.net_power:
            raise ValueError("import_power is empty; give it, or net_power")

    @property
    def is_protected(self) -> bool:
        """Whether each request takes a number of its own under a key."""
        return self.authentication == "hls_gmac"

    @property
    def address(self) -> str:
        """The meter's address, for people."""
        return str(self.server) if self.physical is None else f"{self.server}/{self.physical}"

    @property
    def address_size(self) -> int:
        """Bytes of the meter's HDLC address."""
        if self.address_bytes is not None:
            return self.address_bytes
        if self.physical is None:
            return 1
        return 2 if max(self.server, self.physical) <= MAX_SHORT_PART else 4

    def _check_wrapper(self) -> None:
        _require_in("client", self.client, range(1, MAX_ADDRESS + 1))
        _require_in("server", self.server, range(1, MAX_ADDRESS + 1))
        for field in fields(self):
            if field.name in _OF_HDLC and getattr(self, field.name) != field.default:
                raise ValueError(f'{field.name} is for `framing = "hdlc"`; write that, or remove {field.name}')

    def _check_hdlc(self) -> None:
        if self.address_bytes not in (None, 1, 2, 4):
            raise ValueError(f"address_bytes is {self.address_bytes}; it must be 1, 2 or 4")
        if self.physical is None and self.address_size != 1:
            raise ValueError(f"physical is missing; an address of {self.address_size} bytes has the meter's own")
        if self.physical is not None and self.address_size == 1:
            raise ValueError("physical has no room in an address of 1 byte; write address_bytes = 2 or 4, or remove physical")
        highest = MAX_LONG_PART if self.address_size == 4 else MAX_SHORT_PART
        _require_in("client", self.client, range(1, MAX_HDLC_CLIENT + 1))
        _require_in("server", self.server, range(1, highest + 1))
        _require_in("physical", self.physical or 0, range(highest + 1))
        _require_in("information_bytes", self.information_bytes, INFORMATION_BYTES)
        _require_in("window", self.window, WINDOWS)

    def _check_secrets(self) -> None:
        wanted = _FILES[self.authentication]
        for key in ("password_file", "encryption_key_file", "authentication_key_file"):
            given = getattr(self, key) is not None
            if given != (key in wanted):
                what = "is missing" if not given else "is not used"
                raise ValueError(f"{key} {what} with authentication {self.authentication!r}; mend one of them")
        if self.password_file is not None:
            self.password()
        if self.is_protected:
            self.keys()
            hexadecimal("system_title", self.system_title, TITLE_BYTES)
        elif self.system_title:
            raise ValueError("system_title is for authentication 'hls_gmac'; remove it")
        if not 0 <= self.first_counter < MAX_COUNTER:
            raise ValueError(f"first_counter is {self.first_counter}; it must be 0 to {MAX_COUNTER - 1}")

    def password(self) -> bytes:
        """The password of authentication low; ValueError when its file cannot be used."""
        assert self.password_file is not None
        secret = _private("password_file", self.password_file).encode()
        if not 1 <= len(secret) <= MAX_PASSWORD_BYTES:
            raise ValueError(
                f"password_file {self.password_file} holds no password of 1 to {MAX_PASSWORD_BYTES} bytes; mend it"
            )
        return secret

    def keys(self) -> tuple[bytes, bytes]:
        """Global unicast encryption key and authentication key of hls_gmac; ValueError when a file cannot be used."""
        assert self.encryption_key_file is not None and self.authentication_key_file is not None
        return (
            _key("encryption_key_file", self.encryption_key_file),
            _key("authentication_key_file", self.authentication_key_file),
        )


def _require_in(key: str, value: int, allowed: range) -> None:
    if value not in allowed:
        raise ValueError(f"{key} is {value}; it must be {allowed[0]} to {allowed[-1]}")


def obis(key: str, text: str) -> Obis:
    """The six numbers of a code written as A.B.C.D.E.F; ValueError."""
    match = _OBIS.fullmatch(text)
    numbers = tuple(int(part) for part in match.groups()) if match else ()
    if not numbers or max(numbers) > 255:
        raise ValueError(f"{key} is {text!r}; write six numbers of 0 to 255, such as 1.0.1.8.0.255")
    return numbers


def hexadecimal(key: str, text: str, size: int) -> bytes:
    """So many bytes from their hex digits; ValueError, which does not repeat the text."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size:
        raise ValueError(f"{key} must be {2 * size} hexadecimal digits")
    return value


def _key(key: str, path: Path) -> bytes:
    return hexadecimal(f"{key} {path}", _private(key, path), KEY_BYTES)


def _private(key: str, path: Path) -> str:
    try:
        return read_private_text(path).strip("\r\n")
    except KeyFileError as error:
        raise ValueError(f"{key}: {error}") from error
