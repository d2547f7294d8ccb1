// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Where a contract stands that another contract has created
/// @notice The address is the hash of the creator and of how many contracts it had created before (EIP-161 starts at 1),
/// so a creator that counts needs no storage to find what it has created.
library CreatedAddress {
    /// @notice Address of the contract that `creator` made with `nonce`, 1 to 65535.
    function addressOf(address creator, uint256 nonce) internal pure returns (address) {
        bytes32 hash;
        // RLP of [creator, nonce]: lengths, 20 bytes, and the nonce in 0, 1 or 2 bytes behind its length
        (uint256 head, uint256 tail, uint256 size) = nonce < 0x80
            ? (0xd694, nonce << 72, 23)
            : nonce < 0x100 ? (0xd794, 0x81 << 72 | nonce << 64, 24) : (0xd894, 0x82 << 72 | nonce << 56, 25);
        assembly ("memory-safe") {
            mstore(0, or(or(shl(240, head), shl(80, creator)), tail))
            hash := keccak256(0, size)
        }
        return address(uint160(uint256(hash)));
    }
}
