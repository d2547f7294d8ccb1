// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Ladder} from "./Ladder.sol";

/// @title The price of a slot's orders: a constant product between two prices, and one price for all
/// @notice The pool trades on (X + Vx)(Y + Vy) = k, X its PETH in wei and Y its energy in Wh. The virtual offsets come
/// from the PETH it opens with, so that its price is almost the cap while it has no energy and almost the floor when
/// its PETH is used up ("almost": a millionth inside, which is more than all rounding together).
/// @dev Rounding is always for the pool, so k never falls. Equal `openmg.market.collar`, number for number.
/// Not here: whose orders these are (`EnergyPool`).
library CollarCurve {
    /// @dev A fee of 0.3 % of what comes in.
    uint256 internal constant FEE_NUMERATOR = 997;
    uint256 internal constant FEE_DENOMINATOR = 1000;
    /// @dev The collar of the curve lies this part of one inside that of the market, at either end.
    uint256 internal constant MARGIN = 1_000_000;

    /// @param wei_ PETH of the pool.
    /// @param wh Energy of the pool.
    /// @param virtualWei Offset of the PETH; 0 for a pool without liquidity.
    /// @param virtualWh Offset of the energy.
    struct Reserves {
        uint128 wei_;
        uint128 wh;
        uint128 virtualWei;
        uint128 virtualWh;
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

    /// @notice The offsets of a pool that opens with `wei_` and no energy.
    /// @param floorWeiPerWh Lowest price, below the cap.
    function offsets(uint256 wei_, uint256 floorWeiPerWh, uint256 capWeiPerWh)
        internal
        pure
        returns (uint128 virtualWei, uint128 virtualWh)
    {
        uint256 low = Math.sqrt((floorWeiPerWh + Math.ceilDiv(floorWeiPerWh, MARGIN)) << 128);
        uint256 high = Math.sqrt((capWeiPerWh - Math.ceilDiv(capWeiPerWh, MARGIN)) << 128);
        uint256 liquidity = (wei_ << 64) / (high - low);
        virtualWei = uint128(Math.mulDiv(liquidity, low, 1 << 64));
        virtualWh = uint128((liquidity << 64) / high);
    }

    /// @notice Clears a batch: what is sold is always taken, what is wanted as far as there is energy.
    /// @param sold Lots that were offered.
    /// @param wanted Lots that were asked for.
    function clear(
        Reserves memory pool,
        uint256 sold,
        uint256 wanted,
        uint256 floorWeiPerWh,
        uint256 capWeiPerWh
    ) internal pure returns (Clearing memory result) {
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
        } else {
            result.priceWeiPerLot = Math.max(floor, Math.min(cap, spot(pool, floor, cap)));
        }
    }

    /// @notice PETH that so much energy of the pool costs, with the fee; `wh` is at most what the pool has.
    function input(Reserves memory pool, uint256 wh) internal pure returns (uint256) {
        uint256 x = uint256(pool.wei_) + pool.virtualWei;
        uint256 y = uint256(pool.wh) + pool.virtualWh;
        return Math.ceilDiv(x * wh * FEE_DENOMINATOR, (y - wh) * FEE_NUMERATOR);
    }

    /// @notice PETH that the pool pays for so much energy, after the fee.
    function output(Reserves memory pool, uint256 wh) internal pure returns (uint256) {
        if (wh == 0) return 0;
        uint256 x = uint256(pool.wei_) + pool.virtualWei;
        uint256 y = uint256(pool.wh) + pool.virtualWh;
        uint256 counted = wh * FEE_NUMERATOR;
        return (x * counted) / (y * FEE_DENOMINATOR + counted);
    }

    /// @notice Lots that the pool can take before its PETH is used up.
    function room(Reserves memory pool) internal pure returns (uint256) {
        if (pool.virtualWei == 0) return 0;
        uint256 y = uint256(pool.wh) + pool.virtualWh;
        // (Y + Vy + q) Vx <= (X + Vx)(Y + Vy): at that q the pool would have paid all of X.
        return (uint256(pool.wei_) * y) / pool.virtualWei / Ladder.LOT_WH;
    }

    /// @notice Price of a lot at the margin; the middle of the collar for a pool without liquidity.
    function spot(Reserves memory pool, uint256 floor, uint256 cap) internal pure returns (uint256) {
        uint256 y = uint256(pool.wh) + pool.virtualWh;
        if (y == 0) return (floor + cap) / 2;
        return ((uint256(pool.wei_) + pool.virtualWei) * Ladder.LOT_WH) / y;
    }
}
