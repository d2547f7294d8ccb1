"""A hub's keys, all from one secret in its key file, split by HKDF labels.

Rules: the validator key signs PPDL votes and checkpoints, the account key pays for transactions, the envelope key opens
what homes sealed to this hub's relay; none stands in for another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from openmg.identity import hkdf, load_or_create_key, signing_key
from openmg.signing import address_of


@dataclass(frozen=True)
class HubKeys:
    """What is derived from a hub's secret."""

    root: bytes

    @classmethod
    def load(cls, path: Path) -> HubKeys:
        """The keys of the file, which is made (0600) when missing; KeyFileError when it cannot be used."""
        return cls(load_or_create_key(path))

    def __repr__(self) -> str:
        return f"HubKeys(0x{self.validator.hex()})"

    @cached_property
    def validator_key(self) -> bytes:
        """secp256k1 key of the PPDL validator; also signs checkpoints."""
        return signing_key(self.root, "hub/validator")

    @cached_property
    def validator(self) -> bytes:
        return address_of(self.validator_key)

    @cached_property
    def account_key(self) -> bytes:
        """secp256k1 key of the hub's account on both EVM chains."""
        return signing_key(self.root, "hub/account")

    @cached_property
    def account(self) -> bytes:
        return address_of(self.account_key)

    def role_key(self, role: str) -> bytes:
        """secp256k1 key of the account that a role sends transactions from; nonces are counted apart for each role."""
        return signing_key(self.root, f"hub/role/{role}")

    @cached_property
    def envelope_key(self) -> X25519PrivateKey:
        """X25519 key to which homes seal envelopes for this hub's relay."""
        return X25519PrivateKey.from_private_bytes(hkdf(self.root, "hub/envelope"))

    @cached_property
    def envelope_public(self) -> bytes:
        return self.envelope_key.public_key().public_bytes_raw()
