// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title One set of signers and the rule by which their seals bind it
/// @notice The set's data lie in the contract's own code, so that a check touches one account and no storage. Another
/// signature scheme, say an aggregate of BLS12-381, is another implementation with its own form of seals.
interface IQuorumVerifier {
    /// @notice Reverts unless `seals` are those of a quorum of the set over `digest`.
    /// @return setHash Hash of the set, as headers name it: whoever asks compares it with the set that it expects.
    function verify(bytes32 digest, bytes calldata seals) external view returns (bytes32 setHash);

    /// @notice As `verify`, and says who signed, ascending. A scheme that hides its signers cannot be made accountable.
    function signersOf(bytes32 digest, bytes calldata seals) external view returns (address[] memory);

    /// @notice keccak256 of the members as 32-byte words, in ascending order.
    function setHash() external view returns (bytes32);

    /// @notice The members, ascending.
    function members() external view returns (address[] memory);

    /// @notice Whether the address is a member.
    function contains(address signer) external view returns (bool);
}

/// @title What makes verifiers of one signature scheme
interface IQuorumScheme {
    /// @notice Creation code of the verifier of a set; reverts for members that are no set.
    /// @param members Strictly ascending.
    /// @param threshold Seals that bind the set, or 0 for a Byzantine quorum of it.
    function creationCode(address[] calldata members, uint256 threshold) external view returns (bytes memory);
}
