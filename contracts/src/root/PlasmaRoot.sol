// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Quorum} from "../lib/Quorum.sol";

/// @title The plasma chain's anchor on the root chain
/// @notice Ether deposited here becomes PETH on the plasma chain, in order of its nonce. The plasma validators commit
/// their chain by signed checkpoints: to sign one means "I re-executed these blocks and hold their data".
/// @dev Signatures are EIP-712 over the root chain's id and this contract, so that no checkpoint can be replayed on
/// another chain or deployment. Only the hash of a checkpoint is stored; the event carries its fields.
/// Not here: exits, challenges and bonds.
contract PlasmaRoot is EIP712 {
    using Quorum for Quorum.Set;

    /// @param epoch Number of the checkpoint, from 0 without gaps.
    /// @param firstBlock First plasma block it covers.
    /// @param lastBlock Last plasma block it covers.
    /// @param blockHash Hash of the last block.
    /// @param stateRoot State root of the last block.
    /// @param txRoot Merkle root over the transaction roots of the covered blocks.
    /// @param noteRoot Root of the confidential token's note tree after the last block.
    /// @param inboxCount Deposits minted on the plasma chain up to the last block.
    /// @param prevHash EIP-712 struct hash of the checkpoint before, or `genesisHash()`.
    /// @param timestamp Timestamp of the last block, Unix seconds.
    struct Checkpoint {
        uint64 epoch;
        uint64 firstBlock;
        uint64 lastBlock;
        bytes32 blockHash;
        bytes32 stateRoot;
        bytes32 txRoot;
        bytes32 noteRoot;
        uint64 inboxCount;
        bytes32 prevHash;
        uint64 timestamp;
    }

    bytes32 private constant CHECKPOINT_TYPEHASH = keccak256(
        "Checkpoint(uint64 epoch,uint64 firstBlock,uint64 lastBlock,bytes32 blockHash,bytes32 stateRoot,bytes32 txRoot,bytes32 noteRoot,uint64 inboxCount,bytes32 prevHash,uint64 timestamp)"
    );
    /// @notice Seconds a checkpoint's time may lie ahead of this chain's.
    uint256 public constant MAX_DRIFT_SECONDS = 300;

    /// @notice Chain id of the plasma chain; epoch 0 binds it through `genesisHash()`.
    uint256 public immutable plasmaChainId;

    /// @notice Deposits made so far; the next deposit's nonce.
    uint256 public depositCount;
    /// @notice keccak256(abi.encode(nonce, recipient, amount)) of every deposit.
    mapping(uint256 nonce => bytes32) public depositHash;
    /// @notice Checkpoints committed so far; the next checkpoint's epoch.
    uint64 public checkpointCount;
    /// @notice Last plasma block of the newest checkpoint.
    uint64 public lastBlock;
    /// @notice Deposits minted on the plasma chain according to it.
    uint64 public lastInboxCount;
    /// @notice Its time, Unix seconds.
    uint64 public lastTimestamp;
    /// @notice Struct hash of the newest checkpoint, or `genesisHash()`.
    bytes32 public lastCheckpointHash;
    /// @notice Struct hash of the checkpoint of an epoch.
    mapping(uint256 epoch => bytes32) public checkpointHash;
    Quorum.Set private _validators;

    event Deposited(uint256 indexed nonce, address sender, address recipient, uint256 amount);
    event CheckpointCommitted(uint256 indexed epoch, bytes32 indexed hash, Checkpoint checkpoint, uint256 signatures);

    error EmptyDeposit();
    error ZeroRecipient();
    error WrongEpoch(uint64 expected, uint64 given);
    error BlocksNotContiguous(uint64 expectedFirst, uint64 first, uint64 last);
    error WrongPreviousCheckpoint(bytes32 expected, bytes32 given);
    error WrongInboxCount(uint64 previous, uint64 given, uint256 deposits);
    error WrongTimestamp(uint64 previous, uint64 given);

    constructor(uint256 plasmaChainId_, address[] memory validators_) EIP712("OpenMG PlasmaRoot", "1") {
        plasmaChainId = plasmaChainId_;
        _validators.replace(validators_);
        lastCheckpointHash = genesisHash();
    }

    /// @notice Locks the sent ether; the plasma operator gives the recipient as much PETH.
    /// @param recipient Account on the plasma chain.
    /// @return nonce Number of the deposit.
    function deposit(address recipient) external payable returns (uint256 nonce) {
        require(msg.value > 0, EmptyDeposit());
        require(recipient != address(0), ZeroRecipient());
        nonce = depositCount++;
        depositHash[nonce] = keccak256(abi.encode(nonce, recipient, msg.value));
        emit Deposited(nonce, msg.sender, recipient, msg.value);
    }

    /// @notice Commits the next checkpoint, signed by a quorum of validators.
    /// @param checkpoint What is committed.
    /// @param signatures 65 bytes each, signers ascending.
    function submitCheckpoint(Checkpoint calldata checkpoint, bytes[] calldata signatures) external {
        _requireNext(checkpoint);
        bytes32 hash = hashCheckpoint(checkpoint);
        _validators.requireQuorum(_hashTypedDataV4(hash), signatures);
        checkpointHash[checkpoint.epoch] = hash;
        lastCheckpointHash = hash;
        checkpointCount = checkpoint.epoch + 1;
        lastBlock = checkpoint.lastBlock;
        lastInboxCount = checkpoint.inboxCount;
        lastTimestamp = checkpoint.timestamp;
        emit CheckpointCommitted(checkpoint.epoch, hash, checkpoint, signatures.length);
    }

    /// @notice EIP-712 struct hash of a checkpoint.
    function hashCheckpoint(Checkpoint calldata checkpoint) public pure returns (bytes32) {
        return keccak256(abi.encode(CHECKPOINT_TYPEHASH, checkpoint));
    }

    /// @notice The digest that validators sign.
    function checkpointDigest(Checkpoint calldata checkpoint) external view returns (bytes32) {
        return _hashTypedDataV4(hashCheckpoint(checkpoint));
    }

    /// @notice What epoch 0 names as its previous checkpoint: it binds the plasma chain's id.
    function genesisHash() public view returns (bytes32) {
        return keccak256(abi.encode(keccak256("openmg.plasma.genesis.v1"), plasmaChainId));
    }

    /// @notice The validators, ascending.
    function validators() external view returns (address[] memory) {
        return _validators.members;
    }

    /// @notice Signatures that a checkpoint needs.
    function quorum() external view returns (uint256) {
        return Quorum.quorumOf(_validators.members.length);
    }

    function _requireNext(Checkpoint calldata c) private view {
        require(c.epoch == checkpointCount, WrongEpoch(checkpointCount, c.epoch));
        require(
            c.firstBlock == lastBlock + 1 && c.lastBlock >= c.firstBlock,
            BlocksNotContiguous(lastBlock + 1, c.firstBlock, c.lastBlock)
        );
        require(c.prevHash == lastCheckpointHash, WrongPreviousCheckpoint(lastCheckpointHash, c.prevHash));
        require(
            c.inboxCount >= lastInboxCount && c.inboxCount <= depositCount,
            WrongInboxCount(lastInboxCount, c.inboxCount, depositCount)
        );
        require(
            c.timestamp >= lastTimestamp && c.timestamp <= block.timestamp + MAX_DRIFT_SECONDS,
            WrongTimestamp(lastTimestamp, c.timestamp)
        );
    }
}
