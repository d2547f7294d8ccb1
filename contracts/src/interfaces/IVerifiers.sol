// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

// The Groth16 verifiers of all circuits. `proof` is A.x A.y B.x.c1 B.x.c0 B.y.c1 B.y.c0 C.x C.y; `verify` tells whether
// it shows the circuit's statement for the public inputs; it is false when one is not below the field's modulus.

interface ITransferVerifier {
    /// @param input root', nf 1, nf 2, cm 1, cm 2, asset, public in, public out, ext
    function verify(uint256[8] calldata proof, uint256[9] calldata input) external view returns (bool);
}

interface IMergeVerifier {
    /// @param input root', nf 1 to nf 8, cm 1, cm 2, asset, public in, public out, ext, return partial
    function verify(uint256[8] calldata proof, uint256[16] calldata input) external view returns (bool);
}

interface IAppendVerifier {
    /// @param input old root', new root', start, leaf 1 to leaf 16
    function verify(uint256[8] calldata proof, uint256[19] calldata input) external view returns (bool);
}

interface IMintVerifier {
    /// @param input registry root, slot root, slot, period, microgrid, asset, N, cm, ext
    function verify(uint256[8] calldata proof, uint256[9] calldata input) external view returns (bool);
}

interface IBuyVerifier {
    /// @param input registry root, slot root, slot, microgrid, lots, N, delivery partial, ext
    function verify(uint256[8] calldata proof, uint256[8] calldata input) external view returns (bool);
}

interface IBurnVerifier {
    /// @param input root', nf 1 to nf 8, registry root, first slot of the day, period, asset, K.x, K.y, T, ext
    function verify(uint256[8] calldata proof, uint256[17] calldata input) external view returns (bool);
}

interface IExitVerifier {
    /// @param input root', nf, recipient, asset, amount, ext
    function verify(uint256[8] calldata proof, uint256[6] calldata input) external view returns (bool);
}
