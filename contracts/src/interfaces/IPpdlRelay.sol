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

/// @title What other contracts ask of the light client
interface IPpdlRelay {
    /// @notice Chain id of the PPDL chain that is followed.
    function ppdlChainId() external view returns (uint256);

    /// @notice Whether the leaf is an event of a relayed block.
    function verifyEvent(bytes memory leaf, EventProof calldata proof) external view returns (bool);
}
