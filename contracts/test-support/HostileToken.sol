// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice A token that misbehaves on demand: it keeps a fee, calls back while it is being
/// moved, or moves nothing and answers false. Tests only.
contract HostileToken is ERC20 {
    uint256 public keeps;
    bool public answersFalse;
    address public callbackTo;
    bytes public callbackData;
    bool public lastCallbackSucceeded;
    bytes public lastCallbackError;

    constructor() ERC20("Hostile", "HST") {
        _mint(msg.sender, 1e24);
    }

    function keepFee(uint256 amount) external {
        keeps = amount;
    }

    function callBack(address to, bytes calldata data) external {
        callbackTo = to;
        callbackData = data;
    }

    function answerFalse(bool answersFalse_) external {
        answersFalse = answersFalse_;
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        return !answersFalse && super.transferFrom(from, to, value);
    }

    function _update(address from, address to, uint256 value) internal override {
        address target = callbackTo;
        if (target != address(0)) {
            callbackTo = address(0);
            (lastCallbackSucceeded, lastCallbackError) = target.call(callbackData);
        }
        if (keeps > 0 && from != address(0) && to != address(0)) {
            super._update(from, address(this), keeps);
            value -= keeps;
        }
        super._update(from, to, value);
    }
}
