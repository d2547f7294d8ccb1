"""The device key: made on the meter, kept there, and split by HKDF labels (RFC 5869).

Rules: a device key signs telemetry and updates, and never money; the owner's seed signs money, and never telemetry.
Each use has its own label, so that one derived key says nothing of another.
Not here: the derivation itself (`openmg.kdf`), the owner's keys (`edge_agent.wallet.keys`), key files (`openmg.keys.files`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from openmg.kdf import KEY_BYTES as KEY_BYTES
from openmg.kdf import hkdf as hkdf
from openmg.keys.files import load_or_create_key as load_or_create_key
from openmg.keys.passphrase import KeyFileError as KeyFileError
from openmg.signing import SECP256K1_ORDER, address_of
from openmg.zk.field import reduce_wide


def signing_key(root: bytes, label: str) -> bytes:
    """A secp256k1 private key for the label; 16 extra bytes make the reduction's bias negligible."""
    wide = int.from_bytes(hkdf(root, label, KEY_BYTES + 16), "big")
    return (wide % (SECP256K1_ORDER - 1) + 1).to_bytes(KEY_BYTES, "big")


@dataclass(frozen=True)
class DeviceKey:
    """A meter's root secret and what is derived from it."""

    root: bytes

    def __post_init__(self) -> None:
        if len(self.root) != KEY_BYTES:
            raise KeyFileError(f"a device key has {KEY_BYTES} bytes, not {len(self.root)}; make a new one")

    def __repr__(self) -> str:
        return f"DeviceKey(0x{self.address.hex()})"

    @cached_property
    def signing_key(self) -> bytes:
        """secp256k1 key for telemetry, updates and meter statements."""
        return signing_key(self.root, "device/sign")

    @cached_property
    def address(self) -> bytes:
        """20 bytes that name the device in rosters, on the PPDL chain and in the meter registry."""
        return address_of(self.signing_key)

    @cached_property
    def mask_key(self) -> X25519PrivateKey:
        """X25519 key with which pairwise masks are agreed."""
        return X25519PrivateKey.from_private_bytes(hkdf(self.root, "device/mask"))

    @cached_property
    def self_mask_secret(self) -> bytes:
        """32 bytes from which the self masks of slots come (`openmg.masking.masks`)."""
        return hkdf(self.root, "device/self-mask")

    @cached_property
    def meter_secret(self) -> int:
        """mk, the field element from which the meter's public name and its nullifiers come (`openmg.zk.meters`)."""
        return reduce_wide(hkdf(self.root, "device/zk-meter", KEY_BYTES + 16))

    @cached_property
    def mask_public(self) -> bytes:
        return self.mask_key.public_key().public_bytes_raw()
