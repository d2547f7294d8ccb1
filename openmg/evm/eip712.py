"""EIP-712 digests of static structs: a domain of name, version, chain id and contract, and words for the fields."""

from __future__ import annotations

from openmg.hashing import keccak256, words

_DOMAIN_TYPE = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


def domain_separator(name: str, version: str, chain_id: int, contract: bytes) -> bytes:
    return keccak256(words(_DOMAIN_TYPE, keccak256(name.encode()), keccak256(version.encode()), chain_id, contract))


def typed_digest(domain: bytes, type_string: str, *fields: int | bytes) -> bytes:
    """The 32 bytes to sign for a struct whose fields are all static (addresses, integers, bytes32)."""
    struct = keccak256(words(keccak256(type_string.encode()), *fields))
    return keccak256(b"\x19\x01" + domain + struct)
