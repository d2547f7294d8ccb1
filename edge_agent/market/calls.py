"""The calls of the private market as bytes, and what each of its proofs binds (`ext`).

Rules: one transaction has one ext, which every proof in it carries: keccak256 modulo r over one word each of a tag, chain id,
pool, circuit set and everything else that the call says; where notes are spent, once more with the pool's address. So no
relay can change a call that it carries, and a proof made for one pool, chain or verifier set counts on no other. Pure; no
call needs a signature.
Source: `EnergyPool.sol`; `tests/contracts` and `tests/edge_market` compare both. Not here: the statements, envelopes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.wallet.orders import Call
from openmg.evm.abi import encode_call
from openmg.hashing import keccak256, words
from openmg.zk.circuits.burn import BurnPublics
from openmg.zk.circuits.joinsplit import JoinSplitPublics
from openmg.zk.circuits.merge import MergePublics
from openmg.zk.circuits.mint import MintPublics
from openmg.zk.field import R

Ciphertexts = tuple[bytes, bytes]
Words = Sequence[int]
"""A proof's eight words."""

MARKET_TAG = keccak256(b"openmg.ext.market.v1")
MINT_TAG = keccak256(b"openmg.ext.mint.v1")
SELL_TAG = keccak256(b"openmg.ext.sell.v1")
BUY_TAG = keccak256(b"openmg.ext.buy.v1")
BURN_TAG = keccak256(b"openmg.ext.burn.v1")

_SPEND = "(uint256[8],uint256,uint256[2],uint256[2],bytes,bytes)"
_MERGE_SPEND = "(uint256[8],uint256,uint256[8],uint256[2],uint256,bytes,bytes)"
MINT = "mint(uint256[8],uint32,uint256,uint256,uint64,bytes)"
SELL = f"sell({_SPEND},uint40,uint16,uint256,uint64)"
SELL_MERGED = f"sellMerged({_MERGE_SPEND},uint40,uint16,uint256,uint64)"
BUY = f"buy(uint256[8],uint32,uint16,uint256,uint256,uint256,{_SPEND},uint64)"
BURN = "burn(uint256[8],uint40,uint256,uint256[8],uint256,uint256,uint256,uint64)"
SIGNATURES = (MINT, SELL, SELL_MERGED, BUY, BURN)


@dataclass(frozen=True)
class Sale:
    """What a sale says beside its proof: the key, lots, and where the PETH goes."""

    key: int
    lots: int
    payout_partial: int


@dataclass(frozen=True)
class Purchase:
    """What a purchase says beside its two proofs: slot, lots, N, and where energy and the PETH that is left go."""

    slot: int
    lots: int
    nullifier: int
    delivery_partial: int
    change_partial: int


@dataclass(frozen=True)
class PoolCalls:
    """The calls of one microgrid's pool on one chain, under one set of verifiers."""

    chain_id: int
    pool: bytes
    circuit_set: bytes

    def _bound(self, tag: bytes, *fields: int | bytes) -> bytes:
        return keccak256(words(tag, self.chain_id, self.pool, self.circuit_set, *fields))

    def _ext(self, tag: bytes, *fields: int | bytes) -> int:
        return int.from_bytes(self._bound(tag, *fields), "big") % R

    def _call(self, signature: str, *arguments: Any) -> Call:
        return Call(self.pool, encode_call(signature, *arguments))

    def mint_ext(self, slot: int, valid_until: int, ciphertext: bytes) -> int:
        return self._ext(MINT_TAG, slot, valid_until, keccak256(ciphertext))

    def mint(self, proof: Words, stated: MintPublics, valid_until: int, ciphertext: bytes) -> Call:
        """`ciphertext` seals the supply note to its owner."""
        return self._call(MINT, list(proof), stated.slot, stated.nullifier, stated.commitment, valid_until, ciphertext)

    def sale_ext(self, sale: Sale, valid_until: int, ciphertexts: Ciphertexts) -> int:
        """Of a transfer and of a merge."""
        sealed = map(keccak256, ciphertexts)
        return market_ext(self.pool, self._bound(SELL_TAG, sale.key, sale.lots, sale.payout_partial, valid_until, *sealed))

    def sell(self, sale: Sale, proof: Words, stated: JoinSplitPublics, valid_until: int, ciphertexts: Ciphertexts) -> Call:
        """`sell` or `sellMerged`, as what was proved is a transfer or a merge."""
        signature = SELL_MERGED if isinstance(stated, MergePublics) else SELL
        spend = _spend(proof, stated, ciphertexts)
        return self._call(signature, spend, sale.key, sale.lots, sale.payout_partial, valid_until)

    def purchase_ext(
        self,
        order: Purchase,
        root: int,
        nullifiers: Sequence[int],
        commitments: Sequence[int],
        valid_until: int,
        ciphertexts: Ciphertexts,
    ) -> int:
        """Of both proofs; the payment's root, nullifiers and commitments are in it, so neither counts beside another."""
        head = (order.slot, order.lots, order.nullifier, order.delivery_partial, order.change_partial)
        spent: tuple[int | bytes, ...] = (root, *nullifiers, *commitments, valid_until, *map(keccak256, ciphertexts))
        return market_ext(self.pool, self._bound(BUY_TAG, *head, *spent))

    def buy(
        self,
        order: Purchase,
        proof: Words,
        payment_proof: Words,
        payment: JoinSplitPublics,
        valid_until: int,
        ciphertexts: Ciphertexts,
    ) -> Call:
        """`payment` is what the transfer states that pays the lots at the cap price."""
        spend = _spend(payment_proof, payment, ciphertexts)
        head = (list(proof), order.slot, order.lots, order.nullifier, order.delivery_partial, order.change_partial)
        return self._call(BUY, *head, spend, valid_until)

    def burn_ext(self, key: int, valid_until: int) -> int:
        return self._ext(BURN_TAG, key, valid_until)

    def burn(self, key: int, proof: Words, stated: BurnPublics, valid_until: int) -> Call:
        total_x, total_y = stated.total_commitment
        nullifiers = list(stated.nullifiers)
        return self._call(BURN, list(proof), key, stated.root, nullifiers, stated.tag, total_x, total_y, valid_until)


def market_ext(market: bytes, bound: bytes) -> int:
    """What a spend for a market carries: the token puts the market's address to the digest that the market computed."""
    return int.from_bytes(keccak256(words(MARKET_TAG, market, bound)), "big") % R


def _spend(proof: Words, stated: JoinSplitPublics, ciphertexts: Ciphertexts) -> tuple[Any, ...]:
    """The pool's Spend or MergeSpend."""
    values: tuple[Any, ...] = (list(proof), stated.root, list(stated.nullifiers), list(stated.commitments))
    if isinstance(stated, MergePublics):
        values += (stated.return_partial,)
    return (*values, *ciphertexts)
