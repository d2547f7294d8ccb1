// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The Groth16 verifier of the transfer circuit
interface ITransferVerifier {
    /// @notice Whether the proof shows the circuit's statement for these public inputs.
    /// @param proof A.x A.y B.x.c1 B.x.c0 B.y.c1 B.y.c0 C.x C.y
    /// @param input root', nf 1, nf 2, cm 1, cm 2, asset, public in, public out, ext
    function verify(uint256[8] calldata proof, uint256[9] calldata input) external view returns (bool);
}
