// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PoseidonT3} from "../zk/PoseidonT3.sol";
import {ZkTags} from "../zk/ZkTags.sol";

/// @title The append-only Poseidon tree of note commitments, depth 20, which rolls over when it is full
/// @notice node = H(nod, left, right), empty leaf 0, and what is named outside is root' = H(root, treeNo, root).
/// A note's position is treeNo * 2^20 + index.
/// @dev Only the left siblings of the next leaf are stored (`branch`). An append costs two hashes on average, the root
/// at most 20 more, so several appends share one root. Mirrors `openmg.zk.tree`.
library NoteTree {
    struct Tree {
        uint64 number;
        uint64 size;
        uint256[20] branch;
    }

    /// @notice Adds a commitment.
    /// @return position Its position over all trees.
    /// @return sealedRoot root' of the tree that this leaf filled, or 0.
    function append(Tree storage tree, uint256 leaf) internal returns (uint256 position, uint256 sealedRoot) {
        uint256 index = tree.size;
        position = uint256(tree.number) * ZkTags.TREE_CAPACITY + index;
        tree.size = uint64(index + 1);
        uint256 node = leaf;
        for (uint256 height = 0; height < ZkTags.TREE_DEPTH; ++height) {
            if ((index >> height) & 1 == 0) {
                tree.branch[height] = node;
                return (position, 0);
            }
            node = PoseidonT3.hash(ZkTags.NOD, tree.branch[height], node);
        }
        sealedRoot = PoseidonT3.hash(ZkTags.ROOT, tree.number, node);
        tree.number += 1;
        tree.size = 0;
    }

    /// @notice root' of the tree that grows now.
    function namedRoot(Tree storage tree) internal view returns (uint256) {
        uint256 size = tree.size;
        uint256 node = 0;
        bool empty = true;
        for (uint256 height = 0; height < ZkTags.TREE_DEPTH; ++height) {
            if ((size >> height) & 1 == 1) {
                node = PoseidonT3.hash(ZkTags.NOD, tree.branch[height], empty ? ZkTags.emptySubtree(height) : node);
                empty = false;
            } else if (!empty) {
                node = PoseidonT3.hash(ZkTags.NOD, node, ZkTags.emptySubtree(height));
            }
        }
        if (empty) node = ZkTags.EMPTY_TREE_ROOT;
        return PoseidonT3.hash(ZkTags.ROOT, tree.number, node);
    }
}
