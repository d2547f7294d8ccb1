// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Quorum} from "../lib/Quorum.sol";
import {IQuorumScheme, IQuorumVerifier} from "../interfaces/IQuorumVerifier.sol";

/// @title A set of secp256k1 signers, and the seals of 65 bytes that bind it
/// @notice Seals are r, s, v; their signers must be strictly ascending, which makes them distinct without storage.
/// @dev Behind the compiled code lie the members, a word each, then the threshold and the count, 16 bytes each: reading
/// them costs a copy of code instead of a storage read per member. Made only by `SealScheme`, which checks the members.
contract SealSet is IQuorumVerifier {
    uint256 private constant SEAL_BYTES = 65;
    /// @dev Half the order of secp256k1, rounded up: of two seals that are equally right, only that with the s below counts.
    uint256 private constant HIGH_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A1;

    /// @inheritdoc IQuorumVerifier
    function verify(bytes32 digest, bytes calldata seals) external view returns (bytes32) {
        return _verify(digest, seals);
    }

    /// @inheritdoc IQuorumVerifier
    function signersOf(bytes32 digest, bytes calldata seals) external view returns (address[] memory signers) {
        _verify(digest, seals);
        signers = new address[](seals.length / SEAL_BYTES);
        for (uint256 i = 0; i < signers.length; ++i) {
            signers[i] = _signerOf(digest, seals, i);
        }
    }

    /// @inheritdoc IQuorumVerifier
    function setHash() external pure returns (bytes32) {
        (address[] memory set,) = _load();
        return _hashOf(set);
    }

    /// @inheritdoc IQuorumVerifier
    function members() external pure returns (address[] memory set) {
        (set,) = _load();
    }

    /// @inheritdoc IQuorumVerifier
    function contains(address signer) external pure returns (bool) {
        (address[] memory set,) = _load();
        for (uint256 i = 0; i < set.length; ++i) {
            if (set[i] == signer) return true;
        }
        return false;
    }

    /// @dev Signers and members both ascend, so one walk over the members finds every signer, and one that is not above
    /// the signer before it is not found. Behind the members stands a word above all addresses, where the walk ends.
    function _verify(bytes32 digest, bytes calldata seals) private view returns (bytes32) {
        (address[] memory set, uint256 threshold) = _load();
        uint256 count = seals.length / SEAL_BYTES;
        bool right = seals.length % SEAL_BYTES == 0 && count >= threshold && count <= set.length;
        require(right, Quorum.WrongSealCount(count, threshold));
        uint256 member;
        uint256 input;
        assembly ("memory-safe") {
            member := add(set, 32)
            input := mload(0x40)
            mstore(input, digest)
        }
        for (uint256 i = 0; i < count; ++i) {
            bool found;
            assembly ("memory-safe") {
                let seal := add(seals.offset, mul(i, SEAL_BYTES))
                mstore(add(input, 32), byte(0, calldataload(add(seal, 64))))
                calldatacopy(add(input, 64), seal, 64)
                mstore(0, 0)
                pop(staticcall(gas(), 1, input, 128, 0, 32))
                let signer := mload(0)
                for {} lt(mload(member), signer) {} { member := add(member, 32) }
                found := and(eq(mload(member), signer), lt(mload(add(input, 96)), HIGH_S))
                member := add(member, 32)
            }
            if (!found) _refuse(digest, seals, i);
        }
        return _hashOf(set);
    }

    /// @dev Says why seal number `i` does not count.
    function _refuse(bytes32 digest, bytes calldata seals, uint256 i) private pure {
        address signer = _signerOf(digest, seals, i);
        address previous = i == 0 ? address(0) : _signerOf(digest, seals, i - 1);
        require(signer > previous, Quorum.SignersNotAscending(previous, signer));
        revert Quorum.NotASigner(signer);
    }

    /// @dev Reverts for a high s, a v outside {27, 28} and the zero address.
    function _signerOf(bytes32 digest, bytes calldata seals, uint256 i) private pure returns (address) {
        return ECDSA.recoverCalldata(digest, seals[i * SEAL_BYTES:(i + 1) * SEAL_BYTES]);
    }

    function _hashOf(address[] memory set) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            hash := keccak256(add(set, 32), mul(mload(set), 32))
        }
    }

    /// @dev The last word of the code is threshold and count; before it lie the members.
    function _load() private pure returns (address[] memory set, uint256 threshold) {
        assembly ("memory-safe") {
            codecopy(0, sub(codesize(), 32), 32)
            let last := mload(0)
            threshold := shr(128, last)
            let count := and(last, 0xffffffffffffffffffffffffffffffff)
            let size := mul(count, 32)
            set := mload(0x40)
            mstore(set, count)
            codecopy(add(set, 32), sub(sub(codesize(), 32), size), size)
            let end := add(add(set, 32), size)
            mstore(end, not(0)) // above all addresses: where a walk over the members ends
            mstore(0x40, add(end, 32))
        }
    }
}

/// @title Makes the verifiers of sets of secp256k1 signers
contract SealScheme is IQuorumScheme {
    /// @dev Copies all that follows these eleven bytes to memory and returns it as the new contract's code.
    bytes private constant RETURN_THE_REST = hex"600b80380380915f395ff3";

    /// @inheritdoc IQuorumScheme
    function creationCode(address[] calldata members, uint256 threshold) external pure returns (bytes memory) {
        Quorum.requireAscending(members);
        uint256 needed = threshold == 0 ? Quorum.quorumOf(members.length) : threshold;
        require(needed <= members.length, Quorum.InvalidSignerSet());
        return abi.encodePacked(RETURN_THE_REST, type(SealSet).runtimeCode, members, (needed << 128) | members.length);
    }
}
