// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The numbers by which contracts name the circuits
/// @notice A number is a place in `VerifierSet`; it is never given to another circuit.
library Circuits {
    uint8 internal constant TRANSFER = 0;
    uint8 internal constant MERGE = 1;
    uint8 internal constant APPEND = 2;
    uint8 internal constant MINT = 3;
    uint8 internal constant BUY = 4;
    uint8 internal constant BURN = 5;
    uint8 internal constant EXIT = 6;
    uint8 internal constant COUNT = 7;
}
