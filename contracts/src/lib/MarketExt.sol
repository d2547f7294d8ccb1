// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ZkTags} from "../zk/ZkTags.sol";

/// @title What a proof binds that spends notes for a market
/// @notice The token computes it from the caller, so no market can claim a proof that was made for another one, or the
/// proof of a transfer: whatever it names, its own address is in it.
/// @dev Equal `edge_agent.market.calls.market_ext`. Not here: what a market puts into `bound` (`EnergyPool`).
library MarketExt {
    bytes32 private constant MARKET_EXT = keccak256("openmg.ext.market.v1");

    /// @param market The contract that spends the notes.
    /// @param bound Digest of everything else that the proof must bind.
    function bind(address market, bytes32 bound) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(MARKET_EXT, market, bound))) % ZkTags.FIELD;
    }
}
