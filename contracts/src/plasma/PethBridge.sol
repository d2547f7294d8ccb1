// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title Holder of all PETH that is not in circulation
/// @notice The plasma chain's whole native supply is put here at genesis. The operator gives out exactly what was
/// deposited on the root chain, one deposit after the other; validators compare every payout with the root chain
/// before they sign a checkpoint.
/// @dev A recipient that cannot receive does not hold up the deposits behind it: its amount waits to be claimed.
/// Not here: exits.
contract PethBridge is ReentrancyGuardTransient {
    /// @notice Gas a recipient may use; enough for a contract that logs what it got.
    uint256 private constant PAYOUT_GAS = 50_000;

    address public immutable operator;
    /// @notice Deposits given out; the next deposit's nonce.
    uint256 public mintedCount;
    /// @notice Sum of them in wei.
    uint256 public mintedTotal;
    /// @notice Wei that could not be delivered and wait for their recipient.
    mapping(address recipient => uint256) public claimable;

    event Minted(uint256 indexed nonce, address indexed recipient, uint256 amount, bool delivered);
    event Claimed(address indexed recipient, address to, uint256 amount);
    event Received(address indexed from, uint256 amount);

    error NotOperator(address caller);
    error WrongNonce(uint256 expected, uint256 given);
    error NothingToClaim();
    error PaymentFailed();

    constructor(address operator_) payable {
        operator = operator_;
        emit Received(msg.sender, msg.value);
    }

    /// @notice Takes back PETH: the rest of the accounts that were funded at genesis.
    receive() external payable {
        emit Received(msg.sender, msg.value);
    }

    /// @notice Gives out the root chain's deposit `nonce`.
    /// @param nonce Number of the deposit; must be the next.
    /// @param recipient Who receives it, or may claim it when it cannot.
    /// @param amount Its wei.
    function mintFromDeposit(uint256 nonce, address recipient, uint256 amount) external nonReentrant {
        require(msg.sender == operator, NotOperator(msg.sender));
        require(nonce == mintedCount, WrongNonce(mintedCount, nonce));
        mintedCount = nonce + 1;
        mintedTotal += amount;
        bool delivered = _deliver(recipient, amount);
        if (!delivered) claimable[recipient] += amount;
        emit Minted(nonce, recipient, amount, delivered);
    }

    /// @notice Pays the caller what could not be delivered to it.
    /// @param to Account that receives it.
    function claim(address to) external nonReentrant {
        uint256 amount = claimable[msg.sender];
        require(amount > 0, NothingToClaim());
        claimable[msg.sender] = 0;
        emit Claimed(msg.sender, to, amount);
        (bool paid,) = to.call{value: amount}("");
        require(paid, PaymentFailed());
    }

    /// @dev A call that copies nothing back: the operator's gas must not depend on how much a recipient answers.
    function _deliver(address recipient, uint256 amount) private returns (bool delivered) {
        assembly ("memory-safe") {
            delivered := call(PAYOUT_GAS, recipient, amount, 0, 0, 0, 0)
        }
    }
}
