// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CreatedAddress} from "../lib/CreatedAddress.sol";
import {Head} from "../lib/RelayHead.sol";
import {IPpdlRelay} from "../interfaces/IPpdlRelay.sol";
import {IQuorumScheme, IQuorumVerifier} from "../interfaces/IQuorumVerifier.sol";
import {RelayerRewards} from "./RelayerRewards.sol";

/// @notice A header with the quorum certificate over it.
/// @param header 320 bytes.
/// @param view_ PBFT view in which it was committed.
/// @param seals Commit seals of its signers.
struct Certificate {
    bytes header;
    uint256 view_;
    bytes seals;
}

/// @title The validator sets of a light client, and what their seals prove
/// @notice Every set has a verifier of its own, created by this contract and by nobody else: its number is the creation
/// number, from which its address follows. The set in force is that of the head.
/// @dev A set that has left answers for its seals for `UNBONDING_SECONDS`. Not here: when a set changes.
abstract contract ValidatorSets is IPpdlRelay, RelayerRewards {
    uint256 internal constant HEADER_BYTES = 320;
    bytes32 internal constant HEADER_TAG = keccak256("openmg.ppdl.header.v1");
    uint256 internal constant MAX_HEIGHT = type(uint40).max;
    uint256 internal constant MAX_TIME = type(uint64).max;
    bytes32 private constant COMMIT_TAG = keccak256("PPDL-COMMIT-V1");
    /// @notice Seconds for which a set that has left is still held to its seals; bonds stay locked as long.
    uint256 public constant UNBONDING_SECONDS = 21 days;
    /// @notice Creation number of the first set's verifier; the scheme was created before it.
    uint256 public constant FIRST_SET = 2;
    uint256 private constant MAX_SETS = type(uint16).max;

    /// @inheritdoc IPpdlRelay
    uint256 public immutable ppdlChainId;
    /// @notice Parent hash of the first header; every seal names it.
    bytes32 public immutable genesisHash;
    /// @notice What makes the verifiers of sets.
    IQuorumScheme public immutable scheme;
    /// @notice Unix second at which a set was replaced; 0 while it is in force.
    mapping(uint256 setNumber => uint256) public leftAt;

    event ValidatorsChanged(bytes32 indexed validatorsHash, uint256 count);

    error MalformedBatch(uint256 length);
    error WrongHeader(uint256 expectedHeight, uint256 field);
    error NoConflict();
    error SetNotAccountable(uint256 setNumber);
    error TooManySets();

    /// @param scheme_ Created by this contract, and nothing else before.
    constructor(uint256 ppdlChainId_, bytes32 genesisHash_, IQuorumScheme scheme_, address[] memory validators_) {
        ppdlChainId = ppdlChainId_;
        genesisHash = genesisHash_;
        scheme = scheme_;
        _head = _head.withSetNumber(FIRST_SET);
        _create(scheme_, FIRST_SET, validators_);
    }

    /// @notice The validators whose seals are trusted now, ascending.
    function validators() external view returns (address[] memory) {
        return verifierOf(setNumber()).members();
    }

    /// @notice Hash of the set whose seals are trusted for the next header.
    function validatorsHash() external view returns (bytes32) {
        return verifierOf(setNumber()).setHash();
    }

    /// @notice Number of the set in force; the one before it has the number below.
    function setNumber() public view returns (uint256) {
        return _head.setNumber();
    }

    /// @notice The verifier of a set, from `FIRST_SET` to `setNumber()`.
    function verifierOf(uint256 number) public view returns (IQuorumVerifier) {
        return IQuorumVerifier(CreatedAddress.addressOf(address(this), number));
    }

    /// @notice The digest that a commit seal signs.
    function sealDigest(uint256 height_, uint256 view_, bytes32 headerHash) public view returns (bytes32 digest) {
        (bytes32 tag, uint256 chainId, bytes32 genesis) = (COMMIT_TAG, ppdlChainId, genesisHash);
        assembly ("memory-safe") {
            let place := mload(0x40)
            mstore(place, tag)
            mstore(add(place, 32), chainId)
            mstore(add(place, 64), genesis)
            mstore(add(place, 96), height_)
            mstore(add(place, 128), view_)
            mstore(add(place, 160), headerHash)
            digest := keccak256(place, 192)
        }
    }

    /// @notice Who signed both of two certificates that prove a fork; reverts when they prove none.
    function signersOfBoth(uint256 setNumber_, Certificate calldata one, Certificate calldata other)
        external
        view
        returns (address[] memory both)
    {
        (uint256 number, bytes32 oneHash, bytes32 otherHash) = _conflict(setNumber_, one, other);
        IQuorumVerifier verifier = verifierOf(setNumber_);
        address[] memory left = verifier.signersOf(sealDigest(number, one.view_, oneHash), one.seals);
        address[] memory right = verifier.signersOf(sealDigest(number, other.view_, otherHash), other.seals);
        uint256 count = 0;
        uint256 place = 0;
        for (uint256 i = 0; i < left.length; ++i) {
            while (place < right.length && right[place] < left[i]) ++place;
            if (place < right.length && right[place] == left[i]) left[count++] = left[i];
        }
        both = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            both[i] = left[i];
        }
    }

    /// @dev Puts the next set in force, and stores the head.
    function _install(Head head, address[] calldata members) internal {
        uint256 number = head.setNumber();
        require(number < MAX_SETS, TooManySets());
        leftAt[number] = block.timestamp;
        _head = head.withSetNumber(number + 1);
        bytes32 hash = _create(scheme, number + 1, members);
        emit ValidatorsChanged(hash, members.length);
    }

    /// @dev `IQuorumVerifier.verify`, with the call data laid out by hand; a refusal is passed on as it came.
    function _verify(IQuorumVerifier verifier, bytes32 digest, bytes calldata seals)
        internal
        view
        returns (bytes32 setHash)
    {
        bytes32 selector = IQuorumVerifier.verify.selector;
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore(input, selector)
            mstore(add(input, 4), digest)
            mstore(add(input, 36), 64)
            mstore(add(input, 68), seals.length)
            calldatacopy(add(input, 100), seals.offset, seals.length)
            if iszero(staticcall(gas(), verifier, input, add(100, seals.length), 0, 32)) {
                returndatacopy(input, 0, returndatasize())
                revert(input, returndatasize())
            }
            setHash := mload(0)
        }
    }

    /// @dev Reverts unless the certificates are for different headers of one height, by a set that answers for them.
    function _conflict(uint256 number, Certificate calldata one, Certificate calldata other)
        internal
        view
        returns (uint256 forked, bytes32 oneHash, bytes32 otherHash)
    {
        require(number >= FIRST_SET && number <= setNumber(), SetNotAccountable(number));
        uint256 left = leftAt[number];
        require(left == 0 || block.timestamp <= left + UNBONDING_SECONDS, SetNotAccountable(number));
        oneHash = _requireCertificate(number, one);
        otherHash = _requireCertificate(number, other);
        forked = uint256(_word(one.header, 64));
        require(oneHash != otherHash && forked == uint256(_word(other.header, 64)), NoConflict());
    }

    function _requireCertificate(uint256 number, Certificate calldata certificate)
        internal
        view
        returns (bytes32 hash)
    {
        _requireHeader(certificate.header);
        uint256 height_ = uint256(_word(certificate.header, 64));
        hash = keccak256(certificate.header);
        bytes32 digest = sealDigest(height_, certificate.view_, hash);
        bytes32 sealing = verifierOf(number).verify(digest, certificate.seals);
        require(sealing == _word(certificate.header, 256), WrongHeader(height_, 8));
    }

    /// @dev Its length, tag and chain id, and that it has a height.
    function _requireHeader(bytes calldata header) internal view {
        require(header.length == HEADER_BYTES, MalformedBatch(header.length));
        uint256 number = uint256(_word(header, 64));
        require(_word(header, 0) == HEADER_TAG, WrongHeader(number, 0));
        require(uint256(_word(header, 32)) == ppdlChainId, WrongHeader(number, 1));
        require(number > 0 && number <= MAX_HEIGHT, WrongHeader(number, 2));
        require(uint256(_word(header, 128)) <= MAX_TIME, WrongHeader(number, 4));
    }

    /// @dev The caller has checked that the data reach 32 bytes beyond `offset`.
    function _word(bytes calldata data, uint256 offset) internal pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := calldataload(add(data.offset, offset))
        }
    }

    /// @dev Creates the verifier of a set where `verifierOf` finds it.
    function _create(IQuorumScheme maker, uint256 number, address[] memory members) private returns (bytes32) {
        bytes memory code = maker.creationCode(members, 0);
        address made;
        assembly ("memory-safe") {
            made := create(0, add(code, 32), mload(code))
        }
        assert(made == address(verifierOf(number)));
        return IQuorumVerifier(made).setHash();
    }
}
