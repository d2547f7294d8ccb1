// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What the confidential token asks of a registered market
interface IMarket {
    /// @notice Takes the PETH of notes that the market has just spent; called by the token alone, within that call.
    function receivePeth() external payable;
}
