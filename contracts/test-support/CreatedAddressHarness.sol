// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CreatedAddress} from "../src/lib/CreatedAddress.sol";

/// @title Lets tests compute addresses as the relay does
contract CreatedAddressHarness {
    function addressOf(address creator, uint256 nonce) external pure returns (address) {
        return CreatedAddress.addressOf(creator, nonce);
    }
}
