"""secp256k1 signatures that the EVM can check: r | s | v, 65 bytes, v in {27, 28}, low s.

Rules: whatever is signed names its purpose and its chain (`domain_digest`), so that no signature can be used for
another purpose or on another chain. The private key never leaves the functions here except as bytes the caller holds.
Not here: EIP-712 digests of contracts (`openmg.evm`) and PPDL seals (`hub.ppdl.consensus`), which sign their own digests.
"""

from __future__ import annotations

from coincurve import PrivateKey, PublicKey

from openmg.hashing import keccak256, word

SIGNATURE_BYTES = 65
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class InvalidSignature(ValueError):
    """The bytes are not a canonical signature over the digest."""


def public_key_address(public_key: PublicKey) -> bytes:
    """The EVM address of an uncompressed public key (Ethereum yellow paper, appendix F)."""
    return keccak256(public_key.format(compressed=False)[1:])[12:]


def address_of(private_key: bytes) -> bytes:
    """The 20-byte EVM address of a 32-byte private key."""
    return public_key_address(PrivateKey(private_key).public_key)


def sign_digest(private_key: bytes, digest: bytes) -> bytes:
    """A recoverable signature over 32 bytes, deterministic (RFC 6979)."""
    raw = PrivateKey(private_key).sign_recoverable(digest, hasher=None)
    return raw[:64] + bytes([27 + raw[64]])


def recover(digest: bytes, signature: bytes) -> bytes:
    """The address that signed the digest.

    Raises InvalidSignature for a wrong length, a high s (EIP-2) or a v outside {27, 28}.
    """
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        raise InvalidSignature("a signature must be 65 bytes ending in 27 or 28")
    if int.from_bytes(signature[32:64], "big") > SECP256K1_ORDER // 2:
        raise InvalidSignature("the signature's s is in the upper half of the group order")
    try:
        key = PublicKey.from_signature_and_message(signature[:64] + bytes([signature[64] - 27]), digest, hasher=None)
    except Exception as error:  # libsecp256k1 reports every bad point with a bare Exception
        raise InvalidSignature("the signature recovers to no public key") from error
    return public_key_address(key)


def domain_digest(purpose: str, chain_id: int, payload: bytes) -> bytes:
    """The 32 bytes to sign for a purpose on a chain."""
    return keccak256(b"openmg:" + purpose.encode("ascii") + b"\0" + word(chain_id) + keccak256(payload))
