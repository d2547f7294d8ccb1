"""The one-time code that an operator hands to whoever installs a device, and what both sides derive from it.

    K7QM-2XTA-93FD-....   24 characters of Crockford's base 32 (I and L read as 1, O as 0; case and dashes do not matter):
                          4 name the invitation, 17 are secret (85 bits), 3 (15 bits) show a typing error before anything
                          is sent

From the secret comes, by scrypt and HKDF, an Ed25519 key that the device signs with and a MAC key that the hub proves itself
with. The hub keeps the public key and the MAC key alone: who reads its database can enrol no device.
Rules: a code is never logged, printed by the device, or in an argument; `repr` shows the invitation only.
Not here: where codes are kept (`hub.devices.store`), what is signed (`openmg.enrolment.transcript`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from openmg.crockford import ALPHABET, BITS_PER_CHARACTER, GROUP, characters, grouped, typed
from openmg.kdf import KEY_BYTES, hkdf

INVITATION_CHARACTERS, SECRET_CHARACTERS, CHECK_CHARACTERS = 4, 17, 3
CHARACTERS = INVITATION_CHARACTERS + SECRET_CHARACTERS + CHECK_CHARACTERS
RANDOM_BITS = BITS_PER_CHARACTER * (INVITATION_CHARACTERS + SECRET_CHARACTERS)
SECRET_BITS = BITS_PER_CHARACTER * SECRET_CHARACTERS
MAX_TEXT = 128
"""Characters of a code file that are looked at."""
SCRYPT_LOG2_N, SCRYPT_R, SCRYPT_P = 14, 8, 1
"""16 MiB, which every board has, once in a device's life; each guess of who recorded an enrolment costs as much."""


class CodeError(ValueError):
    """The text is no enrolment code; the error repeats nothing of it."""


@dataclass(frozen=True)
class CodeVerifier:
    """What the hub keeps of a code: the device's one-time public key (Ed25519), and the key of the hub's own proof."""

    device_public: bytes
    hub_mac: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.device_public) != KEY_BYTES or len(self.hub_mac) != KEY_BYTES:
            raise ValueError(f"a code's verifier is two keys of {KEY_BYTES} bytes")


@dataclass(frozen=True)
class CodeKeys:
    """What the device derives from a code."""

    device_key: Ed25519PrivateKey = field(repr=False)
    hub_mac: bytes = field(repr=False)

    @property
    def verifier(self) -> CodeVerifier:
        return CodeVerifier(self.device_key.public_key().public_bytes_raw(), self.hub_mac)


@dataclass(frozen=True)
class EnrolmentCode:
    """A code in its parts; both hold characters of ALPHABET."""

    invitation: str
    secret: str = field(repr=False)

    @staticmethod
    def from_random(number: int) -> EnrolmentCode:
        """The code of RANDOM_BITS random bits. Raises ValueError when there are more."""
        if not 0 <= number < 1 << RANDOM_BITS:
            raise ValueError(f"a code is made of {RANDOM_BITS} bits")
        text = characters(number, INVITATION_CHARACTERS + SECRET_CHARACTERS)
        return EnrolmentCode(text[:INVITATION_CHARACTERS], text[INVITATION_CHARACTERS:])

    @staticmethod
    def parse(text: str) -> EnrolmentCode:
        """The code in the text, as people write it. Raises CodeError."""
        if len(text) > MAX_TEXT:
            raise CodeError("the text is longer than an enrolment code; give the code alone")
        plain = typed(text)
        if len(plain) != CHARACTERS or any(character not in ALPHABET for character in plain):
            raise CodeError(f"this is no enrolment code: one has {CHARACTERS} letters and digits in groups of {GROUP}")
        code = EnrolmentCode(plain[:INVITATION_CHARACTERS], plain[INVITATION_CHARACTERS:-CHECK_CHARACTERS])
        if code._check() != plain[-CHECK_CHARACTERS:]:
            raise CodeError("the enrolment code has a typing error: compare it with what the operator gave you")
        return code

    def text(self) -> str:
        """The code as the operator hands it over. Secret."""
        return grouped(self.invitation + self.secret + self._check())

    def keys(self) -> CodeKeys:
        """What both sides prove themselves with; takes 16 MiB and some 0.05 s."""
        salt = b"openmg.enrol.code.v1:" + self.invitation.encode("ascii")
        kdf = Scrypt(salt=salt, length=KEY_BYTES, n=1 << SCRYPT_LOG2_N, r=SCRYPT_R, p=SCRYPT_P)
        root = kdf.derive(self.secret.encode("ascii"))
        return CodeKeys(Ed25519PrivateKey.from_private_bytes(hkdf(root, "enrol/device")), hkdf(root, "enrol/hub"))

    def _check(self) -> str:
        digest = hashlib.sha256(b"openmg.enrol.check:" + (self.invitation + self.secret).encode("ascii")).digest()
        return characters(int.from_bytes(digest, "big") >> 256 - BITS_PER_CHARACTER * CHECK_CHARACTERS, CHECK_CHARACTERS)


def is_invitation(text: str) -> bool:
    """Whether the text can name an invitation."""
    return len(text) == INVITATION_CHARACTERS and all(character in ALPHABET for character in text)
