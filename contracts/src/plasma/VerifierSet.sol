// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Circuits} from "../lib/Circuits.sol";

/// @title The verifiers of all circuits, which change slowly and in public
/// @notice The guardian proposes a verifier; after the delay, and for some days, anybody makes it count. The delay is
/// longer than an exit takes, so whoever distrusts a new verifier leaves before it counts.
/// @dev `circuitSet` names the seven verifiers together. Proofs bind it through `ext`: a proof made for one set is void
/// under another, and wallets prove again. Whether a contract verifies the right circuit cannot be seen here: its
/// CIRCUIT_HASH and KEY_HASH can be read during the delay. Not here: where the exit window comes from.
contract VerifierSet {
    /// @notice Longest delay: far beyond any use, and far below what 64 bits of time could not hold.
    uint256 public constant MAX_DELAY_SECONDS = 3650 days;
    /// @notice Seconds after its delay in which a proposal can be made to count; later nobody may be watching it.
    uint256 public constant GRACE_SECONDS = 7 days;
    /// @notice May propose and cancel; nothing else.
    address public immutable guardian;
    /// @notice Seconds that an exit takes at most.
    uint256 public immutable exitWindowSeconds;
    /// @notice Seconds from a proposal to the first moment at which it can be made to count.
    uint256 public immutable delaySeconds;

    /// @param verifier The contract proposed, or 0 when none is.
    /// @param activeFrom First Unix second at which it can be activated.
    struct Proposal {
        address verifier;
        uint64 activeFrom;
    }

    /// @notice keccak256(abi.encode(address[7])) of the verifiers that count, in the order of `Circuits`.
    bytes32 public circuitSet;
    address[7] private _verifiers;
    mapping(uint8 circuit => Proposal) private _proposals;

    event VerifierProposed(uint8 indexed circuit, address indexed verifier, uint64 activeFrom);
    event VerifierCancelled(uint8 indexed circuit, address indexed verifier);
    event VerifierActivated(uint8 indexed circuit, address indexed verifier, bytes32 circuitSet);

    error NotGuardian(address caller);
    error DelayTooShort(uint256 delaySeconds, uint256 exitWindowSeconds);
    error DelayTooLong(uint256 delaySeconds, uint256 maxDelaySeconds);
    error NoCode(address verifier);
    error UnknownCircuit(uint8 circuit);
    error NothingProposed(uint8 circuit);
    error TooEarly(uint256 activeFrom, uint256 time);
    error ProposalStale(uint256 activeUntil, uint256 time);

    modifier onlyGuardian() {
        require(msg.sender == guardian, NotGuardian(msg.sender));
        _;
    }

    constructor(address guardian_, uint256 exitWindowSeconds_, uint256 delaySeconds_, address[7] memory verifiers_) {
        require(delaySeconds_ > exitWindowSeconds_, DelayTooShort(delaySeconds_, exitWindowSeconds_));
        require(delaySeconds_ <= MAX_DELAY_SECONDS, DelayTooLong(delaySeconds_, MAX_DELAY_SECONDS));
        guardian = guardian_;
        exitWindowSeconds = exitWindowSeconds_;
        delaySeconds = delaySeconds_;
        for (uint8 circuit = 0; circuit < Circuits.COUNT; ++circuit) {
            _requireCode(verifiers_[circuit]);
            emit VerifierActivated(circuit, verifiers_[circuit], keccak256(abi.encode(verifiers_)));
        }
        _verifiers = verifiers_;
        circuitSet = keccak256(abi.encode(verifiers_));
    }

    /// @notice The verifier of a circuit that counts now; numbers as in `Circuits`.
    function verifierOf(uint8 circuit) external view returns (address) {
        _requireCircuit(circuit);
        return _verifiers[circuit];
    }

    /// @notice What is proposed for a circuit and from when it can be activated; zeros when nothing is.
    function proposalOf(uint8 circuit) external view returns (address verifier, uint64 activeFrom) {
        Proposal storage proposal = _proposals[circuit];
        return (proposal.verifier, proposal.activeFrom);
    }

    /// @notice Proposes a verifier; one proposed before for the circuit is forgotten, and the delay begins anew.
    function propose(uint8 circuit, address verifier) external onlyGuardian {
        _requireCircuit(circuit);
        _requireCode(verifier);
        uint64 activeFrom = uint64(block.timestamp + delaySeconds);
        _proposals[circuit] = Proposal(verifier, activeFrom);
        emit VerifierProposed(circuit, verifier, activeFrom);
    }

    /// @notice Takes a proposal back.
    function cancel(uint8 circuit) external onlyGuardian {
        address verifier = _proposals[circuit].verifier;
        require(verifier != address(0), NothingProposed(circuit));
        delete _proposals[circuit];
        emit VerifierCancelled(circuit, verifier);
    }

    /// @notice Makes a proposed verifier count, once its delay is over and until it is stale. Anybody may call this.
    function activate(uint8 circuit) external {
        Proposal memory proposal = _proposals[circuit];
        require(proposal.verifier != address(0), NothingProposed(circuit));
        require(block.timestamp >= proposal.activeFrom, TooEarly(proposal.activeFrom, block.timestamp));
        uint256 activeUntil = proposal.activeFrom + GRACE_SECONDS;
        require(block.timestamp <= activeUntil, ProposalStale(activeUntil, block.timestamp));
        _requireCode(proposal.verifier);
        delete _proposals[circuit];
        _verifiers[circuit] = proposal.verifier;
        bytes32 set = keccak256(abi.encode(_verifiers));
        circuitSet = set;
        emit VerifierActivated(circuit, proposal.verifier, set);
    }

    function _requireCircuit(uint8 circuit) private pure {
        require(circuit < Circuits.COUNT, UnknownCircuit(circuit));
    }

    function _requireCode(address verifier) private view {
        require(verifier.code.length > 0, NoCode(verifier));
    }
}
