// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The sizes that an order may have: 1, 2, 5, 10, 20, 50, ... lots
/// @notice Few sizes for many homes: what is public of an order says little about the home that made it.
library Ladder {
    /// @notice Energy of one lot.
    uint256 internal constant LOT_WH = 100;

    /// @notice Whether an order may have so many lots (at most 50,000, as a uint16 bounds it).
    function isStep(uint16 lots) internal pure returns (bool) {
        uint256 rest = lots;
        if (rest == 0) return false;
        while (rest % 10 == 0) rest /= 10;
        return rest == 1 || rest == 2 || rest == 5;
    }
}
