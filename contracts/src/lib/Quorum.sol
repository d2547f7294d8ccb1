// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title A fixed set of signers and the quorum that binds them
/// @notice The set is held in ascending address order; a quorum is (n + f) / 2 + 1 with f = (n - 1) / 3,
/// so that two quorums share an honest signer while at most f are faulty (Castro and Liskov, 2002).
/// @dev Signers of a digest must be strictly ascending: that makes them distinct without storage.
/// ECDSA refuses a high s, a v outside {27, 28} and the zero address. Not here: what is signed.
library Quorum {
    /// @notice Largest set: a quorum of 67 seals costs about half a million gas.
    uint256 internal constant MAX_SIGNERS = 100;

    struct Set {
        address[] members;
        mapping(address signer => bool) contains;
    }

    /// @notice The set is empty, too large, not strictly ascending or contains the zero address.
    error InvalidSignerSet();
    /// @notice There are fewer seals than the quorum, or more than members.
    error WrongSealCount(uint256 given, uint256 quorum);
    /// @notice Signers must come in strictly ascending order.
    error SignersNotAscending(address previous, address next);
    /// @notice A seal was made by somebody outside the set, or over other data.
    error NotASigner(address recovered);

    /// @notice Replaces the members of a set.
    function replace(Set storage set, address[] memory members) internal {
        requireAscending(members);
        uint256 previous = set.members.length;
        for (uint256 i = 0; i < previous; ++i) {
            delete set.contains[set.members[i]];
        }
        for (uint256 i = 0; i < members.length; ++i) {
            set.contains[members[i]] = true;
        }
        set.members = members;
    }

    /// @notice keccak256 of the members as 32-byte words, in ascending order.
    function hashOf(address[] memory members) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(members));
    }

    /// @notice Seals that a set of `n` needs.
    function quorumOf(uint256 n) internal pure returns (uint256) {
        return (n + (n - 1) / 3) / 2 + 1;
    }

    /// @notice Checks one recovered signer after the one before it.
    function requireNext(Set storage set, address previous, address signer) internal view {
        require(signer > previous, SignersNotAscending(previous, signer));
        require(set.contains[signer], NotASigner(signer));
    }

    /// @notice Checks that the number of seals can be a quorum.
    function requireCount(Set storage set, uint256 count) internal view {
        uint256 n = set.members.length;
        require(count >= quorumOf(n) && count <= n, WrongSealCount(count, quorumOf(n)));
    }

    /// @notice Checks a quorum of separate 65-byte signatures.
    function requireQuorum(Set storage set, bytes32 digest, bytes[] calldata signatures) internal view {
        requireCount(set, signatures.length);
        address previous = address(0);
        for (uint256 i = 0; i < signatures.length; ++i) {
            address signer = ECDSA.recoverCalldata(digest, signatures[i]);
            requireNext(set, previous, signer);
            previous = signer;
        }
    }

    /// @notice Checks that members can be a set: 1 to `MAX_SIGNERS`, strictly ascending, none of them zero.
    function requireAscending(address[] memory members) internal pure {
        require(members.length > 0 && members.length <= MAX_SIGNERS, InvalidSignerSet());
        address previous = address(0);
        for (uint256 i = 0; i < members.length; ++i) {
            require(members[i] > previous, InvalidSignerSet());
            previous = members[i];
        }
    }
}
