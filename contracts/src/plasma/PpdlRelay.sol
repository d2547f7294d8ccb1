// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EventTree} from "../lib/EventTree.sol";
import {Head} from "../lib/RelayHead.sol";
import {Quorum} from "../lib/Quorum.sol";
import {RelayerRewards} from "../relay/RelayerRewards.sol";
import {SealScheme} from "../relay/SealSet.sol";
import {Certificate, ValidatorSets} from "../relay/ValidatorSets.sol";
import {EventProof} from "../interfaces/IPpdlRelay.sol";

/// @notice What a light client does not know of the next header, if that announces no new set.
/// @param timeViewProposer Timestamp in ms (64 bits), PBFT view in which the header was committed (32), proposer (160).
/// @param txRoot Transaction root.
/// @param appHash Application hash.
/// @param setHash Hash of the set in force, which the header names twice.
struct BriefHeader {
    uint256 timeViewProposer;
    bytes32 txRoot;
    bytes32 appHash;
    bytes32 setHash;
}

/// @title Light client of the PPDL chain
/// @notice Takes hash-linked headers in order; a quorum certificate over the last one proves all of a batch, because each
/// header names its parent. The chain decides by PBFT, so there is no branch to choose: two certificates for one height
/// freeze the client. A set that nobody heard of for the trusting period is trusted no more. Out of both only the guardian
/// leads, by naming a header to start anew from, after a delay and in public; it can do nothing else to what is relayed.
/// @dev A header is ten words: tag, chain id, height, parent hash, timestamp (ms), proposer, transaction root,
/// application hash, validator set hash, next validator set hash. The trusting period counts from the moment a header was
/// accepted: bonds (`SealBonds`) are locked for as long as *this* client trusts their owner and for longer than a trusting
/// period afterwards, so whoever can sign what is accepted here can lose its bond here.
contract PpdlRelay is ValidatorSets {
    /// @dev Selector and argument of `submitHeader`.
    uint256 private constant BRIEF_CALL_BYTES = 132;
    /// @notice Headers in one submission; 256 storage writes stay below a tenth of a 60 Mgas block.
    uint256 public constant MAX_BATCH = 256;
    /// @notice Heights whose application hash is kept: 36 hours at two blocks a second. Older ones give their place.
    uint256 public constant HISTORY_HEIGHTS = 2 ** 18;
    /// @notice Seconds without a new header after which the set in force is trusted no more.
    uint256 public constant TRUSTING_SECONDS = 14 days;
    /// @notice Seconds from the guardian's proposal of a new start to the first moment at which it counts.
    uint256 public constant RESTART_SECONDS = 14 days;
    /// @dev Keeps every accepted time below `MAX_TIME`.
    uint256 private constant MAX_DRIFT_MS = 2 ** 63;
    /// @dev Marks a place of the history that is paid for and holds nothing.
    bytes32 private constant PREPARED = bytes32(uint256(1));

    /// @notice How far, in milliseconds, a header's time may lie ahead of this chain's.
    uint256 public immutable maxDriftMs;

    /// @notice Hash of the header at `height`, or `genesisHash`.
    bytes32 public lastHeaderHash;
    /// @notice Announced set that must be given to `applyValidators` first; 0 when there is none.
    bytes32 public pendingValidatorsHash;
    /// @notice keccak256(abi.encode(header, members)) of the proposed new start; 0 when there is none.
    bytes32 public proposedRestart;
    /// @notice First Unix second at which it counts.
    uint256 public restartFrom;
    bytes32[HISTORY_HEIGHTS] private _appHashes;

    event HeadersRelayed(address indexed relayer, uint256 fromHeight, uint256 toHeight, bytes32 headerHash);
    event Frozen(uint256 indexed height, bytes32 oneHash, bytes32 otherHash, address reporter);
    event RestartProposed(bytes32 indexed headerHash, uint256 restartFrom);
    event Restarted(uint256 indexed height, bytes32 headerHash);

    error ValidatorChangePending();
    error NoValidatorChangePending();
    error WrongValidators();
    error RelayFrozen();
    error TrustExpired(uint256 acceptedAt);
    error StillTrusted();
    error NotProposed();
    error TooEarly(uint256 restartFrom);
    error DriftTooLong(uint256 maxDriftMs);

    constructor(
        uint256 ppdlChainId_,
        bytes32 genesisHash_,
        address[] memory validators_,
        uint256 rewardPerHeight_,
        uint256 maxDriftMs_
    )
        payable
        RelayerRewards(rewardPerHeight_)
        ValidatorSets(ppdlChainId_, genesisHash_, new SealScheme(), validators_)
    {
        lastHeaderHash = genesisHash_;
        require(maxDriftMs_ <= MAX_DRIFT_MS, DriftTooLong(maxDriftMs_));
        maxDriftMs = maxDriftMs_;
        _head = _head.withTip(0, 0, block.timestamp);
    }

    // ---- headers -----------------------------------------------------------------------------------------------

    /// @notice Relays the next headers.
    /// @param headers Consecutive headers of 320 bytes, the first at `height() + 1`.
    /// @param view_ PBFT view in which the last of them was committed.
    /// @param seals Commit seals over the last header, as the scheme wants them, signers ascending, a quorum or more.
    function submitHeaders(bytes calldata headers, uint256 view_, bytes calldata seals) external {
        uint256 count = headers.length / HEADER_BYTES;
        require(count > 0 && count <= MAX_BATCH && headers.length % HEADER_BYTES == 0, MalformedBatch(headers.length));
        (Head head, bytes32 hash) = _link(_openHead(), headers);
        _accept(head, hash, _word(headers, 8 * 32), view_, seals);
        _head = _reward(head, count);
        emit HeadersRelayed(msg.sender, head.height() + 1 - count, head.height(), hash);
    }

    /// @notice Relays one header that announces no new set, with less call data.
    /// @dev The seals follow the argument in the call data, bare: their offset, length and padding would cost 500 gas.
    /// @param brief What the client does not know of it.
    function submitHeader(BriefHeader calldata brief) external {
        Head head = _openHead();
        uint256 number = head.height() + 1;
        uint256 time = brief.timeViewProposer >> 192;
        require(time >= head.timestampMs(), WrongHeader(number, 4));
        bytes32 hash = _hashBrief(brief, number);
        _appHashes[number % HISTORY_HEIGHTS] = brief.appHash;
        head = _withTip(head, number, time);
        _accept(head, hash, brief.setHash, uint32(brief.timeViewProposer >> 160), msg.data[BRIEF_CALL_BYTES:]);
        _head = _reward(head, 1);
        emit HeadersRelayed(msg.sender, number, number, hash);
    }

    /// @notice Installs the set that the last relayed header announced for the next height.
    /// @param members The announced validators, ascending.
    function applyValidators(address[] calldata members) external {
        require(_head.pending(), NoValidatorChangePending());
        require(Quorum.hashOf(members) == pendingValidatorsHash, WrongValidators());
        pendingValidatorsHash = 0;
        _install(_head.withPending(false), members);
    }

    /// @notice Pays now for the places of the next heights in the history, so that relaying them costs less.
    /// @param count How many; a place that is used already costs nothing more.
    function prepareHistory(uint256 count) external {
        uint256 next = _head.height() + 1;
        for (uint256 i = 0; i < count && i < HISTORY_HEIGHTS; ++i) {
            uint256 place = (next + i) % HISTORY_HEIGHTS;
            if (_appHashes[place] == 0) _appHashes[place] = PREPARED;
        }
    }

    // ---- forks and new starts ----------------------------------------------------------------------------------

    /// @notice Proof that the chain forked: two certificates of one set for different headers of one height.
    /// @dev A proof stays one while the set is in force and until its bonds may have left.
    function freeze(uint256 setNumber_, Certificate calldata one, Certificate calldata other) external {
        (uint256 forked, bytes32 oneHash, bytes32 otherHash) = _conflict(setNumber_, one, other);
        require(!_head.frozen(), RelayFrozen());
        require(forked > _head.startHeight(), NoConflict()); // what a new start has settled is settled
        _head = _head.withFrozen(true);
        emit Frozen(forked, oneHash, otherHash, msg.sender);
    }

    /// @notice Names a header to start anew from, once `RESTART_SECONDS` have passed, and the set for the height after it.
    /// @dev Only of a client that is frozen or expired. The header carries no seals: they could prove nothing any more.
    function proposeRestart(bytes calldata header, address[] calldata members) external onlyGuardian {
        _requireLost(_head);
        _requireHeader(header);
        require(Quorum.hashOf(members) == _word(header, 288), WrongValidators());
        bytes32 proposed = keccak256(abi.encode(header, members));
        proposedRestart = proposed;
        restartFrom = block.timestamp + RESTART_SECONDS;
        emit RestartProposed(keccak256(header), restartFrom);
    }

    /// @notice Makes a proposed new start count once its delay is over. Anybody may call this.
    /// @dev Application hashes known before are given up: they may be those of the wrong branch.
    function restart(bytes calldata header, address[] calldata members) external {
        Head head = _head;
        _requireLost(head);
        require(keccak256(abi.encode(header, members)) == proposedRestart, NotProposed());
        require(block.timestamp >= restartFrom, TooEarly(restartFrom));
        proposedRestart = 0;
        pendingValidatorsHash = 0;
        lastHeaderHash = keccak256(header);
        uint256 number = uint256(_word(header, 64));
        _appHashes[number % HISTORY_HEIGHTS] = _word(header, 224);
        head = head.withTip(number, uint256(_word(header, 128)), block.timestamp).withStartHeight(number);
        _install(head.withPending(false).withFrozen(false), members);
        emit Restarted(number, lastHeaderHash);
    }

    // ---- what others ask ---------------------------------------------------------------------------------------

    /// @notice Highest relayed height; 0 before the first header.
    function height() external view returns (uint256) {
        return _head.height();
    }

    /// @notice Time of that header, Unix milliseconds.
    function lastTimestampMs() external view returns (uint256) {
        return _head.timestampMs();
    }

    /// @notice Unix second from which the set in force is trusted no more, unless a header comes.
    function trustedUntil() external view returns (uint256) {
        return _head.acceptedAt() + TRUSTING_SECONDS + 1;
    }

    /// @notice Application hash in the header of a height, that is, after the block before it; 0 when it is not known.
    function appHashAt(uint256 height_) public view returns (bytes32) {
        uint256 last = _head.height();
        bool known =
            height_ > 0 && height_ >= _head.startHeight() && height_ <= last && height_ + HISTORY_HEIGHTS > last;
        return known ? _appHashes[height_ % HISTORY_HEIGHTS] : bytes32(0);
    }

    /// @notice Whether a fork was proved; nothing enters and nothing can be proved then.
    function frozen() public view returns (bool) {
        return _head.frozen();
    }

    /// @notice Whether this application hash stands in the relayed header of the height.
    function isFinal(uint256 height_, bytes32 appHash) external view returns (bool) {
        return appHash != 0 && !frozen() && appHashAt(height_) == appHash;
    }

    /// @notice Whether the leaf is an event of a relayed block.
    function verifyEvent(bytes memory leaf, EventProof calldata proof) external view returns (bool) {
        require(!frozen(), RelayFrozen());
        return EventTree.proves(appHashAt(proof.height + 1), leaf, proof);
    }

    // ---- inner parts -------------------------------------------------------------------------------------------

    /// @dev The head, if headers may enter now.
    function _openHead() private view returns (Head head) {
        head = _head;
        if (head.closed()) require(!head.frozen(), RelayFrozen());
        require(!_expired(head), TrustExpired(head.acceptedAt()));
        if (head.closed()) revert ValidatorChangePending();
    }

    /// @dev Checks that the headers follow the head, and records what they hold.
    function _link(Head head, bytes calldata headers) private returns (Head, bytes32 hash) {
        uint256 number = head.height();
        uint256 time = head.timestampMs();
        bytes32 trusted = _word(headers, 8 * 32);
        hash = lastHeaderHash;
        for (uint256 offset = 0; offset < headers.length; offset += HEADER_BYTES) {
            ++number;
            require(_word(headers, offset) == HEADER_TAG, WrongHeader(number, 0));
            require(uint256(_word(headers, offset + 32)) == ppdlChainId, WrongHeader(number, 1));
            require(uint256(_word(headers, offset + 64)) == number, WrongHeader(number, 2));
            require(_word(headers, offset + 96) == hash, WrongHeader(number, 3));
            require(uint256(_word(headers, offset + 128)) >= time, WrongHeader(number, 4));
            require(_word(headers, offset + 256) == trusted, WrongHeader(number, 8));
            if (_word(headers, offset + 288) != trusted) {
                // Only the last header of a batch may announce a set: the old set must seal the end of its own reign.
                require(offset + HEADER_BYTES == headers.length, WrongHeader(number, 9));
                pendingValidatorsHash = _word(headers, offset + 288);
                head = head.withPending(true);
            }
            time = uint256(_word(headers, offset + 128));
            hash = _hashHeader(headers, offset);
            _appHashes[number % HISTORY_HEIGHTS] = _word(headers, offset + 224);
        }
        return (_withTip(head, number, time), hash);
    }

    /// @dev The head at a new tip, whose time must not lie too far ahead of this chain's.
    function _withTip(Head head, uint256 number, uint256 time) private view returns (Head) {
        require(number <= MAX_HEIGHT, WrongHeader(number, 2));
        unchecked { // both are far below 2^64
            require(time <= block.timestamp * 1000 + maxDriftMs, WrongHeader(number, 4));
        }
        return head.withTip(number, time, block.timestamp);
    }

    /// @dev Requires that a quorum of the set in force, which the header must name, has sealed the tip.
    function _accept(Head head, bytes32 hash, bytes32 named, uint256 view_, bytes calldata seals) private {
        bytes32 digest = sealDigest(head.height(), view_, hash);
        bytes32 sealing = _verify(verifierOf(head.setNumber()), digest, seals);
        require(sealing == named, WrongHeader(head.height(), 8));
        lastHeaderHash = hash;
    }

    function _requireLost(Head head) private view {
        require(head.frozen() || _expired(head), StillTrusted());
    }

    function _expired(Head head) private view returns (bool) {
        unchecked { // the head holds 40 bits
            return block.timestamp > head.acceptedAt() + TRUSTING_SECONDS;
        }
    }

    /// @dev Hash of the header that the brief stands for.
    function _hashBrief(BriefHeader calldata brief, uint256 height_) private view returns (bytes32) {
        bytes32 parent = lastHeaderHash;
        bytes32 tag = HEADER_TAG;
        uint256 chainId = ppdlChainId;
        bytes32 hash;
        assembly ("memory-safe") {
            let place := mload(0x40)
            mstore(place, tag)
            mstore(add(place, 32), chainId)
            mstore(add(place, 64), height_)
            mstore(add(place, 96), parent)
            mstore(add(place, 128), shr(192, calldataload(brief)))
            mstore(add(place, 160), shr(96, shl(96, calldataload(brief))))
            calldatacopy(add(place, 192), add(brief, 32), 96) // transaction root, application hash, set
            mstore(add(place, 288), calldataload(add(brief, 96))) // the next set is the same
            hash := keccak256(place, HEADER_BYTES)
        }
        return hash;
    }

    /// @dev The caller has checked that the data reach 320 bytes beyond `offset`. Free memory is used and not kept.
    function _hashHeader(bytes calldata data, uint256 offset) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let place := mload(0x40)
            calldatacopy(place, add(data.offset, offset), HEADER_BYTES)
            hash := keccak256(place, HEADER_BYTES)
        }
    }
}
