// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice An account or market that refuses payments, or calls back when it is paid. Tests only.
contract HostileReceiver {
    bool public refuses;
    address public callbackTo;
    bytes public callbackData;
    bool public lastCallbackSucceeded;
    bytes public lastCallbackError;

    function refuse(bool refuses_) external {
        refuses = refuses_;
    }

    function callBack(address to, bytes calldata data) external {
        callbackTo = to;
        callbackData = data;
    }

    /// @notice Calls another contract as this account.
    function act(address to, uint256 value, bytes calldata data) external payable {
        (bool succeeded, bytes memory result) = to.call{value: value}(data);
        if (!succeeded) {
            assembly ("memory-safe") {
                revert(add(result, 0x20), mload(result))
            }
        }
    }

    /// @notice What the confidential token calls when it pays a market.
    function receivePeth() external payable {
        _received();
    }

    receive() external payable {
        _received();
    }

    function _received() private {
        require(!refuses, "refused");
        address target = callbackTo;
        if (target != address(0)) {
            callbackTo = address(0);
            (lastCallbackSucceeded, lastCallbackError) = target.call(callbackData);
        }
    }
}
