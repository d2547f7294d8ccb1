// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Where an event stands on the PPDL chain and how it reaches the application hash.
/// @param height Height of the block whose events contain the leaf; header `height + 1` proves it.
/// @param index Number of the leaf among the block's events.
/// @param count Number of events in the block.
/// @param siblings Merkle siblings from the leaf to the root.
/// @param stateHash Hash of the application's state after the block.
/// @param modelHash Hash of the learned model after the block.
struct EventProof {
    uint256 height;
    uint256 index;
    uint256 count;
    bytes32[] siblings;
    bytes32 stateHash;
    bytes32 modelHash;
}

/// @title Another chain, as contracts of this one see it
/// @notice What is final, by whichever means: a quorum certificate, the word of a federation, or depth under the heaviest
/// branch. The consensus of the chain can change without its users, which call nothing else.
interface ISourceChain {
    /// @notice Whether this application hash is final for the height: it commits to all up to the block before it.
    function isFinal(uint256 height, bytes32 appHash) external view returns (bool);

    /// @notice Whether proof was given that the chain forked below what was final; nothing can be proved then.
    function frozen() external view returns (bool);

    /// @notice Whether the leaf is an event of a block that is final. Reverts when frozen.
    function verifyEvent(bytes memory leaf, EventProof calldata proof) external view returns (bool);
}

/// @title What other contracts ask of the light client
interface IPpdlRelay is ISourceChain {
    /// @notice Chain id of the PPDL chain that is followed.
    function ppdlChainId() external view returns (uint256);
}
