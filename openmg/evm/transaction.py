"""Signed EIP-1559 transactions, for an owner whose meter has no node: built here, submitted by a relay."""

from __future__ import annotations

from dataclasses import dataclass

from openmg.evm import rlp
from openmg.hashing import keccak256
from openmg.signing import sign_digest

EIP1559_TYPE = b"\x02"


@dataclass(frozen=True)
class Transaction:
    """A call to a contract. Gas is free on the plasma chain, so both fees default to 0."""

    chain_id: int
    nonce: int
    to: bytes
    data: bytes
    gas_limit: int
    value_wei: int = 0
    max_fee_wei: int = 0
    priority_fee_wei: int = 0

    def _fields(self) -> list[rlp.Item]:
        numbers = (self.chain_id, self.nonce, self.priority_fee_wei, self.max_fee_wei, self.gas_limit)
        return [*map(rlp.integer, numbers), self.to, rlp.integer(self.value_wei), self.data, []]

    def digest(self) -> bytes:
        """What the sender signs (EIP-1559)."""
        return keccak256(EIP1559_TYPE + rlp.encode(self._fields()))

    def sign(self, private_key: bytes) -> bytes:
        """The raw transaction as a node accepts it."""
        signature = sign_digest(private_key, self.digest())
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        tail = map(rlp.integer, (signature[64] - 27, r, s))
        return EIP1559_TYPE + rlp.encode([*self._fields(), *tail])


def transaction_hash(raw: bytes) -> bytes:
    """The hash under which the chain knows a raw transaction."""
    return keccak256(raw)
