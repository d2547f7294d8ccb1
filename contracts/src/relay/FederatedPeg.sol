// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EventTree} from "../lib/EventTree.sol";
import {EventProof, IPpdlRelay} from "../interfaces/IPpdlRelay.sol";
import {IQuorumVerifier} from "../interfaces/IQuorumVerifier.sol";
import {SealScheme} from "./SealSet.sol";

/// @title A source chain on the word of a federation
/// @notice For a chain without certificates that a contract could check: m of n signers say which application hash is
/// final for a height. m is more than half, so two words that differ share a signer, and they freeze the peg for good:
/// its users then need another deployment, for nobody here could say which word was true.
/// @dev An attestation names no contract: it is a fact about a chain, and a second peg of the same signers may use it too.
/// A change of the federation is a command and names this contract, this chain and its number. Not here: rewards.
contract FederatedPeg is IPpdlRelay {
    bytes32 private constant ATTEST_TAG = keccak256("openmg.peg.attest.v1");
    bytes32 private constant ROTATE_TAG = keccak256("openmg.peg.rotate.v1");

    /// @inheritdoc IPpdlRelay
    uint256 public immutable ppdlChainId;
    /// @notice Which chain of that id: hash of its genesis.
    bytes32 public immutable genesisHash;
    SealScheme private immutable _scheme;

    /// @notice The federation that attests now.
    IQuorumVerifier public federation;
    /// @notice How often the federation has changed.
    uint256 public rotations;
    /// @notice Whether two words for one height were given; nothing can be proved then.
    bool public frozen;
    /// @notice Application hash attested for a height, that is, after the block before it; 0 when none is.
    mapping(uint256 height => bytes32) public appHashAt;

    event Attested(uint256 indexed height, bytes32 appHash);
    event FederationChanged(address indexed federation, uint256 threshold, address[] members);
    event Frozen(uint256 indexed height, bytes32 attested, bytes32 contradicting);

    error NoMajority(uint256 threshold, uint256 members);
    error InvalidAttestation();
    error AlreadyAttested(uint256 height);
    error PegFrozen();
    error CreationFailed();

    constructor(uint256 chainId_, bytes32 genesisHash_, address[] memory members, uint256 threshold) {
        ppdlChainId = chainId_;
        genesisHash = genesisHash_;
        SealScheme made = new SealScheme();
        _scheme = made;
        _install(made, members, threshold);
    }

    /// @notice Records an application hash, or, when another was attested for the height, freezes the peg.
    /// @param seals Of m or more members over `attestDigest`, ascending.
    function attest(uint256 height, bytes32 appHash, bytes calldata seals) external {
        require(!frozen, PegFrozen());
        require(height > 0 && appHash != 0, InvalidAttestation());
        bytes32 before = appHashAt[height];
        require(before != appHash, AlreadyAttested(height));
        federation.verify(attestDigest(height, appHash), seals);
        if (before != 0) {
            frozen = true;
            emit Frozen(height, before, appHash);
            return;
        }
        appHashAt[height] = appHash;
        emit Attested(height, appHash);
    }

    /// @notice Replaces the federation on the word of m of the present one.
    function rotate(address[] calldata members, uint256 threshold, bytes calldata seals) external {
        require(!frozen, PegFrozen());
        federation.verify(rotateDigest(members, threshold), seals);
        ++rotations;
        _install(_scheme, members, threshold);
    }

    /// @notice The digest that attests.
    function attestDigest(uint256 height, bytes32 appHash) public view returns (bytes32) {
        return keccak256(abi.encode(ATTEST_TAG, ppdlChainId, genesisHash, height, appHash));
    }

    /// @notice The digest that changes the federation next.
    function rotateDigest(address[] calldata members, uint256 threshold) public view returns (bytes32) {
        bytes32 set = keccak256(abi.encodePacked(members));
        return keccak256(abi.encode(ROTATE_TAG, block.chainid, address(this), rotations, set, threshold));
    }

    /// @notice Whether this application hash was attested for the height.
    function isFinal(uint256 height, bytes32 appHash) external view returns (bool) {
        return !frozen && appHash != 0 && appHashAt[height] == appHash;
    }

    /// @notice Whether the leaf is an event of a block that was attested.
    function verifyEvent(bytes memory leaf, EventProof calldata proof) external view returns (bool) {
        require(!frozen, PegFrozen());
        return EventTree.proves(appHashAt[proof.height + 1], leaf, proof);
    }

    function _install(SealScheme scheme, address[] memory members, uint256 threshold) private {
        require(threshold * 2 > members.length, NoMajority(threshold, members.length));
        bytes memory code = scheme.creationCode(members, threshold);
        address made;
        assembly ("memory-safe") {
            made := create(0, add(code, 32), mload(code))
        }
        require(made != address(0), CreationFailed());
        federation = IQuorumVerifier(made);
        emit FederationChanged(made, threshold, members);
    }
}
