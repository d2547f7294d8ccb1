// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Where a light client stands, in the one storage word that a submission reads and writes.
/// @dev From the lowest bit: height (40 bits); its time in Unix milliseconds (64); Unix second at which it was accepted
/// (40); creation number of the verifier whose set is in force (16); height of the last new start, 0 at first (40);
/// relayers that take turns (8); the relayer whose rewards are being counted (8) and heights counted for it and not booked
/// yet (24); whether an announced set must be installed first (1); whether the chain is known to have forked (1).
/// Whoever writes a field keeps it below its bound.
type Head is uint256;

using RelayHead for Head global;

/// @title Reads and writes the fields of a head
library RelayHead {
    uint256 private constant TIP_BITS = 144;
    uint256 private constant PENDING = 1 << 240;
    uint256 private constant FROZEN = 1 << 241;

    function height(Head head) internal pure returns (uint256) {
        return uint40(Head.unwrap(head));
    }

    function timestampMs(Head head) internal pure returns (uint256) {
        return uint64(Head.unwrap(head) >> 40);
    }

    function acceptedAt(Head head) internal pure returns (uint256) {
        return uint40(Head.unwrap(head) >> 104);
    }

    function setNumber(Head head) internal pure returns (uint256) {
        return uint16(Head.unwrap(head) >> 144);
    }

    function startHeight(Head head) internal pure returns (uint256) {
        return uint40(Head.unwrap(head) >> 160);
    }

    function relayers(Head head) internal pure returns (uint256) {
        return uint8(Head.unwrap(head) >> 200);
    }

    function turn(Head head) internal pure returns (uint256) {
        return uint8(Head.unwrap(head) >> 208);
    }

    function turnHeights(Head head) internal pure returns (uint256) {
        return uint24(Head.unwrap(head) >> 216);
    }

    function pending(Head head) internal pure returns (bool) {
        return Head.unwrap(head) & PENDING != 0;
    }

    function frozen(Head head) internal pure returns (bool) {
        return Head.unwrap(head) & FROZEN != 0;
    }

    /// @notice Whether it is pending or frozen.
    function closed(Head head) internal pure returns (bool) {
        return Head.unwrap(head) >> 240 != 0;
    }

    function withTip(Head head, uint256 height_, uint256 timestampMs_, uint256 acceptedAt_)
        internal
        pure
        returns (Head)
    {
        uint256 rest = (Head.unwrap(head) >> TIP_BITS) << TIP_BITS;
        return Head.wrap(rest | height_ | (timestampMs_ << 40) | (acceptedAt_ << 104));
    }

    function withSetNumber(Head head, uint256 number) internal pure returns (Head) {
        return Head.wrap((Head.unwrap(head) & ~(uint256(type(uint16).max) << 144)) | (number << 144));
    }

    function withStartHeight(Head head, uint256 height_) internal pure returns (Head) {
        return Head.wrap((Head.unwrap(head) & ~(uint256(type(uint40).max) << 160)) | (height_ << 160));
    }

    function withRelayers(Head head, uint256 count) internal pure returns (Head) {
        return Head.wrap((Head.unwrap(head) & ~(uint256(type(uint8).max) << 200)) | (count << 200));
    }

    function withTurn(Head head, uint256 turn_, uint256 heights) internal pure returns (Head) {
        return Head.wrap((Head.unwrap(head) & ~(uint256(type(uint32).max) << 208)) | (turn_ << 208) | (heights << 216));
    }

    function withPending(Head head, bool is_) internal pure returns (Head) {
        return Head.wrap((Head.unwrap(head) & ~PENDING) | (is_ ? PENDING : 0));
    }

    function withFrozen(Head head, bool is_) internal pure returns (Head) {
        return Head.wrap((Head.unwrap(head) & ~FROZEN) | (is_ ? FROZEN : 0));
    }
}
