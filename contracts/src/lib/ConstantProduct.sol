// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The pricing of Uniswap v1: constant product with a fee of 0.3 % of the input
/// @notice Rounds against the trader, so that the product of the reserves never falls.
/// @dev Reserves and amounts stay below 2^112 (checked by the exchange), so that no product here overflows.
library ConstantProduct {
    error EmptyReserve();
    error OutputTooHigh(uint256 output, uint256 reserve);

    /// @notice Output that an input buys.
    function output(uint256 sold, uint256 inputReserve, uint256 outputReserve) internal pure returns (uint256) {
        require(inputReserve > 0 && outputReserve > 0, EmptyReserve());
        uint256 inputWithFee = sold * 997;
        return inputWithFee * outputReserve / (inputReserve * 1000 + inputWithFee);
    }

    /// @notice Input that an output costs.
    function input(uint256 wanted, uint256 inputReserve, uint256 outputReserve) internal pure returns (uint256) {
        require(inputReserve > 0 && outputReserve > 0, EmptyReserve());
        require(wanted < outputReserve, OutputTooHigh(wanted, outputReserve));
        return inputReserve * wanted * 1000 / ((outputReserve - wanted) * 997) + 1;
    }
}
