// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Commitments that wait, in order, for their place in the note tree
/// @notice A batch is the next 16 leaves. If fewer wait, it is those queued in earlier epochs, padded with 0: so each
/// leaf reaches the tree an epoch later at the latest, and a batch that is being proved rarely grows meanwhile.
/// @dev Invariant: appended <= queued, and of the leaves before `queuedAtMark` none came in `markEpoch`. What stands in
/// a place never changes. One word holds all counters: a transaction that queues two leaves pays for one write of it.
library NoteQueue {
    /// @notice Leaves of a batch; `BATCH` of them are also one subtree of the note tree.
    uint256 internal constant BATCH = 16;

    /// @param queued Leaves ever queued.
    /// @param appended Leaves of the queue that are in the tree.
    /// @param markEpoch The last epoch in which a leaf came.
    /// @param queuedAtMark Leaves that had been queued when it began.
    struct Queue {
        uint64 queued;
        uint64 appended;
        uint64 markEpoch;
        uint64 queuedAtMark;
        mapping(uint256 index => uint256) leaves;
    }

    /// @notice Puts a commitment at the end.
    /// @return index Its place in the queue, from 0.
    function push(Queue storage queue, uint256 epoch, uint256 leaf) internal returns (uint256 index) {
        index = queue.queued;
        if (queue.markEpoch != epoch) {
            queue.markEpoch = uint64(epoch);
            queue.queuedAtMark = uint64(index);
        }
        queue.queued = uint64(index + 1);
        queue.leaves[index] = leaf;
    }

    /// @notice Leaves that the next batch takes: 16, fewer when no more are ripe, or 0.
    function ripe(Queue storage queue, uint256 epoch) internal view returns (uint256) {
        uint256 first = queue.appended;
        uint256 waiting = queue.queued - first;
        if (waiting >= BATCH) return BATCH;
        if (queue.markEpoch != epoch) return waiting;
        return queue.queuedAtMark > first ? queue.queuedAtMark - first : 0;
    }
}
