// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EventTree} from "../lib/EventTree.sol";
import {Quorum} from "../lib/Quorum.sol";
import {EventProof, IPpdlRelay} from "../interfaces/IPpdlRelay.sol";

/// @title A source chain that can reorganise: heaviest branch, final under a depth
/// @notice For a chain whose blocks are each sealed by one authority, so that branches exist side by side. A block weighs 2
/// when it is its authority's turn and 1 otherwise, and an authority may seal one of n / 2 + 1 consecutive blocks (the
/// rules of clique, EIP-225). The heaviest branch counts, of equals the one that was first; what lies `depth` blocks under
/// its tip is final. A heavier branch that leaves out a final block is not followed: it freezes the client for good,
/// because its users may have acted on what it takes back, and nobody here could say which branch is right.
/// @dev A header is six words: tag, chain id, number, parent hash, timestamp (ms), application hash. The authorities are
/// fixed: another set is another deployment. Not here: rewards, and headers so old that no branch from them can matter.
contract HeaviestBranch is IPpdlRelay {
    uint256 private constant HEADER_BYTES = 192;
    bytes32 private constant HEADER_TAG = keccak256("openmg.branch.header.v1");
    bytes32 private constant SEAL_TAG = keccak256("openmg.branch.seal.v1");
    /// @notice Greatest depth: a new tip is walked back at most three times as far.
    uint256 public constant MAX_DEPTH = 128;
    uint256 private constant IN_TURN = 2;

    /// @param parent Hash of the block before it.
    /// @param appHash Application hash in the header.
    /// @param signer Authority that sealed it; 0 for the first block.
    /// @param number Number of the block.
    /// @param timestampMs Its time, Unix milliseconds.
    /// @param weight Weight of the branch that ends with it.
    struct Block {
        bytes32 parent;
        bytes32 appHash;
        address signer;
        uint64 number;
        uint64 timestampMs;
        uint64 weight;
    }

    /// @inheritdoc IPpdlRelay
    uint256 public immutable ppdlChainId;
    /// @notice Hash of the block that is trusted from the start, part of every seal.
    bytes32 public immutable genesisHash;
    /// @notice Blocks over a block that make it final.
    uint256 public immutable depth;
    /// @notice How far, in milliseconds, a header's time may lie ahead of this chain's.
    uint256 public immutable maxDriftMs;

    /// @notice Hash of the heaviest branch's last block.
    bytes32 public tip;
    /// @notice Number of the newest final block.
    uint256 public finalNumber;
    /// @notice Whether a heavier branch without a final block was proved; nothing can be proved then.
    bool public frozen;
    /// @notice The final block of a number; 0 while there is none.
    mapping(uint256 number => bytes32) public finalAt;
    mapping(bytes32 hash => Block) private _blocks;
    mapping(address authority => uint256) private _place;
    address[] private _authorities;

    event BlockAdded(bytes32 indexed hash, uint256 indexed number, uint256 weight);
    event TipChanged(bytes32 indexed hash, uint256 number, bool reorganised);
    event Finalised(uint256 indexed number, bytes32 hash);
    event Frozen(uint256 indexed finalNumber, bytes32 heavier);

    error InvalidDepth(uint256 depth);
    error ChainFrozen();
    error WrongHeader(uint256 field);
    error KnownBlock(bytes32 hash);
    error UnknownParent(bytes32 parent);
    error TooOld(uint256 number, uint256 finalNumber);
    error NotAnAuthority(address signer);
    error SealedLately(address signer);

    constructor(
        uint256 chainId_,
        bytes32 genesisHash_,
        address[] memory authorities_,
        uint256 depth_,
        uint256 maxDriftMs_
    ) {
        require(depth_ > 0 && depth_ <= MAX_DEPTH, InvalidDepth(depth_));
        Quorum.requireAscending(authorities_);
        ppdlChainId = chainId_;
        genesisHash = genesisHash_;
        depth = depth_;
        maxDriftMs = maxDriftMs_;
        _authorities = authorities_;
        for (uint256 i = 0; i < authorities_.length; ++i) {
            _place[authorities_[i]] = i + 1;
        }
        tip = genesisHash_;
        finalAt[0] = genesisHash_;
    }

    /// @notice Adds a block to whichever branch it extends.
    /// @param header 192 bytes.
    /// @param seal Its authority's seal over `sealDigest`, 65 bytes.
    function submit(bytes calldata header, bytes calldata seal) external {
        require(!frozen, ChainFrozen());
        require(header.length == HEADER_BYTES && _word(header, 0) == HEADER_TAG, WrongHeader(0));
        require(uint256(_word(header, 1)) == ppdlChainId, WrongHeader(1));
        bytes32 hash = keccak256(header);
        require(_blocks[hash].number == 0, KnownBlock(hash));
        bytes32 parent = _word(header, 3);
        Block memory before = _blocks[parent];
        require(parent == genesisHash || before.number > 0, UnknownParent(parent));
        uint256 number = uint256(before.number) + 1;
        require(uint256(_word(header, 2)) == number, WrongHeader(2));
        require(number + depth > finalNumber, TooOld(number, finalNumber));
        uint256 time = uint256(_word(header, 4));
        bool sane = time >= before.timestampMs && time <= type(uint64).max;
        require(sane && time <= block.timestamp * 1000 + maxDriftMs, WrongHeader(4));
        bytes32 appHash = _word(header, 5);
        require(appHash != 0, WrongHeader(5));
        address signer = ECDSA.recoverCalldata(sealDigest(hash), seal);
        uint64 weight = before.weight + uint64(_weigh(signer, number, parent));
        _blocks[hash] = Block(parent, appHash, signer, uint64(number), uint64(time), weight);
        emit BlockAdded(hash, number, weight);
        if (weight > _blocks[tip].weight) _follow(hash, number, parent != tip);
    }

    /// @notice The digest that an authority's seal signs.
    function sealDigest(bytes32 headerHash) public view returns (bytes32) {
        return keccak256(abi.encode(SEAL_TAG, ppdlChainId, genesisHash, headerHash));
    }

    /// @notice A block that was submitted; zeros when none was.
    function blockOf(bytes32 hash) external view returns (Block memory) {
        return _blocks[hash];
    }

    /// @notice Application hash of the final block of a number, that is, after the block before it; 0 when there is none.
    function appHashAt(uint256 number) public view returns (bytes32) {
        return _blocks[finalAt[number]].appHash;
    }

    /// @notice Whether this application hash stands in the final block of the number.
    function isFinal(uint256 number, bytes32 appHash) external view returns (bool) {
        return !frozen && appHash != 0 && appHashAt(number) == appHash;
    }

    /// @notice Whether the leaf is an event of a block whose successor is final.
    function verifyEvent(bytes memory leaf, EventProof calldata proof) external view returns (bool) {
        require(!frozen, ChainFrozen());
        return EventTree.proves(appHashAt(proof.height + 1), leaf, proof);
    }

    /// @dev Weight of a block by its signer, who must not have sealed one of the n / 2 blocks before it.
    function _weigh(address signer, uint256 number, bytes32 parent) private view returns (uint256) {
        uint256 place = _place[signer];
        require(place > 0, NotAnAuthority(signer));
        uint256 count = _authorities.length;
        for (uint256 i = 0; i < count / 2 && parent != genesisHash; ++i) {
            require(_blocks[parent].signer != signer, SealedLately(signer));
            parent = _blocks[parent].parent;
        }
        return number % count == place - 1 ? IN_TURN : 1;
    }

    /// @dev Makes a heavier branch the one that counts, and what lies deep enough under its tip final; or freezes when it
    /// leaves out a final block. The branch is walked back to the newest final number. It is longer than that and at most
    /// about three times the depth: it forks no deeper than the depth under the final block, and weighs one more than
    /// blocks that weigh 1 or 2 each.
    function _follow(bytes32 hash, uint256 number, bool reorganised) private {
        uint256 last = finalNumber;
        uint256 newest = number > depth + last ? number - depth : last;
        bytes32[] memory fresh = new bytes32[](newest - last);
        bytes32 cursor = hash;
        for (uint256 i = number; i > last; --i) {
            if (i <= newest) fresh[i - last - 1] = cursor;
            cursor = _blocks[cursor].parent;
        }
        if (cursor != finalAt[last]) {
            frozen = true;
            emit Frozen(last, hash);
            return;
        }
        tip = hash;
        emit TipChanged(hash, number, reorganised);
        for (uint256 i = 0; i < fresh.length; ++i) {
            finalAt[last + 1 + i] = fresh[i];
            emit Finalised(last + 1 + i, fresh[i]);
        }
        finalNumber = newest;
    }

    function _word(bytes calldata header, uint256 field) private pure returns (bytes32) {
        return bytes32(header[field * 32:(field + 1) * 32]);
    }
}
