// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EventProof, IPpdlRelay} from "../interfaces/IPpdlRelay.sol";

/// @title Forecasts that the PPDL validators vouch for
/// @notice Anyone pays for a request; the replicas compute the answer with the agreed model over agreed inputs, and it
/// counts here only as an event of a relayed block. Whoever brings it earns the fee; without an answer the fee returns.
contract Inference is ReentrancyGuardTransient {
    /// @notice Hours that one answer covers.
    uint256 public constant HOURS = 24;
    bytes32 private constant EVENT_TAG = keccak256("openmg.event.inference.v1");

    enum Status {
        None,
        Open,
        Answered,
        Refunded
    }

    struct Request {
        address requester;
        uint32 microgrid;
        uint48 deadline;
        Status status;
        uint256 fee;
    }

    IPpdlRelay public immutable relay;
    /// @notice Least fee of a request, in wei.
    uint256 public immutable minFee;
    /// @notice Seconds after which an unanswered request can be refunded.
    uint256 public immutable answerSeconds;
    /// @notice Requests made so far; the newest request's id. The first is 1.
    uint256 public requestCount;
    /// @notice Requests answered so far.
    uint256 public answeredCount;
    /// @notice A request by its id.
    mapping(uint256 id => Request) public requests;

    event Requested(uint256 indexed id, address indexed requester, uint32 indexed microgrid, uint256 fee);
    event Answered(
        uint256 indexed id,
        uint32 indexed microgrid,
        uint64 asOfSlot,
        bytes32 modelHash,
        int256[24] energyWh,
        address fulfiller
    );
    event Refunded(uint256 indexed id, address indexed requester, uint256 fee);

    error FeeTooLow(uint256 given, uint256 minimum);
    error NotOpen(uint256 id);
    error DeadlineNotPassed(uint256 id);
    error EventNotProved();
    error PaymentFailed();

    constructor(IPpdlRelay relay_, uint256 minFee_, uint256 answerSeconds_) {
        relay = relay_;
        minFee = minFee_;
        answerSeconds = answerSeconds_;
    }

    /// @notice Asks for the net energy of a microgrid over the next 24 hours; what is sent, at least `minFee`, is the fee.
    /// @param microgrid Number of the microgrid.
    /// @return id Number of the request.
    function request(uint32 microgrid) external payable returns (uint256 id) {
        require(msg.value >= minFee, FeeTooLow(msg.value, minFee));
        id = ++requestCount;
        requests[id] = Request(msg.sender, microgrid, uint48(block.timestamp + answerSeconds), Status.Open, msg.value);
        emit Requested(id, msg.sender, microgrid, msg.value);
    }

    /// @notice Brings the agreed answer and earns the fee.
    /// @param id Number of the request.
    /// @param asOfSlot Last slot whose data the answer uses.
    /// @param modelHash Hash of the model that computed it.
    /// @param energyWh Net energy (import minus export) of each hour, in Wh.
    /// @param proof Where the answer stands on the PPDL chain.
    function fulfil(
        uint256 id,
        uint64 asOfSlot,
        bytes32 modelHash,
        int256[24] calldata energyWh,
        EventProof calldata proof
    ) external nonReentrant {
        Request storage r = requests[id];
        require(r.status == Status.Open, NotOpen(id));
        bytes memory leaf = abi.encode(
            EVENT_TAG,
            relay.ppdlChainId(),
            address(this),
            block.chainid,
            id,
            r.microgrid,
            asOfSlot,
            modelHash,
            keccak256(abi.encode(energyWh))
        );
        require(relay.verifyEvent(leaf, proof), EventNotProved());
        r.status = Status.Answered;
        ++answeredCount;
        emit Answered(id, r.microgrid, asOfSlot, modelHash, energyWh, msg.sender);
        _pay(msg.sender, r.fee);
    }

    /// @notice Returns the fee of a request that nobody answered in time.
    function refund(uint256 id) external nonReentrant {
        Request storage r = requests[id];
        require(r.status == Status.Open, NotOpen(id));
        require(block.timestamp > r.deadline, DeadlineNotPassed(id));
        r.status = Status.Refunded;
        emit Refunded(id, r.requester, r.fee);
        _pay(r.requester, r.fee);
    }

    function _pay(address to, uint256 amount) private {
        (bool paid,) = to.call{value: amount}("");
        require(paid, PaymentFailed());
    }
}
