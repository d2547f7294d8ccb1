// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EventProof} from "../interfaces/IPpdlRelay.sol";

/// @title The Merkle tree over the events of one PPDL block
/// @notice leaf = keccak(0x00 | data), node = keccak(0x01 | left | right), an odd last node rises unchanged.
/// The prefixes keep a node from posing as a leaf. Mirrors `openmg.hashing`.
library EventTree {
    bytes32 private constant APP_TAG = keccak256("openmg.ppdl.app.v1");

    /// @notice Whether the leaf is an event of the block whose application hash this is.
    function proves(bytes32 appHash, bytes memory leaf, EventProof calldata proof) internal pure returns (bool) {
        (bytes32 eventsRoot, bool complete) = rootOf(leaf, proof.index, proof.count, proof.siblings);
        bytes32 claimed = keccak256(abi.encode(APP_TAG, proof.stateHash, eventsRoot, proof.modelHash));
        return appHash != 0 && complete && appHash == claimed;
    }

    /// @notice Root over the tree that has `leaf` as number `index` of `count`.
    /// @return root The root, meaningless unless `complete`.
    /// @return complete Whether the proof has exactly as many siblings as the position needs.
    function rootOf(bytes memory leaf, uint256 index, uint256 count, bytes32[] calldata proof)
        internal
        pure
        returns (bytes32 root, bool complete)
    {
        if (index >= count) return (0, false);
        root = keccak256(abi.encodePacked(bytes1(0x00), leaf));
        uint256 used = 0;
        while (count > 1) {
            if (index ^ 1 < count) {
                if (used == proof.length) return (0, false);
                bytes32 sibling = proof[used++];
                root = index & 1 == 1 ? _node(sibling, root) : _node(root, sibling);
            }
            index >>= 1;
            count = (count + 1) >> 1;
        }
        return (root, used == proof.length);
    }

    function _node(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x01), left, right));
    }
}
