// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IMarket} from "../interfaces/IMarket.sol";
import {IAppendVerifier, IMergeVerifier, ITransferVerifier} from "../interfaces/IVerifiers.sol";
import {Circuits} from "../lib/Circuits.sol";
import {MarketExt} from "../lib/MarketExt.sol";
import {NoteQueue} from "../lib/NoteQueue.sol";
import {PoseidonT4} from "../zk/PoseidonT4.sol";
import {ZkTags} from "../zk/ZkTags.sol";
import {VerifierSet} from "./VerifierSet.sol";

/// @title Shielded notes of PETH, of allowed ERC-20 tokens and of energy
/// @notice `shield` turns public value into a note; `transact` and `merge` spend notes into two new ones and may pay a
/// part out. Who pays whom, and how much, stays hidden; the contract learns nullifiers, commitments and what is paid
/// out. New notes are queued, and `append` brings sixteen at a time into the tree. Registered markets spend and make
/// notes of PETH and of their microgrid's energy.
/// @dev A note is cm = H(cm, asset, amount, partial); an asset is kind + 4 id: kind 0 with a token's address (0: PETH),
/// kind 1 supplied and 2 delivered energy with microgrid << 40 | day and band. Replay is stopped by nullifiers alone,
/// never by a proof's bytes, which anybody can rerandomise. Every root that the tree had stays valid. Receiver, relay,
/// fee, deadline, token, ciphertexts and the set of circuits are bound by the proof through `ext`. Only deposits can be
/// paused. Nobody can lock value in: what is paid out, and what a market takes, needs neither a relay nor a fee; only a
/// transfer that stays inside and pays no fee needs a relay. A market's code is trusted: it says what its proofs must
/// bind, and which energy of its microgrid there is; it is never paid more than its proofs spend. Not here: what energy
/// costs (`EnergyPool`), which verifiers count (`VerifierSet`), the tree itself (`openmg.zk.tree`; the contract knows its
/// roots).
contract ConfidentialToken is Pausable, ReentrancyGuardTransient {
    using NoteQueue for NoteQueue.Queue;
    using SafeERC20 for IERC20;

    /// @notice Longest note ciphertext; ours are shorter, and an event must not be a cheap archive.
    uint256 public constant MAX_CIPHERTEXT_BYTES = 512;
    bytes32 private constant TRANSFER_EXT = keccak256("openmg.ext.transfer.v2");
    bytes32 private constant MERGE_EXT = keccak256("openmg.ext.merge.v1");
    uint256 private constant PETH = 0;
    uint256 private constant SUPPLY = 1;
    uint256 private constant DELIVERY = 2;
    /// @dev Bits of an energy asset below its microgrid: kind 2, day 32, band 8.
    uint256 private constant MICROGRID_SHIFT = 42;

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

    /// @notice A transfer proof with which a market takes a payment or an order.
    struct Spend {
        uint256[8] proof;
        uint256 root;
        uint256[2] nullifiers;
        uint256[2] commitments;
        bytes ciphertext1;
        bytes ciphertext2;
    }

    /// @notice A merge proof with which a market takes a payment or an order.
    struct MergeSpend {
        uint256[8] proof;
        uint256 root;
        uint256[8] nullifiers;
        uint256[2] commitments;
        uint256 returnPartial;
        bytes ciphertext1;
        bytes ciphertext2;
    }

    /// @param perEpoch Calls that pay nothing out which the relay may make in an epoch; 0 when it is none.
    /// @param used Those it made in `epoch`.
    /// @param epoch The last epoch in which it made one.
    struct Quota {
        uint32 perEpoch;
        uint32 used;
        uint64 epoch;
    }

    /// @param registered Whether the address is a market.
    /// @param microgrid Whose energy it may spend and make.
    struct Market {
        bool registered;
        uint32 microgrid;
    }

    /// @notice May allow tokens, register relays and markets, and stop new deposits; nothing else.
    address public immutable guardian;
    VerifierSet public immutable verifierSet;
    /// @notice Length of the epochs in which the queue and the relays' quotas count.
    uint64 public immutable epochSeconds;

    NoteQueue.Queue private _queue;
    /// @notice Where the next batch goes in the trees, a multiple of 16: tree number * 2^20 + index.
    uint64 public nextPosition;
    /// @notice Calls of `transact` and `merge` that succeeded.
    uint64 public transactCount;
    /// @notice root' after the last batch; 0 before the first.
    uint256 public currentRoot;
    /// @notice Whether the value is root' of a tree that this contract had; never true for an empty tree or 0.
    mapping(uint256 root => bool) public isKnownRoot;
    mapping(uint256 nullifier => bool) public isSpent;
    /// @notice Whether a token may be shielded; 0 is PETH.
    mapping(address token => bool) public isAllowed;
    /// @notice Value inside the pool, per token; more than this can never leave.
    mapping(address token => uint256) public shielded;
    /// @notice The market of a microgrid, or 0.
    mapping(uint32 microgrid => address) public marketOf;
    mapping(address market => Market) private _markets;
    mapping(address relay => Quota) private _quotas;

    event NoteQueued(uint256 indexed index, uint256 cm, bytes ciphertext);
    event BatchAppended(uint256 indexed start, uint256 firstIndex, uint256 count, uint256 root);
    event NullifierSpent(uint256 indexed nullifier);
    event Shielded(address indexed token, address indexed from, uint256 amount);
    event Unshielded(address indexed token, address indexed recipient, uint256 amount, address relay, uint256 fee);
    event TokenAllowed(address indexed token);
    event RelaySet(address indexed relay, uint32 quotaPerEpoch);
    event MarketRegistered(uint32 indexed microgrid, address indexed market);

    error NotGuardian(address caller);
    error InvalidEpoch();
    error TokenNotAllowed(address token);
    error ZeroAmount();
    error WrongValue(uint256 expected, uint256 sent);
    error TransferFee(uint256 expected, uint256 received);
    error CiphertextTooLong(uint256 length);
    error Expired(uint256 validUntil, uint256 time);
    error OutsideField(uint256 value);
    error UnknownRoot(uint256 root);
    error StaleRoot(uint256 oldRoot, uint256 currentRoot);
    error NothingToAppend();
    error AlreadySpent(uint256 nullifier);
    error InvalidFee(uint256 fee, uint256 publicOut);
    error InvalidPayout();
    error InvalidProof();
    error PaymentFailed();
    error NotRelay(address caller);
    error QuotaExceeded(address relay, uint256 quotaPerEpoch);
    error NotMarket(address caller);
    error InvalidMarket(uint32 microgrid, address market);
    error WrongAsset(uint256 asset);

    modifier onlyGuardian() {
        require(msg.sender == guardian, NotGuardian(msg.sender));
        _;
    }

    modifier onlyMarket() {
        require(_markets[msg.sender].registered, NotMarket(msg.sender));
        _;
    }

    constructor(address guardian_, VerifierSet verifierSet_, uint64 epochSeconds_) {
        require(epochSeconds_ > 0, InvalidEpoch());
        guardian = guardian_;
        verifierSet = verifierSet_;
        epochSeconds = epochSeconds_;
        isAllowed[address(0)] = true;
        emit TokenAllowed(address(0));
    }

    // ---- the guardian ------------------------------------------------------------------------------------------

    /// @notice Lets an ERC-20 token be shielded. It can always leave again.
    /// @param token A token that moves exactly what is asked, and changes no balance by itself.
    function allowToken(address token) external onlyGuardian {
        require(token.code.length > 0, TokenNotAllowed(token));
        isAllowed[token] = true;
        emit TokenAllowed(token);
    }

    /// @notice Stops or resumes new deposits.
    function setDepositsPaused(bool paused_) external onlyGuardian {
        if (paused_) _pause();
        else _unpause();
    }

    /// @notice Lets a relay submit that many calls that pay nothing out in an epoch; 0 takes it off the list.
    function setRelay(address relay, uint32 quotaPerEpoch) external onlyGuardian {
        _quotas[relay].perEpoch = quotaPerEpoch;
        emit RelaySet(relay, quotaPerEpoch);
    }

    /// @notice Makes a contract the market of a microgrid, for good.
    function registerMarket(uint32 microgrid, address market) external onlyGuardian {
        bool free = marketOf[microgrid] == address(0) && !_markets[market].registered;
        require(free && market.code.length > 0, InvalidMarket(microgrid, market));
        marketOf[microgrid] = market;
        _markets[market] = Market(true, microgrid);
        emit MarketRegistered(microgrid, market);
    }

    // ---- everybody ---------------------------------------------------------------------------------------------

    /// @notice Turns public value of the sender into a note.
    /// @param token 0 for PETH, which is sent along, or an allowed ERC-20 token, which is approved before.
    /// @param amount Value of the note in the token's smallest unit.
    /// @param partialHash H(own, pk, blinding) of its owner.
    /// @param ciphertext The note, encrypted to its owner.
    /// @return index Place of the note in the queue.
    function shield(address token, uint96 amount, uint256 partialHash, bytes calldata ciphertext)
        external
        payable
        nonReentrant
        whenNotPaused
        returns (uint256 index)
    {
        require(amount > 0, ZeroAmount());
        require(isAllowed[token], TokenNotAllowed(token));
        _requireValue(token == address(0) ? amount : 0);
        if (token != address(0)) _collect(IERC20(token), amount);
        shielded[token] += amount;
        index = _queueNote(PoseidonT4.hash(ZkTags.CM, _assetOf(token), amount, partialHash), ciphertext);
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
        _admit(publicOut, ext);
        uint256 asset = _paidAsset(publicOut, ext.token);
        uint256[9] memory input = _transferInput(root, nullifiers, commitments, asset, publicOut, transferExt(ext));
        _spendTransfer(proof, input);
        _queueNotes(commitments, ext.ciphertext1, ext.ciphertext2);
        if (publicOut > 0) _payOut(publicOut, ext);
    }

    /// @notice Spends up to eight notes into two new ones; otherwise as `transact`.
    /// @param returnPartial Where an order would return to; here only a part of the statement.
    function merge(
        uint256[8] calldata proof,
        uint256 root,
        uint256[8] calldata nullifiers,
        uint256[2] calldata commitments,
        uint256 returnPartial,
        uint96 publicOut,
        Ext calldata ext
    ) external nonReentrant {
        _admit(publicOut, ext);
        uint256[16] memory input = _mergeInput(root, nullifiers, commitments, returnPartial);
        (input[11], input[13], input[14]) = (_paidAsset(publicOut, ext.token), publicOut, mergeExt(ext));
        _spendMerge(proof, input);
        _queueNotes(commitments, ext.ciphertext1, ext.ciphertext2);
        if (publicOut > 0) _payOut(publicOut, ext);
    }

    /// @notice Brings the leaves of `pendingLeaves` into the tree. Anybody may call this.
    /// @param proof Groth16 proof of the append circuit.
    /// @param oldRoot `currentRoot`; where a new tree begins, root' of that empty tree.
    /// @param newRoot root' with the leaves.
    function append(uint256[8] calldata proof, uint256 oldRoot, uint256 newRoot) external nonReentrant {
        (uint256[16] memory leaves, uint256 count) = pendingLeaves();
        require(count > 0, NothingToAppend());
        uint256 start = nextPosition;
        // At the start of a tree the circuit itself admits no old root but the empty tree's.
        require(start % ZkTags.TREE_CAPACITY == 0 || oldRoot == currentRoot, StaleRoot(oldRoot, currentRoot));
        _requireField(oldRoot);
        _requireField(newRoot);
        uint256[19] memory input;
        (input[0], input[1], input[2]) = (oldRoot, newRoot, start);
        for (uint256 i = 0; i < NoteQueue.BATCH; ++i) {
            input[3 + i] = leaves[i];
        }
        require(IAppendVerifier(verifierSet.verifierOf(Circuits.APPEND)).verify(proof, input), InvalidProof());
        uint64 firstIndex = _queue.appended;
        _queue.appended = firstIndex + uint64(count);
        nextPosition = uint64(start + NoteQueue.BATCH);
        isKnownRoot[newRoot] = true;
        currentRoot = newRoot;
        emit BatchAppended(start, firstIndex, count, newRoot);
    }

    // ---- markets -----------------------------------------------------------------------------------------------

    /// @notice Spends notes with a transfer proof for the calling market.
    /// @param asset PETH, which is paid to the market, or supplied energy of its microgrid, of which nothing moves.
    /// @param publicOut What the notes give to the market.
    /// @param bound Digest of what the market lets the proof bind, beside the market itself.
    function spendToMarket(Spend calldata spend, uint256 asset, uint96 publicOut, bytes32 bound)
        external
        nonReentrant
        onlyMarket
    {
        _checkTaken(asset, publicOut);
        uint256 ext = MarketExt.bind(msg.sender, bound);
        _spendTransfer(
            spend.proof, _transferInput(spend.root, spend.nullifiers, spend.commitments, asset, publicOut, ext)
        );
        _queueNotes(spend.commitments, spend.ciphertext1, spend.ciphertext2);
        if (asset == PETH) _payMarket(publicOut);
    }

    /// @notice Spends notes with a merge proof for the calling market; otherwise as `spendToMarket`.
    function spendMergedToMarket(MergeSpend calldata spend, uint256 asset, uint96 publicOut, bytes32 bound)
        external
        nonReentrant
        onlyMarket
    {
        _checkTaken(asset, publicOut);
        uint256[16] memory input = _mergeInput(spend.root, spend.nullifiers, spend.commitments, spend.returnPartial);
        (input[11], input[13], input[14]) = (asset, publicOut, MarketExt.bind(msg.sender, bound));
        _spendMerge(spend.proof, input);
        _queueNotes(spend.commitments, spend.ciphertext1, spend.ciphertext2);
        if (asset == PETH) _payMarket(publicOut);
    }

    /// @notice Makes a note whose asset and amount are public: an order's outcome.
    /// @param asset PETH, which is sent along, or energy of the market's microgrid.
    /// @param partialHash H(own, pk, blinding) of its owner, who knows it and so finds the note.
    function createNote(uint256 asset, uint96 amount, uint256 partialHash) external payable nonReentrant onlyMarket {
        require(amount > 0, ZeroAmount());
        require(asset == PETH || _isEnergy(asset, SUPPLY) || _isEnergy(asset, DELIVERY), WrongAsset(asset));
        _requireValue(asset == PETH ? amount : 0);
        if (asset == PETH) shielded[address(0)] += amount;
        uint256 cm = PoseidonT4.hash(ZkTags.CM, asset, amount, partialHash);
        _emitQueued(cm, abi.encodePacked(uint168(asset), amount, partialHash));
    }

    /// @notice Queues a note of energy whose mint proof the calling market has verified.
    function queueMinted(uint256 cm, bytes calldata ciphertext) external nonReentrant onlyMarket {
        _queueNote(cm, ciphertext);
    }

    /// @notice Marks notes as spent whose burn proof the calling market verifies.
    function consume(uint256 root, uint256[8] calldata nullifiers) external nonReentrant onlyMarket {
        require(isKnownRoot[root], UnknownRoot(root));
        for (uint256 i = 0; i < 8; ++i) {
            _spend(nullifiers[i]);
        }
    }

    // ---- views -------------------------------------------------------------------------------------------------

    /// @notice Notes ever queued.
    function queuedCount() external view returns (uint256) {
        return _queue.queued;
    }

    /// @notice Notes of the queue that are in the tree.
    function appendedCount() external view returns (uint256) {
        return _queue.appended;
    }

    /// @notice What the next batch takes: its leaves, padded with 0, and how many they are; 0 when nothing is ripe.
    function pendingLeaves() public view returns (uint256[16] memory leaves, uint256 count) {
        count = _queue.ripe(_epoch());
        uint256 first = _queue.appended;
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = _queue.leaves[first + i];
        }
    }

    /// @notice Calls that pay nothing out which a relay may make in an epoch (0: it is no relay), and how many it made.
    function relayQuota(address relay) external view returns (uint32 quotaPerEpoch, uint32 usedThisEpoch) {
        Quota storage quota = _quotas[relay];
        return (quota.perEpoch, quota.epoch == _epoch() ? quota.used : 0);
    }

    /// @notice What the public input `ext` of a `transact` must be: keccak256 over one word each of tag, chain id,
    /// contract, circuit set, recipient, relay, fee, validUntil, token and the hashes of both ciphertexts, modulo the
    /// circuit field.
    function transferExt(Ext calldata ext) public view returns (uint256) {
        return _extHash(TRANSFER_EXT, ext);
    }

    /// @notice As `transferExt`, for a `merge`.
    function mergeExt(Ext calldata ext) public view returns (uint256) {
        return _extHash(MERGE_EXT, ext);
    }

    // ---- rules of a transaction --------------------------------------------------------------------------------

    /// @dev The fee is paid in PETH only; a payout needs a receiver; without one nothing may be named. What pays nothing
    /// out, no fee either, goes through a relay, whose quota bounds what it costs strangers nothing to put into the queue.
    function _admit(uint96 publicOut, Ext calldata ext) private {
        require(block.timestamp <= ext.validUntil, Expired(ext.validUntil, block.timestamp));
        require(ext.fee <= publicOut, InvalidFee(ext.fee, publicOut));
        require(ext.fee == 0 || (ext.relay != address(0) && ext.token == address(0)), InvalidFee(ext.fee, publicOut));
        require(publicOut == ext.fee || ext.recipient != address(0), InvalidPayout());
        require(publicOut > 0 || ext.token == address(0), InvalidPayout());
        if (ext.fee == 0 && publicOut == 0) _useQuota(msg.sender);
        ++transactCount;
    }

    function _useQuota(address relay) private {
        Quota storage quota = _quotas[relay];
        uint32 perEpoch = quota.perEpoch;
        require(perEpoch > 0, NotRelay(relay));
        uint64 epoch = uint64(_epoch());
        uint32 used = quota.epoch == epoch ? quota.used : 0;
        require(used < perEpoch, QuotaExceeded(relay, perEpoch));
        (quota.used, quota.epoch) = (used + 1, epoch);
    }

    /// @dev What a market may take: a note of value 0 orders nothing, and a public asset needs a public amount.
    function _checkTaken(uint256 asset, uint96 publicOut) private view {
        require(publicOut > 0, ZeroAmount());
        require(asset == PETH || _isEnergy(asset, SUPPLY), WrongAsset(asset));
    }

    /// @dev Whether the asset is energy of that kind, of the calling market's microgrid.
    function _isEnergy(uint256 asset, uint256 kind) private view returns (bool) {
        return asset & 3 == kind && asset >> MICROGRID_SHIFT == _markets[msg.sender].microgrid;
    }

    // ---- proofs ------------------------------------------------------------------------------------------------

    function _transferInput(
        uint256 root,
        uint256[2] calldata nullifiers,
        uint256[2] calldata commitments,
        uint256 asset,
        uint256 publicOut,
        uint256 ext
    ) private pure returns (uint256[9] memory) {
        return [root, nullifiers[0], nullifiers[1], commitments[0], commitments[1], asset, 0, publicOut, ext];
    }

    /// @dev All but asset (11), public out (13) and ext (14).
    function _mergeInput(
        uint256 root,
        uint256[8] calldata nullifiers,
        uint256[2] calldata commitments,
        uint256 returnPartial
    ) private pure returns (uint256[16] memory input) {
        input[0] = root;
        for (uint256 i = 0; i < 8; ++i) {
            input[1 + i] = nullifiers[i];
        }
        (input[9], input[10], input[15]) = (commitments[0], commitments[1], returnPartial);
    }

    function _spendTransfer(uint256[8] calldata proof, uint256[9] memory input) private {
        require(isKnownRoot[input[0]], UnknownRoot(input[0]));
        _spend(input[1]);
        _spend(input[2]);
        for (uint256 i = 3; i < 9; ++i) {
            _requireField(input[i]);
        }
        require(ITransferVerifier(verifierSet.verifierOf(Circuits.TRANSFER)).verify(proof, input), InvalidProof());
    }

    function _spendMerge(uint256[8] calldata proof, uint256[16] memory input) private {
        require(isKnownRoot[input[0]], UnknownRoot(input[0]));
        for (uint256 i = 1; i < 9; ++i) {
            _spend(input[i]);
        }
        for (uint256 i = 9; i < 16; ++i) {
            _requireField(input[i]);
        }
        require(IMergeVerifier(verifierSet.verifierOf(Circuits.MERGE)).verify(proof, input), InvalidProof());
    }

    function _extHash(bytes32 tag, Ext calldata ext) private view returns (uint256) {
        bytes32 digest = keccak256(
            abi.encode(
                tag,
                block.chainid,
                address(this),
                verifierSet.circuitSet(),
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

    /// @dev Spending the first marks it before the second is looked at, so equal nullifiers are refused.
    function _spend(uint256 nullifier) private {
        _requireField(nullifier);
        require(!isSpent[nullifier], AlreadySpent(nullifier));
        isSpent[nullifier] = true;
        emit NullifierSpent(nullifier);
    }

    function _requireField(uint256 value) private pure {
        require(value < ZkTags.FIELD, OutsideField(value));
    }

    // ---- the queue ---------------------------------------------------------------------------------------------

    function _queueNotes(uint256[2] calldata commitments, bytes calldata ciphertext1, bytes calldata ciphertext2)
        private
    {
        _queueNote(commitments[0], ciphertext1);
        _queueNote(commitments[1], ciphertext2);
    }

    function _queueNote(uint256 cm, bytes calldata ciphertext) private returns (uint256 index) {
        require(ciphertext.length <= MAX_CIPHERTEXT_BYTES, CiphertextTooLong(ciphertext.length));
        return _emitQueued(cm, ciphertext);
    }

    /// @dev A leaf that is no field element would stop the queue for good: no append proof could state it.
    function _emitQueued(uint256 cm, bytes memory ciphertext) private returns (uint256 index) {
        _requireField(cm);
        index = _queue.push(_epoch(), cm);
        emit NoteQueued(index, cm, ciphertext);
    }

    function _epoch() private view returns (uint256) {
        return block.timestamp / epochSeconds;
    }

    // ---- value -------------------------------------------------------------------------------------------------

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

    function _payMarket(uint256 amount) private {
        shielded[address(0)] -= amount;
        IMarket(msg.sender).receivePeth{value: amount}();
    }

    function _pay(address to, uint256 amount) private {
        (bool paid,) = to.call{value: amount}("");
        require(paid, PaymentFailed());
    }

    /// @dev Refuses tokens that keep a fee: the note would be worth more than what came in.
    function _collect(IERC20 token, uint256 amount) private {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        require(received == amount, TransferFee(amount, received));
    }

    function _requireValue(uint256 expected) private view {
        require(msg.value == expected, WrongValue(expected, msg.value));
    }

    function _paidAsset(uint256 publicOut, address token) private pure returns (uint256) {
        return publicOut > 0 ? _assetOf(token) : PETH;
    }

    function _assetOf(address token) private pure returns (uint256) {
        return uint256(uint160(token)) << 2;
    }
}
