// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Ladder} from "./Ladder.sol";

/// @title The price of a slot's orders: a constant product between two prices, and one price for all
/// @notice The pool trades on (X + Vx)(Y + Vy) = k, X its PETH in wei and Y its energy in Wh. The virtual offsets come
/// from the PETH it opens with, so that its price is the cap while it has no energy and the floor when its PETH is used
/// up, each but for rounding. Where it has no energy and nothing is left for it to take, the price is the middle of the
/// collar, as without a pool: there the curve would be an opinion that costs nothing.
/// @dev k is fixed when the pool opens, and X on the curve follows from Y alone, rounded up. Fees and what rounding
/// leaves are the pool's PETH beyond that and never priced: were they on the curve, k would grow, the curve would leave
/// the collar, and a price held at the floor would take more PETH than the pool has. With s = ceil(sqrt(floor * cap)),
/// Vy = ceil(X0 / (cap - s)) and Vx = s * Vy, every price on the curve lies in the collar: X0 + Vx <= cap * Vy, and
/// floor * k <= Vx * Vx. Sums of whole lots at the floor or cap are integers, so rounding up X keeps to both bounds.
/// Equal `openmg.market.collar`, number for number.
/// Not here: whose orders these are (`EnergyPool`).
library CollarCurve {
    /// @dev A fee of 0.3 % of what comes in.
    uint256 internal constant FEE_NUMERATOR = 997;
    uint256 internal constant FEE_DENOMINATOR = 1000;
    /// @dev Lots at the cap that a curve needs PETH for: a pool that could buy next to nothing must not name prices.
    uint256 internal constant MIN_LIQUIDITY_LOTS = 100;
    /// @dev Lowest floor of a collar, in wei for one Wh; with a cap a thousandth above it there is room for a curve.
    uint256 internal constant MIN_FLOOR = 1_000_000;

    /// @param wei_ PETH of the pool, fees among it.
    /// @param wh Energy of the pool.
    /// @param virtualWei Offset of the PETH; 0 for a pool without liquidity.
    /// @param virtualWh Offset of the energy.
    /// @param product k; 0 for a pool without liquidity.
    struct Reserves {
        uint128 wei_;
        uint128 wh;
        uint128 virtualWei;
        uint128 virtualWh;
        uint256 product;
    }

    /// @param priceWeiPerLot What every order of the batch pays or gets for a lot.
    /// @param clearedLots Lots that buyers get in all.
    /// @param poolLots Lots that the pool takes (when it buys) or gives.
    /// @param escrowLots Lots that nobody takes and that are redeemed at the floor.
    struct Clearing {
        uint256 priceWeiPerLot;
        uint256 clearedLots;
        uint256 poolLots;
        uint256 escrowLots;
    }

    /// @notice Whether so much PETH opens a curve; less only lies there until the key is closed.
    function suffices(uint256 wei_, uint256 capWeiPerWh) internal pure returns (bool) {
        return wei_ >= MIN_LIQUIDITY_LOTS * Ladder.LOT_WH * capWeiPerWh;
    }

    /// @notice The offsets of a pool that opens with `wei_` and no energy.
    /// @param floorWeiPerWh Lowest price, below the cap.
    function offsets(uint256 wei_, uint256 floorWeiPerWh, uint256 capWeiPerWh)
        internal
        pure
        returns (uint128 virtualWei, uint128 virtualWh)
    {
        // wei_ is below 2^96 and middle / (cap - middle) below 2^11, so both fit.
        uint256 middle = Math.sqrt(floorWeiPerWh * capWeiPerWh, Math.Rounding.Ceil);
        uint256 wh = Math.ceilDiv(wei_, capWeiPerWh - middle);
        (virtualWei, virtualWh) = (uint128(middle * wh), uint128(wh));
    }

    /// @notice PETH that the curve wants beside so much energy of the pool; what the pool has beyond it are fees.
    function curveWei(Reserves memory pool, uint256 wh) internal pure returns (uint256) {
        if (pool.product == 0) return 0;
        return Math.ceilDiv(pool.product, wh + pool.virtualWh) - pool.virtualWei;
    }

    /// @notice Clears a batch: what is sold is always taken, what is wanted as far as there is energy.
    /// @param sold Lots that were offered.
    /// @param wanted Lots that were asked for.
    function clear(Reserves memory pool, uint256 sold, uint256 wanted, uint256 floorWeiPerWh, uint256 capWeiPerWh)
        internal
        pure
        returns (Clearing memory result)
    {
        uint256 floor = floorWeiPerWh * Ladder.LOT_WH;
        uint256 cap = capWeiPerWh * Ladder.LOT_WH;
        result.clearedLots = Math.min(wanted, sold + pool.wh / Ladder.LOT_WH);
        if (result.clearedLots > sold) {
            result.poolLots = result.clearedLots - sold;
            uint256 cost = input(pool, result.poolLots * Ladder.LOT_WH);
            result.priceWeiPerLot = Math.max(floor, Math.min(cap, Math.ceilDiv(cost, result.poolLots)));
        } else if (result.clearedLots < sold) {
            uint256 surplus = sold - result.clearedLots;
            result.poolLots = Math.min(surplus, room(pool));
            result.escrowLots = surplus - result.poolLots;
            uint256 revenue = output(pool, result.poolLots * Ladder.LOT_WH) + result.escrowLots * floor;
            result.priceWeiPerLot = Math.min(cap, Math.max(floor, revenue / surplus));
        } else if (pool.wh == 0) {
            result.priceWeiPerLot = (floor + cap) / 2;
        } else {
            result.priceWeiPerLot = Math.max(floor, Math.min(cap, spot(pool)));
        }
    }

    /// @notice PETH that so much energy of the pool costs, with the fee; `wh` is at most what the pool has.
    function input(Reserves memory pool, uint256 wh) internal pure returns (uint256) {
        uint256 moved = curveWei(pool, pool.wh - wh) - curveWei(pool, pool.wh);
        return Math.ceilDiv(moved * FEE_DENOMINATOR, FEE_NUMERATOR);
    }

    /// @notice PETH that the pool pays for so much energy, after the fee.
    function output(Reserves memory pool, uint256 wh) internal pure returns (uint256) {
        return (curveWei(pool, pool.wh) - curveWei(pool, pool.wh + wh)) * FEE_NUMERATOR / FEE_DENOMINATOR;
    }

    /// @notice Lots that the pool can take before its PETH is used up.
    function room(Reserves memory pool) internal pure returns (uint256) {
        if (pool.product == 0) return 0;
        // (Y + Vy + q) Vx <= k: at that q the pool would have paid all of X.
        return (pool.product / pool.virtualWei - pool.virtualWh - pool.wh) / Ladder.LOT_WH;
    }

    /// @notice Price of a lot at the margin of a pool with a curve.
    function spot(Reserves memory pool) internal pure returns (uint256) {
        uint256 y = uint256(pool.wh) + pool.virtualWh;
        return ((curveWei(pool, pool.wh) + pool.virtualWei) * Ladder.LOT_WH) / y;
    }
}
