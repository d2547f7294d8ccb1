// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Head} from "../lib/RelayHead.sol";

/// @title What relayers earn, and whose turn it is
/// @notice Every height that a submission adds earns a reward, once, as long as the fund lasts. While a header is younger
/// than the window, the reward belongs to the relayer whose turn the height is, whoever submits: to copy its transaction
/// earns nothing and takes nothing from it. Afterwards the first valid submission earns, whoever sends it.
/// @dev A turn is `TURN_HEIGHTS` long, so that a batch fits into one and a turn is booked once. Until then its heights are
/// counted in the head's word, which a submission writes anyway. Not here: what makes a submission valid.
abstract contract RelayerRewards is ReentrancyGuardTransient {
    /// @notice Consecutive heights of one relayer's turn.
    uint256 public constant TURN_HEIGHTS = 64;
    /// @notice Milliseconds after a header's time in which only the relayer whose turn it is earns by it.
    uint256 public constant WINDOW_MS = 4_000;
    /// @notice Relayers that may take turns.
    uint256 public constant MAX_RELAYERS = 64;
    uint256 private constant MAX_TURN_COUNT = type(uint24).max;

    /// @notice Reward in wei for every height that a submission adds, as long as the fund lasts.
    uint256 public immutable rewardPerHeight;
    /// @notice Names the relayers that take turns, and starts a client anew that is frozen or expired, late and in public.
    address public guardian;
    /// @dev Where the client stands.
    Head internal _head;
    address[] private _relayers;
    mapping(address relayer => uint256) private _earned;
    uint256 private _fund;

    event RewardClaimed(address indexed relayer, uint256 amount);
    event FundAdded(address indexed from, uint256 amount);
    event RelayersChanged(address[] relayers);
    event GuardianChanged(address indexed guardian);

    error NotGuardian(address caller);
    error InvalidRelayers();
    error NothingToClaim();
    error PaymentFailed();

    modifier onlyGuardian() {
        require(msg.sender == guardian, NotGuardian(msg.sender));
        _;
    }

    constructor(uint256 rewardPerHeight_) payable {
        rewardPerHeight = rewardPerHeight_;
        guardian = msg.sender;
        _fund = msg.value;
    }

    /// @notice Adds to the fund that pays relayers.
    function fund() external payable {
        _fund += msg.value;
        emit FundAdded(msg.sender, msg.value);
    }

    /// @notice Hands the guardian's office on; zero gives it up for ever.
    function setGuardian(address next) external onlyGuardian {
        guardian = next;
        emit GuardianChanged(next);
    }

    /// @notice Names the relayers that take turns, in their order; none means that everybody competes at once.
    function setRelayers(address[] calldata list) external onlyGuardian {
        require(list.length <= MAX_RELAYERS, InvalidRelayers());
        for (uint256 i = 0; i < list.length; ++i) {
            require(list[i] != address(0), InvalidRelayers());
        }
        _head = _book(_head).withRelayers(list.length);
        _relayers = list;
        emit RelayersChanged(list);
    }

    /// @notice Pays the caller what it has earned by relaying.
    function claimReward() external nonReentrant {
        if (_holderOf(_head) == msg.sender) _head = _book(_head);
        uint256 amount = _earned[msg.sender];
        require(amount > 0, NothingToClaim());
        _earned[msg.sender] = 0;
        emit RewardClaimed(msg.sender, amount);
        (bool paid,) = msg.sender.call{value: amount}("");
        require(paid, PaymentFailed());
    }

    /// @notice Wei a relayer may claim.
    function earned(address relayer) external view returns (uint256) {
        return _earned[relayer] + (_holderOf(_head) == relayer ? _rewardOf(_head.turnHeights()) : 0);
    }

    /// @notice Wei left for rewards.
    function rewardFund() external view returns (uint256) {
        return _fund - _rewardOf(_head.turnHeights());
    }

    /// @notice The relayers that take turns.
    function relayers() external view returns (address[] memory) {
        return _relayers;
    }

    /// @notice Whose turn a height is, or 0 when everybody competes at once.
    function relayerOf(uint256 height_) external view returns (address) {
        uint256 count = _relayers.length;
        return count == 0 ? address(0) : _relayers[(height_ / TURN_HEIGHTS) % count];
    }

    /// @dev Rewards a submission of `count` heights that ends at the head, and returns the head with it. The caller stores.
    function _reward(Head head, uint256 count) internal returns (Head) {
        uint256 taking = head.relayers();
        unchecked { // the head's fields and a count of headers are far below 2^256
            if (taking == 0 || block.timestamp * 1000 > head.timestampMs() + WINDOW_MS) {
                head = _book(head);
                _pay(msg.sender, count);
                return head;
            }
            uint256 turn = (head.height() / TURN_HEIGHTS) % taking;
            uint256 heights = head.turnHeights() + count;
            if (turn != head.turn() || heights > MAX_TURN_COUNT) {
                head = _book(head);
                heights = count;
            }
            return head.withTurn(turn, heights);
        }
    }

    /// @dev Books the heights of the turn under way to its relayer.
    function _book(Head head) private returns (Head) {
        uint256 heights = head.turnHeights();
        if (heights == 0) return head;
        _pay(_relayers[head.turn()], heights);
        return head.withTurn(0, 0);
    }

    function _pay(address relayer, uint256 heights) private {
        uint256 amount = _rewardOf(heights);
        if (amount == 0) return;
        _fund -= amount;
        _earned[relayer] += amount;
    }

    function _holderOf(Head head) private view returns (address) {
        return head.turnHeights() == 0 ? address(0) : _relayers[head.turn()];
    }

    /// @dev Never more than the fund holds.
    function _rewardOf(uint256 heights) private view returns (uint256) {
        uint256 amount = heights * rewardPerHeight;
        return amount < _fund ? amount : _fund;
    }
}
