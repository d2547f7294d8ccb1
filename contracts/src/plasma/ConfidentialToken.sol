// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ITransferVerifier} from "../interfaces/ITransferVerifier.sol";
import {NoteTree} from "../lib/NoteTree.sol";
import {PoseidonT4} from "../zk/PoseidonT4.sol";
import {ZkTags} from "../zk/ZkTags.sol";

/// @title Shielded notes of PETH and of allowed ERC-20 tokens
/// @notice `shield` turns public value into a note; `transact` spends two notes into two new ones and may pay a part
/// out. Who pays whom, and how much, stays hidden; the contract learns nullifiers, commitments and what is paid out.
/// @dev A note is cm = H(cm, asset, amount, partial); an asset is 4 * token address (kind 0 in the low two bits), PETH
/// is 0. Replay is stopped by nullifiers alone, never by a proof's bytes, which anybody can rerandomise. Every root
/// that the tree had stays valid. Receiver, relay, fee, deadline, token and ciphertexts are bound by the proof through
/// `ext`. Only deposits can be paused: nobody can lock notes in. Not here: energy notes, batch appends, relay quotas.
contract ConfidentialToken is Pausable, ReentrancyGuardTransient {
    using NoteTree for NoteTree.Tree;
    using SafeERC20 for IERC20;

    /// @notice Longest note ciphertext; ours are shorter, and an event must not be a cheap archive.
    uint256 public constant MAX_CIPHERTEXT_BYTES = 512;
    bytes32 private constant EXT_TAG = keccak256("openmg.ext.transfer.v1");

    /// @param recipient Receives what is paid out, less the fee.
    /// @param relay Receives the fee, whoever submits.
    /// @param fee Part of the payout for the relay, in PETH wei.
    /// @param validUntil Last Unix second at which the transaction counts.
    /// @param token Token that is paid out; 0 is PETH, and 0 when nothing is paid out.
    /// @param ciphertext1 The first new note, encrypted to its receiver.
    /// @param ciphertext2 The second new note, encrypted to its receiver.
    struct Ext {
        address recipient;
        address relay;
        uint96 fee;
        uint64 validUntil;
        address token;
        bytes ciphertext1;
        bytes ciphertext2;
    }

    /// @notice May allow tokens and stop new deposits; nothing else.
    address public immutable guardian;
    ITransferVerifier public immutable verifier;

    NoteTree.Tree private _tree;
    /// @notice Whether the value is root' of a tree that this contract had; never true for an empty tree or 0.
    mapping(uint256 root => bool) public isKnownRoot;
    mapping(uint256 nullifier => bool) public isSpent;
    /// @notice Whether a token may be shielded; 0 is PETH.
    mapping(address token => bool) public isAllowed;
    /// @notice Value inside the pool, per token; more than this can never leave.
    mapping(address token => uint256) public shielded;
    /// @notice root' after the last note.
    uint256 public currentRoot;
    /// @notice Notes appended so far, over all trees.
    uint256 public noteCount;
    /// @notice Calls of `transact` that succeeded.
    uint256 public transactCount;

    event NewNote(uint256 indexed position, uint256 cm, bytes ciphertext);
    event NullifierSpent(uint256 indexed nullifier);
    event RootAdded(uint256 indexed root, uint256 notes);
    event Shielded(address indexed token, address indexed from, uint256 amount);
    event Unshielded(address indexed token, address indexed recipient, uint256 amount, address relay, uint256 fee);
    event TokenAllowed(address indexed token);

    error NotGuardian(address caller);
    error TokenNotAllowed(address token);
    error ZeroAmount();
    error WrongValue(uint256 expected, uint256 sent);
    error TransferFee(uint256 expected, uint256 received);
    error CiphertextTooLong(uint256 length);
    error Expired(uint256 validUntil, uint256 time);
    error OutsideField(uint256 value);
    error UnknownRoot(uint256 root);
    error AlreadySpent(uint256 nullifier);
    error InvalidFee(uint256 fee, uint256 publicOut);
    error InvalidPayout();
    error InvalidProof();
    error PaymentFailed();

    constructor(address guardian_, ITransferVerifier verifier_) {
        guardian = guardian_;
        verifier = verifier_;
        isAllowed[address(0)] = true;
        emit TokenAllowed(address(0));
    }

    /// @notice Lets an ERC-20 token be shielded. It can always leave again.
    /// @param token A token that moves exactly what is asked, and changes no balance by itself.
    function allowToken(address token) external {
        require(msg.sender == guardian, NotGuardian(msg.sender));
        require(token.code.length > 0, TokenNotAllowed(token));
        isAllowed[token] = true;
        emit TokenAllowed(token);
    }

    /// @notice Stops or resumes new deposits.
    function setDepositsPaused(bool paused_) external {
        require(msg.sender == guardian, NotGuardian(msg.sender));
        if (paused_) _pause();
        else _unpause();
    }

    /// @notice Turns public value of the sender into a note.
    /// @param token 0 for PETH, which is sent along, or an allowed ERC-20 token, which is approved before.
    /// @param amount Value of the note in the token's smallest unit.
    /// @param partialHash H(own, pk, blinding) of its owner.
    /// @param ciphertext The note, encrypted to its owner.
    /// @return position Position of the note over all trees.
    function shield(address token, uint96 amount, uint256 partialHash, bytes calldata ciphertext)
        external
        payable
        nonReentrant
        whenNotPaused
        returns (uint256 position)
    {
        require(amount > 0, ZeroAmount());
        require(isAllowed[token], TokenNotAllowed(token));
        uint256 expected = token == address(0) ? amount : 0;
        require(msg.value == expected, WrongValue(expected, msg.value));
        if (token != address(0)) _collect(IERC20(token), amount);
        shielded[token] += amount;
        uint256 cm = PoseidonT4.hash(ZkTags.CM, _assetOf(token), amount, partialHash);
        position = _append(cm, ciphertext);
        _addRoot();
        emit Shielded(token, msg.sender, amount);
    }

    /// @notice Spends two notes into two new ones; the difference is paid out.
    /// @param proof Groth16 proof of the transfer circuit.
    /// @param root root' of the tree that holds the spent notes; any the tree ever had.
    /// @param nullifiers Nullifiers of the spent notes.
    /// @param commitments Commitments of the new notes.
    /// @param publicOut What leaves the pool, fee included; 0 for a private transfer.
    /// @param ext All that the proof binds besides its statement.
    function transact(
        uint256[8] calldata proof,
        uint256 root,
        uint256[2] calldata nullifiers,
        uint256[2] calldata commitments,
        uint96 publicOut,
        Ext calldata ext
    ) external nonReentrant {
        require(block.timestamp <= ext.validUntil, Expired(ext.validUntil, block.timestamp));
        _checkPayout(publicOut, ext);
        require(isKnownRoot[root], UnknownRoot(root));
        _spend(nullifiers[0]);
        _spend(nullifiers[1]);
        _requireField(commitments[0]);
        _requireField(commitments[1]);
        uint256 asset = publicOut > 0 ? _assetOf(ext.token) : 0;
        uint256[9] memory input =
            [root, nullifiers[0], nullifiers[1], commitments[0], commitments[1], asset, 0, publicOut, extHash(ext)];
        require(verifier.verify(proof, input), InvalidProof());
        _append(commitments[0], ext.ciphertext1);
        _append(commitments[1], ext.ciphertext2);
        _addRoot();
        ++transactCount;
        if (publicOut > 0) _payOut(publicOut, ext);
    }

    /// @notice What the proof's last public input must be: keccak256 over one word each of tag, chain id, contract,
    /// recipient, relay, fee, validUntil, token and the hashes of both ciphertexts, modulo the circuit field.
    function extHash(Ext calldata ext) public view returns (uint256) {
        bytes32 digest = keccak256(
            abi.encode(
                EXT_TAG,
                block.chainid,
                address(this),
                ext.recipient,
                ext.relay,
                ext.fee,
                ext.validUntil,
                ext.token,
                keccak256(ext.ciphertext1),
                keccak256(ext.ciphertext2)
            )
        );
        return uint256(digest) % ZkTags.FIELD;
    }

    /// @dev The fee is paid in PETH only; a payout needs a receiver; without one nothing may be named.
    function _checkPayout(uint96 publicOut, Ext calldata ext) private pure {
        require(ext.fee <= publicOut, InvalidFee(ext.fee, publicOut));
        require(ext.fee == 0 || (ext.relay != address(0) && ext.token == address(0)), InvalidFee(ext.fee, publicOut));
        require(publicOut == ext.fee || ext.recipient != address(0), InvalidPayout());
        require(publicOut > 0 || ext.token == address(0), InvalidPayout());
    }

    /// @dev Spending the first marks it before the second is looked at, so equal nullifiers are refused.
    function _spend(uint256 nullifier) private {
        _requireField(nullifier);
        require(!isSpent[nullifier], AlreadySpent(nullifier));
        isSpent[nullifier] = true;
        emit NullifierSpent(nullifier);
    }

    function _append(uint256 cm, bytes calldata ciphertext) private returns (uint256 position) {
        require(ciphertext.length <= MAX_CIPHERTEXT_BYTES, CiphertextTooLong(ciphertext.length));
        uint256 sealedRoot;
        (position, sealedRoot) = _tree.append(cm);
        ++noteCount;
        emit NewNote(position, cm, ciphertext);
        if (sealedRoot != 0) _know(sealedRoot);
    }

    /// @dev After a tree is full its sealed root was added; the empty root of the next one is of no use.
    function _addRoot() private {
        if (_tree.size > 0) _know(_tree.namedRoot());
    }

    function _know(uint256 root) private {
        isKnownRoot[root] = true;
        currentRoot = root;
        emit RootAdded(root, noteCount);
    }

    function _payOut(uint256 publicOut, Ext calldata ext) private {
        shielded[ext.token] -= publicOut;
        uint256 amount = publicOut - ext.fee;
        emit Unshielded(ext.token, ext.recipient, amount, ext.relay, ext.fee);
        if (ext.token != address(0)) {
            IERC20(ext.token).safeTransfer(ext.recipient, amount);
            return;
        }
        if (amount > 0) _pay(ext.recipient, amount);
        if (ext.fee > 0) _pay(ext.relay, ext.fee);
    }

    /// @dev Refuses tokens that keep a fee: the note would be worth more than what came in.
    function _collect(IERC20 token, uint256 amount) private {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        require(received == amount, TransferFee(amount, received));
    }

    function _pay(address to, uint256 amount) private {
        (bool paid,) = to.call{value: amount}("");
        require(paid, PaymentFailed());
    }

    function _requireField(uint256 value) private pure {
        require(value < ZkTags.FIELD, OutsideField(value));
    }

    function _assetOf(address token) private pure returns (uint256) {
        return uint256(uint160(token)) << 2;
    }
}
