// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IEnergyRegistry} from "../src/interfaces/IEnergyRegistry.sol";
import {CollarCurve} from "../src/lib/CollarCurve.sol";
import {PoolLiquidity} from "../src/plasma/PoolLiquidity.sol";

/// @notice A pool whose batches are only numbers, to compare its arithmetic with the reference. Tests only.
contract CurveHarness is PoolLiquidity {
    CollarCurve.Clearing public last;

    constructor(IEnergyRegistry registry_, uint256 floorWeiPerWh_, uint256 capWeiPerWh_)
        PoolLiquidity(registry_, 7, floorWeiPerWh_, capWeiPerWh_)
    {}

    /// @notice A batch of one slot, offered, cleared and settled at once.
    function trade(uint40 key, uint32 slot, uint256 sold, uint256 wanted) external {
        _beginBatch(key, slot);
        _reserve(sold);
        last = _clear(key, slot, sold, wanted);
        _endBatch(key);
    }
}
