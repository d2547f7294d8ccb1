// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IEnergyRegistry} from "../interfaces/IEnergyRegistry.sol";
import {IMarket} from "../interfaces/IMarket.sol";
import {IBurnVerifier, IBuyVerifier, IMintVerifier} from "../interfaces/IVerifiers.sol";
import {Circuits} from "../lib/Circuits.sol";
import {CollarCurve} from "../lib/CollarCurve.sol";
import {Ladder} from "../lib/Ladder.sol";
import {MarketExt} from "../lib/MarketExt.sol";
import {ZkTags} from "../zk/ZkTags.sol";
import {ConfidentialToken} from "./ConfidentialToken.sol";
import {PoolLiquidity} from "./PoolLiquidity.sol";
import {VerifierSet} from "./VerifierSet.sol";

/// @title The private energy market of one microgrid
/// @notice A meter turns the export of an agreed slot into a supply note, sells supply in whole lots, buys at most
/// what it took, and burns what it bought, each by proof: nobody learns whose meter it was, nor how much it
/// minted or burned. The orders that come in one slot are a batch: they clear together at one price.
/// @dev A sale always fills: what buyers and pool do not take is redeemed from the utility's escrow at the floor, so no
/// energy is ever given back and a sale names no return. A purchase locks its lots at the cap; what it does not get
/// comes back as PETH. N of a purchase that got nothing is free again. Every proof binds chain, pool, circuit set and
/// the rest of its call by `ext`; roots, period, day, band and asset are looked up by slot and never chosen. Anybody may
/// submit any call, so nobody can keep an order from its slot: N bounds mints and purchases, T burns, real energy in whole
/// lots sales, and a call that fails costs its sender alone.
/// Not here: the price (`CollarCurve`), what providers may do (`PoolLiquidity`), notes and roots (`ConfidentialToken`).
contract EnergyPool is IMarket, PoolLiquidity {
    using SafeCast for uint256;

    bytes32 private constant MINT_EXT = keccak256("openmg.ext.mint.v1");
    bytes32 private constant SELL_EXT = keccak256("openmg.ext.sell.v1");
    bytes32 private constant BUY_EXT = keccak256("openmg.ext.buy.v1");
    bytes32 private constant BURN_EXT = keccak256("openmg.ext.burn.v1");
    /// @notice Slots after which a metered slot can no longer be minted or bought for, and a day's key not be traded.
    uint256 public constant ORDER_SLOTS = 96;
    /// @notice Slots after a key's day until which its deliveries can be burned.
    uint256 public constant BURN_SLOTS = 288;
    uint256 private constant SUPPLY = 1;
    uint256 private constant DELIVERY = 2;
    uint256 private constant PETH = 0;

    struct Sell {
        uint16 lots;
        uint256 payoutPartial;
    }

    /// @param before Lots that were wanted by earlier orders of the batch.
    struct Buy {
        uint16 lots;
        uint64 before;
        uint256 nullifier;
        uint256 deliveryPartial;
        uint256 changePartial;
    }

    struct Batch {
        uint64 soldLots;
        uint64 wantedLots;
        uint64 clearedLots;
        uint32 settled;
        bool closed;
        uint128 priceWeiPerLot;
        Sell[] sells;
        Buy[] buys;
    }

    ConfidentialToken public immutable token;
    VerifierSet public immutable verifiers;
    /// @notice Whether a mint's or purchase's N, or a burn's T, was used.
    mapping(uint256 nullifier => bool) public isUsed;
    mapping(uint40 key => mapping(uint32 batch => Batch)) private _batches;
    /// @notice PETH of purchases that are not cleared, and of outcomes that are not settled.
    uint256 public lockedWei;

    event Minted(uint32 indexed slot, uint256 nullifier);
    event SellPlaced(uint40 indexed key, uint32 indexed batch, uint16 lots);
    event BuyPlaced(uint40 indexed key, uint32 indexed batch, uint16 lots, uint256 nullifier);
    event BatchClosed(
        uint40 indexed key,
        uint32 indexed batch,
        uint256 soldLots,
        uint256 boughtLots,
        uint256 clearedLots,
        uint256 priceWeiPerLot
    );
    event BatchSettled(uint40 indexed key, uint32 indexed batch, uint256 orders);
    event Burned(uint40 indexed key, uint256 tag, uint256 kx, uint256 ky);

    error Expired(uint256 validUntil, uint256 time);
    error SlotOutOfRange(uint32 slot, uint32 currentSlot);
    error KeyOutOfRange(uint40 key, uint32 currentSlot);
    error OutsideField(uint256 value);
    error AlreadyUsed(uint256 nullifier);
    error NotOnTheLadder(uint16 lots);
    error InvalidProof();
    error NotTheToken(address caller);
    error BatchStillOpen(uint32 batch, uint32 currentSlot);
    error BatchAlreadyClosed(uint40 key, uint32 batch);
    error BatchNotClosed(uint40 key, uint32 batch);
    error NoOrders(uint40 key, uint32 batch);
    error NothingToSettle(uint40 key, uint32 batch);

    constructor(
        ConfidentialToken token_,
        VerifierSet verifiers_,
        IEnergyRegistry registry_,
        uint32 microgrid_,
        uint256 floorWeiPerWh_,
        uint256 capWeiPerWh_
    ) PoolLiquidity(registry_, microgrid_, floorWeiPerWh_, capWeiPerWh_) {
        token = token_;
        verifiers = verifiers_;
    }

    // ---- orders ------------------------------------------------------------------------------------------------

    /// @notice Turns the committed export of an agreed slot into a supply note of the meter's owner, once.
    /// @param nullifier N of the meter and slot.
    /// @param commitment The supply note.
    /// @param ciphertext The note, sealed to its owner.
    function mint(
        uint256[8] calldata proof,
        uint32 slot,
        uint256 nullifier,
        uint256 commitment,
        uint64 validUntil,
        bytes calldata ciphertext
    ) external nonReentrant {
        _requireInTime(validUntil);
        _requireMetered(slot);
        _use(nullifier);
        _requireField(commitment);
        uint256[9] memory input = [
            registry.rootAt(slot),
            registry.slotRoot(microgrid, slot),
            slot,
            registry.periodOf(slot),
            microgrid,
            _asset(SUPPLY, registry.keyOf(slot)),
            nullifier,
            commitment,
            mintExt(slot, validUntil, ciphertext)
        ];
        require(IMintVerifier(verifiers.verifierOf(Circuits.MINT)).verify(proof, input), InvalidProof());
        token.queueMinted(commitment, ciphertext);
        emit Minted(slot, nullifier);
    }

    /// @notice Sells whole lots of a key's supply, by a transfer.
    /// @param payoutPartial Where the PETH goes.
    function sell(
        ConfidentialToken.Spend calldata spend,
        uint40 key,
        uint16 lots,
        uint256 payoutPartial,
        uint64 validUntil
    ) external nonReentrant {
        _placeSell(key, lots, payoutPartial, validUntil);
        bytes32 bound = _boundBySale(key, lots, payoutPartial, validUntil, spend.ciphertext1, spend.ciphertext2);
        token.spendToMarket(spend, _asset(SUPPLY, key), uint96(lots * Ladder.LOT_WH), bound);
    }

    /// @notice Sells whole lots of a key's supply, by a merge.
    function sellMerged(
        ConfidentialToken.MergeSpend calldata spend,
        uint40 key,
        uint16 lots,
        uint256 payoutPartial,
        uint64 validUntil
    ) external nonReentrant {
        _placeSell(key, lots, payoutPartial, validUntil);
        bytes32 bound = _boundBySale(key, lots, payoutPartial, validUntil, spend.ciphertext1, spend.ciphertext2);
        token.spendMergedToMarket(spend, _asset(SUPPLY, key), uint96(lots * Ladder.LOT_WH), bound);
    }

    /// @notice Orders whole lots for the committed import of an agreed slot, once, and pays them at the cap.
    /// @param nullifier N of the meter and slot.
    /// @param deliveryPartial Where the energy goes: the meter's owner, by proof.
    /// @param changePartial Where PETH that is left goes.
    /// @param payment A transfer of PETH whose public value is lots * 100 Wh at the cap.
    function buy(
        uint256[8] calldata proof,
        uint32 slot,
        uint16 lots,
        uint256 nullifier,
        uint256 deliveryPartial,
        uint256 changePartial,
        ConfidentialToken.Spend calldata payment,
        uint64 validUntil
    ) external nonReentrant {
        _requireInTime(validUntil);
        _requireMetered(slot);
        _requireStep(lots);
        _use(nullifier);
        _requireField(deliveryPartial);
        _requireField(changePartial);
        bytes32 bound = _boundByPurchase(slot, lots, nullifier, deliveryPartial, changePartial, payment, validUntil);
        uint256[8] memory input = [
            registry.rootAt(slot),
            registry.slotRoot(microgrid, slot),
            slot,
            microgrid,
            lots,
            nullifier,
            deliveryPartial,
            MarketExt.bind(address(this), bound)
        ];
        require(IBuyVerifier(verifiers.verifierOf(Circuits.BUY)).verify(proof, input), InvalidProof());
        _placeBuy(registry.keyOf(slot), Buy(lots, 0, nullifier, deliveryPartial, changePartial));
        token.spendToMarket(payment, PETH, (lots * _lotWei(capWeiPerWh)).toUint96(), bound);
    }

    /// @notice Uses up delivered energy of a key: once for each meter, a hidden amount, after its last order.
    /// @param tag T of the meter and asset.
    /// @param kx The commitment K to the amount; its other coordinate is `ky`.
    function burn(
        uint256[8] calldata proof,
        uint40 key,
        uint256 root,
        uint256[8] calldata nullifiers,
        uint256 tag,
        uint256 kx,
        uint256 ky,
        uint64 validUntil
    ) external nonReentrant {
        _requireInTime(validUntil);
        uint32 last = registry.lastSlotOf(key);
        uint32 current = registry.currentSlot();
        require(current > last + ORDER_SLOTS && current <= last + BURN_SLOTS, KeyOutOfRange(key, current));
        _use(tag);
        _requireField(kx);
        _requireField(ky);
        token.consume(root, nullifiers);
        _verifyBurn(proof, key, root, nullifiers, [tag, kx, ky], validUntil);
        emit Burned(key, tag, kx, ky);
    }

    function _verifyBurn(
        uint256[8] calldata proof,
        uint40 key,
        uint256 root,
        uint256[8] calldata nullifiers,
        uint256[3] memory tagAndTotal,
        uint64 validUntil
    ) private view {
        uint256[17] memory input;
        input[0] = root;
        for (uint256 i = 0; i < 8; ++i) {
            input[1 + i] = nullifiers[i];
        }
        uint32 first = registry.firstSlotOf(key);
        input[9] = registry.rootAt(registry.lastSlotOf(key));
        (input[10], input[11], input[12]) = (first, registry.periodOf(first), _asset(DELIVERY, key));
        (input[13], input[14], input[15]) = (tagAndTotal[1], tagAndTotal[2], tagAndTotal[0]);
        input[16] = burnExt(key, validUntil);
        require(IBurnVerifier(verifiers.verifierOf(Circuits.BURN)).verify(proof, input), InvalidProof());
    }

    function _placeSell(uint40 key, uint16 lots, uint256 payoutPartial, uint64 validUntil) private {
        _requireInTime(validUntil);
        _requireStep(lots);
        _requireField(payoutPartial);
        uint32 current = registry.currentSlot();
        Batch storage batch = _orderBatch(key, current);
        batch.soldLots += lots;
        batch.sells.push(Sell(lots, payoutPartial));
        _reserve(lots);
        emit SellPlaced(key, current, lots);
    }

    function _placeBuy(uint40 key, Buy memory order) private {
        uint32 current = registry.currentSlot();
        Batch storage batch = _orderBatch(key, current);
        order.before = batch.wantedLots;
        batch.wantedLots += order.lots;
        batch.buys.push(order);
        lockedWei += order.lots * _lotWei(capWeiPerWh);
        emit BuyPlaced(key, current, order.lots, order.nullifier);
    }

    /// @dev The batch of this slot; a first order opens the key for trade, and its curve with it.
    function _orderBatch(uint40 key, uint32 current) private returns (Batch storage batch) {
        uint32 last = registry.lastSlotOf(key);
        require(current >= registry.firstSlotOf(key) && current <= last + ORDER_SLOTS, KeyOutOfRange(key, current));
        batch = _batches[key][current];
        if (batch.sells.length + batch.buys.length == 0) _beginBatch(key, current);
    }

    // ---- clearing ----------------------------------------------------------------------------------------------

    /// @notice Clears a key's oldest open batch, once its slot is over. Anybody may call this.
    function close(uint40 key, uint32 batchSlot) external nonReentrant {
        Batch storage batch = _batches[key][batchSlot];
        uint32 current = registry.currentSlot();
        require(current > batchSlot, BatchStillOpen(batchSlot, current));
        require(!batch.closed, BatchAlreadyClosed(key, batchSlot));
        require(batch.sells.length + batch.buys.length > 0, NoOrders(key, batchSlot));
        batch.closed = true;
        CollarCurve.Clearing memory result = _clear(key, batchSlot, batch.soldLots, batch.wantedLots);
        batch.clearedLots = result.clearedLots.toUint64();
        batch.priceWeiPerLot = result.priceWeiPerLot.toUint128();
        uint256 paidBySellersSide = batch.soldLots * result.priceWeiPerLot;
        uint256 paidByBuyers = result.clearedLots * result.priceWeiPerLot;
        // What purchases had locked becomes sellers' money, buyers' change and the pool's difference.
        lockedWei = lockedWei + paidBySellersSide - paidByBuyers;
        emit BatchClosed(key, batchSlot, batch.soldLots, batch.wantedLots, result.clearedLots, result.priceWeiPerLot);
    }

    /// @notice Makes the notes of up to `count` further orders of a closed batch. Anybody may call this.
    function settle(uint40 key, uint32 batchSlot, uint16 count) external nonReentrant {
        Batch storage batch = _batches[key][batchSlot];
        require(batch.closed, BatchNotClosed(key, batchSlot));
        uint256 sells = batch.sells.length;
        uint256 orders = sells + batch.buys.length;
        uint256 first = batch.settled;
        uint256 stop = first + count < orders ? first + count : orders;
        require(first < stop, NothingToSettle(key, batchSlot));
        batch.settled = uint32(stop);
        if (stop == orders) _endBatch(key);
        for (uint256 i = first; i < stop; ++i) {
            if (i < sells) _settleSell(batch, batch.sells[i]);
            else _settleBuy(key, batch, batch.buys[i - sells]);
        }
        emit BatchSettled(key, batchSlot, stop);
    }

    function _settleSell(Batch storage batch, Sell storage order) private {
        _pay(order.lots * uint256(batch.priceWeiPerLot), order.payoutPartial);
    }

    /// @dev Of C cleared lots an order gets floor(c' C / W) - floor(c C / W), c and c' the lots wanted before and with it, W those of
    /// all: the parts add up to C, and no order gets more than it wanted.
    function _settleBuy(uint40 key, Batch storage batch, Buy storage order) private {
        uint256 before = uint256(order.before) * batch.clearedLots;
        uint256 until = before + uint256(order.lots) * batch.clearedLots;
        uint256 filled = until / batch.wantedLots - before / batch.wantedLots;
        if (filled == 0) isUsed[order.nullifier] = false;
        else token.createNote(_asset(DELIVERY, key), uint96(filled * Ladder.LOT_WH), order.deliveryPartial);
        _pay(order.lots * _lotWei(capWeiPerWh) - filled * batch.priceWeiPerLot, order.changePartial);
    }

    function _pay(uint256 amount, uint256 partialHash) private {
        lockedWei -= amount;
        if (amount > 0) token.createNote{value: amount}(PETH, amount.toUint96(), partialHash);
    }

    /// @notice Takes the PETH of a payment; the token's alone.
    function receivePeth() external payable {
        require(msg.sender == address(token), NotTheToken(msg.sender));
    }

    // ---- views -------------------------------------------------------------------------------------------------

    /// @notice Orders of a batch, those already settled, whether it is closed, and its price once it is.
    function orderCounts(uint40 key, uint32 batchSlot)
        external
        view
        returns (uint256 sells, uint256 buys, uint256 settled, bool closed, uint256 priceWeiPerLot)
    {
        Batch storage batch = _batches[key][batchSlot];
        return (batch.sells.length, batch.buys.length, batch.settled, batch.closed, batch.priceWeiPerLot);
    }

    /// @notice `ext` of a mint.
    function mintExt(uint32 slot, uint64 validUntil, bytes calldata ciphertext) public view returns (uint256) {
        return _field(
            abi.encode(
                MINT_EXT, block.chainid, address(this), verifiers.circuitSet(), slot, validUntil, keccak256(ciphertext)
            )
        );
    }

    /// @notice `ext` of a sale, by a transfer or a merge.
    function sellExt(
        uint40 key,
        uint16 lots,
        uint256 payoutPartial,
        uint64 validUntil,
        bytes calldata ciphertext1,
        bytes calldata ciphertext2
    ) external view returns (uint256) {
        return MarketExt.bind(
            address(this), _boundBySale(key, lots, payoutPartial, validUntil, ciphertext1, ciphertext2)
        );
    }

    /// @notice `ext` of a purchase and of its payment: each proof names what the other spends or claims.
    function buyExt(
        uint32 slot,
        uint16 lots,
        uint256 nullifier,
        uint256 deliveryPartial,
        uint256 changePartial,
        ConfidentialToken.Spend calldata payment,
        uint64 validUntil
    ) external view returns (uint256) {
        return MarketExt.bind(
            address(this), _boundByPurchase(slot, lots, nullifier, deliveryPartial, changePartial, payment, validUntil)
        );
    }

    /// @notice `ext` of a burn.
    function burnExt(uint40 key, uint64 validUntil) public view returns (uint256) {
        return _field(abi.encode(BURN_EXT, block.chainid, address(this), verifiers.circuitSet(), key, validUntil));
    }

    // ---- rules -------------------------------------------------------------------------------------------------

    function _requireInTime(uint64 validUntil) private view {
        require(block.timestamp <= validUntil, Expired(validUntil, block.timestamp));
    }

    function _requireMetered(uint32 slot) private view {
        uint32 current = registry.currentSlot();
        require(slot < current && current <= slot + ORDER_SLOTS, SlotOutOfRange(slot, current));
    }

    function _requireStep(uint16 lots) private pure {
        require(Ladder.isStep(lots), NotOnTheLadder(lots));
    }

    function _use(uint256 nullifier) private {
        _requireField(nullifier);
        require(!isUsed[nullifier], AlreadyUsed(nullifier));
        isUsed[nullifier] = true;
    }

    function _requireField(uint256 value) private pure {
        require(value < ZkTags.FIELD, OutsideField(value));
    }

    function _boundBySale(
        uint40 key,
        uint16 lots,
        uint256 payoutPartial,
        uint64 validUntil,
        bytes calldata ciphertext1,
        bytes calldata ciphertext2
    ) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                SELL_EXT,
                block.chainid,
                address(this),
                verifiers.circuitSet(),
                key,
                lots,
                payoutPartial,
                validUntil,
                keccak256(ciphertext1),
                keccak256(ciphertext2)
            )
        );
    }

    function _boundByPurchase(
        uint32 slot,
        uint16 lots,
        uint256 nullifier,
        uint256 deliveryPartial,
        uint256 changePartial,
        ConfidentialToken.Spend calldata payment,
        uint64 validUntil
    ) private view returns (bytes32) {
        bytes memory order = abi.encode(
            BUY_EXT, block.chainid, address(this), verifiers.circuitSet(), slot, lots, nullifier
        );
        bytes memory paid = abi.encode(payment.root, payment.nullifiers, payment.commitments, validUntil);
        return keccak256(
            bytes.concat(
                order,
                abi.encode(deliveryPartial, changePartial),
                paid,
                keccak256(payment.ciphertext1),
                keccak256(payment.ciphertext2)
            )
        );
    }

    function _field(bytes memory data) private pure returns (uint256) {
        return uint256(keccak256(data)) % ZkTags.FIELD;
    }

    function _asset(uint256 kind, uint40 key) private view returns (uint256) {
        return kind | (((uint256(microgrid) << 40) | key) << 2);
    }
}
