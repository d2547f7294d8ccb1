"""Constant product prices with a fee of 0.3 %, to the wei (Uniswap v1, `getInputPrice` and `getOutputPrice`).

Pure integers, floor division; the same arithmetic as `contracts/src/plasma/Exchange.sol`, which tests compare.
"""

from __future__ import annotations

FEE_NUMERATOR = 997
FEE_DENOMINATOR = 1000


def output_for(amount_in: int, reserve_in: int, reserve_out: int) -> int:
    """What the pool pays for `amount_in`; ValueError when a reserve is empty."""
    if reserve_in <= 0 or reserve_out <= 0:
        raise ValueError("the pool has no liquidity")
    with_fee = amount_in * FEE_NUMERATOR
    return with_fee * reserve_out // (reserve_in * FEE_DENOMINATOR + with_fee)


def input_for(amount_out: int, reserve_in: int, reserve_out: int) -> int:
    """What must be paid to receive `amount_out`; ValueError when the pool does not hold more than that."""
    if reserve_in <= 0 or not 0 <= amount_out < reserve_out:
        raise ValueError(f"the pool cannot pay {amount_out} of its {reserve_out}")
    return reserve_in * amount_out * FEE_DENOMINATOR // ((reserve_out - amount_out) * FEE_NUMERATOR) + 1


def spot_price(reserve_wei: int, reserve_wh: int) -> int:
    """Marginal price in wei per Wh, rounded down; 0 for an empty pool."""
    return reserve_wei // reserve_wh if reserve_wh else 0
