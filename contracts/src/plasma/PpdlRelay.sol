// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EventTree} from "../lib/EventTree.sol";
import {Quorum} from "../lib/Quorum.sol";
import {EventProof, IPpdlRelay} from "../interfaces/IPpdlRelay.sol";

/// @title Light client of the PPDL chain
/// @notice Takes hash-linked headers in order; a quorum certificate over the last one proves all of a batch, because
/// each header names its parent. The chain decides by PBFT, so there is no fork to choose. Anyone may relay: the first
/// valid submission of a height earns its reward, a later one reverts before any signature is checked.
/// @dev A header is ten words: tag, chain id, height, parent hash, timestamp (ms), proposer, transaction root,
/// application hash, validator set hash, next validator set hash. Not here: evidence of equivocation.
contract PpdlRelay is IPpdlRelay, ReentrancyGuardTransient {
    using Quorum for Quorum.Set;

    uint256 private constant HEADER_BYTES = 320;
    /// @notice Headers in one submission; 256 storage writes stay below a tenth of a 60 Mgas block.
    uint256 public constant MAX_BATCH = 256;
    bytes32 private constant HEADER_TAG = keccak256("openmg.ppdl.header.v1");
    bytes32 private constant COMMIT_TAG = keccak256("PPDL-COMMIT-V1");
    bytes32 private constant APP_TAG = keccak256("openmg.ppdl.app.v1");

    /// @inheritdoc IPpdlRelay
    uint256 public immutable ppdlChainId;
    /// @notice Parent hash of the first header; every seal names it.
    bytes32 public immutable genesisHash;
    /// @notice Reward in wei for every height that a submission adds, as long as the fund lasts.
    uint256 public immutable rewardPerHeight;
    /// @notice How far, in milliseconds, a header's time may lie ahead of this chain's.
    uint256 public immutable maxDriftMs;

    /// @notice Highest relayed height; 0 before the first header.
    uint256 public height;
    /// @notice Hash of the header at `height`, or `genesisHash`.
    bytes32 public lastHeaderHash;
    /// @notice Its time, Unix milliseconds.
    uint256 public lastTimestampMs;
    /// @notice Hash of the set whose seals are trusted for the next header.
    bytes32 public validatorsHash;
    /// @notice Announced set that must be given to `applyValidators` first; 0 when there is none.
    bytes32 public pendingValidatorsHash;
    /// @notice Application hash in the header of a height, that is, after the block before it.
    mapping(uint256 height => bytes32) public appHashAt;
    /// @notice Wei a relayer may claim.
    mapping(address relayer => uint256) public earned;
    /// @notice Wei left for rewards.
    uint256 public rewardFund;
    Quorum.Set private _validators;

    event HeadersRelayed(address indexed relayer, uint256 fromHeight, uint256 toHeight, bytes32 headerHash);
    event ValidatorsChanged(bytes32 indexed validatorsHash, uint256 count);
    event RewardClaimed(address indexed relayer, uint256 amount);
    event FundAdded(address indexed from, uint256 amount);

    error MalformedBatch(uint256 length);
    error WrongHeader(uint256 expectedHeight, uint256 field);
    error ValidatorChangePending();
    error NoValidatorChangePending();
    error WrongValidators();
    error NothingToClaim();
    error PaymentFailed();

    constructor(
        uint256 ppdlChainId_,
        bytes32 genesisHash_,
        address[] memory validators_,
        uint256 rewardPerHeight_,
        uint256 maxDriftMs_
    ) payable {
        ppdlChainId = ppdlChainId_;
        genesisHash = genesisHash_;
        lastHeaderHash = genesisHash_;
        rewardPerHeight = rewardPerHeight_;
        maxDriftMs = maxDriftMs_;
        rewardFund = msg.value;
        _validators.replace(validators_);
        validatorsHash = Quorum.hashOf(validators_);
    }

    /// @notice Adds to the fund that pays relayers.
    function fund() external payable {
        rewardFund += msg.value;
        emit FundAdded(msg.sender, msg.value);
    }

    /// @notice Relays the next headers.
    /// @param headers Consecutive headers of 320 bytes, the first at `height() + 1`.
    /// @param view_ PBFT view in which the last of them was committed.
    /// @param seals Commit seals over the last header, 65 bytes each, signers ascending, a quorum or more.
    function submitHeaders(bytes calldata headers, uint256 view_, bytes calldata seals) external {
        uint256 count = headers.length / HEADER_BYTES;
        require(count > 0 && count <= MAX_BATCH && headers.length % HEADER_BYTES == 0, MalformedBatch(headers.length));
        require(pendingValidatorsHash == 0, ValidatorChangePending());
        uint256 first = height + 1;
        bytes32 hash = _linkHeaders(headers, first, count);
        uint256 last = first + count - 1;
        bytes32 seal = keccak256(abi.encode(COMMIT_TAG, ppdlChainId, genesisHash, last, view_, hash));
        _validators.requirePackedQuorum(seal, seals);
        height = last;
        lastHeaderHash = hash;
        _reward(count);
        emit HeadersRelayed(msg.sender, first, last, hash);
    }

    /// @notice Installs the set that the last relayed header announced for the next height.
    /// @param members The announced validators, ascending.
    function applyValidators(address[] calldata members) external {
        bytes32 pending = pendingValidatorsHash;
        require(pending != 0, NoValidatorChangePending());
        require(Quorum.hashOf(members) == pending, WrongValidators());
        _validators.replace(members);
        validatorsHash = pending;
        pendingValidatorsHash = 0;
        emit ValidatorsChanged(pending, members.length);
    }

    /// @notice Pays the caller what it has earned by relaying.
    function claimReward() external nonReentrant {
        uint256 amount = earned[msg.sender];
        require(amount > 0, NothingToClaim());
        earned[msg.sender] = 0;
        emit RewardClaimed(msg.sender, amount);
        (bool paid,) = msg.sender.call{value: amount}("");
        require(paid, PaymentFailed());
    }

    /// @inheritdoc IPpdlRelay
    function verifyEvent(bytes memory leaf, EventProof calldata proof) external view returns (bool) {
        bytes32 appHash = appHashAt[proof.height + 1];
        (bytes32 eventsRoot, bool complete) = EventTree.rootOf(leaf, proof.index, proof.count, proof.siblings);
        bytes32 claimed = keccak256(abi.encode(APP_TAG, proof.stateHash, eventsRoot, proof.modelHash));
        return appHash != 0 && complete && appHash == claimed;
    }

    /// @notice The validators whose seals are trusted now, ascending.
    function validators() external view returns (address[] memory) {
        return _validators.members;
    }

    /// @dev Checks the chain of headers and records their application hashes. Fields are numbered as in the header.
    function _linkHeaders(bytes calldata headers, uint256 first, uint256 count) private returns (bytes32 hash) {
        bytes32 trusted = validatorsHash;
        uint256 time = lastTimestampMs;
        hash = lastHeaderHash;
        for (uint256 i = 0; i < count; ++i) {
            bytes calldata header = headers[i * HEADER_BYTES:(i + 1) * HEADER_BYTES];
            uint256 number = first + i;
            require(_word(header, 0) == HEADER_TAG, WrongHeader(number, 0));
            require(uint256(_word(header, 1)) == ppdlChainId, WrongHeader(number, 1));
            require(uint256(_word(header, 2)) == number, WrongHeader(number, 2));
            require(_word(header, 3) == hash, WrongHeader(number, 3));
            require(uint256(_word(header, 4)) >= time, WrongHeader(number, 4));
            require(_word(header, 8) == trusted, WrongHeader(number, 8));
            bytes32 next = _word(header, 9);
            // Only the last header of a batch may announce a new set: its successor is sealed by that set.
            require(next == trusted || i == count - 1, WrongHeader(number, 9));
            if (next != trusted) pendingValidatorsHash = next;
            time = uint256(_word(header, 4));
            hash = keccak256(header);
            appHashAt[number] = _word(header, 7);
        }
        require(time <= block.timestamp * 1000 + maxDriftMs, WrongHeader(first + count - 1, 4));
        lastTimestampMs = time;
    }

    function _reward(uint256 count) private {
        uint256 amount = count * rewardPerHeight;
        if (amount > rewardFund) amount = rewardFund;
        rewardFund -= amount;
        earned[msg.sender] += amount;
    }

    function _word(bytes calldata header, uint256 field) private pure returns (bytes32) {
        return bytes32(header[field * 32:(field + 1) * 32]);
    }
}
