// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IMeterRegistry, Meter, SlotSum} from "../interfaces/IMeterRegistry.sol";

/// @title Metered energy of one microgrid: one unit is one Wh
/// @notice Supply comes only from exports that a registered meter signed, and never exceeds what the PPDL chain agreed
/// on for the slot. Bought energy is a claim on delivery: it can only be burned against metered import, so that nobody
/// hoards, resells or trades without a meter. What lies untouched for a day expires.
/// @dev Invariant: totalMinted = totalBurned + totalRedeemed + totalExpired + totalSupply. Energy moves only between
/// owners of this microgrid, registered exchanges and tie lines. A liquidity provider must be able to receive energy
/// from the exchange, thus import or be a tie line. Not here: who registers meters (`MeterRegistry`).
contract EnergyToken is ERC20, EIP712, ReentrancyGuardTransient {
    /// @notice Slots after which a reading can no longer be used and an untouched balance expires: one day.
    uint256 public constant LIFETIME_SLOTS = 96;
    uint8 public constant KIND_EXPORT = 1;
    uint8 public constant KIND_IMPORT = 2;
    bytes32 private constant READING_TYPEHASH =
        keccak256("MeterReading(uint8 kind,address meter,uint256 slot,uint256 energyWh)");

    struct SlotUse {
        uint128 mintedWh;
        uint128 burnedWh;
    }

    /// @dev `importWh` is stored plus one, so that 0 means "no reading yet".
    struct ImportUse {
        uint128 importWhPlusOne;
        uint128 burnedWh;
    }

    /// @notice Who says which meters, owners, exchanges and sums there are.
    IMeterRegistry public immutable registry;
    uint32 public immutable microgrid;
    /// @notice What the utility pays for one unsold Wh, in wei.
    uint256 public immutable feedInWeiPerWh;

    /// @notice Wh minted so far.
    uint256 public totalMinted;
    /// @notice Wh burned against imports so far.
    uint256 public totalBurned;
    /// @notice Wh sold to the utility so far.
    uint256 public totalRedeemed;
    /// @notice Wh that expired so far.
    uint256 public totalExpired;
    /// @notice Wei that the utility has put aside for redemptions.
    uint256 public escrow;
    /// @notice Wh minted and burned against the agreed sums of a slot.
    mapping(uint256 slot => SlotUse) public slotUse;
    /// @notice Whether a meter's export of a slot has been minted.
    mapping(address meter => mapping(uint256 slot => bool)) public isMinted;
    mapping(address meter => mapping(uint256 slot => ImportUse)) private _importUse;
    /// @notice Part of a balance that was bought: it can be burned, not sold or redeemed.
    mapping(address account => uint256) public deliveryOf;
    /// @notice Energy bought from exchanges in a slot.
    mapping(address account => mapping(uint256 slot => uint256)) public boughtInSlot;
    /// @notice Slot in which the newest energy of the account was minted or bought; a balance has one age, that of its
    /// newest part. Energy passed on between owners keeps its age: passing it to and fro renews nothing.
    mapping(address account => uint256) public lastIncomingSlot;

    event Minted(address indexed meter, uint256 indexed slot, address indexed owner, uint256 energyWh);
    event Burned(address indexed meter, uint256 indexed slot, address indexed owner, uint256 energyWh);
    event Redeemed(address indexed owner, uint256 energyWh, uint256 paidWei);
    event Expired(address indexed holder, uint256 energyWh);
    event EscrowFunded(address indexed from, uint256 amount);

    error NotMeterOwner(address meter, address caller);
    error WrongMicrogrid(address meter);
    error WrongMeterSignature(address meter, address recovered);
    error SlotOutOfRange(uint256 slot, uint256 currentSlot);
    error AlreadyMinted(address meter, uint256 slot);
    error OverCapacity(address meter, uint256 energyWh, uint256 capWh);
    error OverAgreedSum(uint256 slot, uint256 total, uint256 agreedWh);
    error ReadingChanged(address meter, uint256 slot);
    error OverReading(address meter, uint256 slot, uint256 total, uint256 readingWh);
    error TransferNotAllowed(address from, address to);
    error BuyerWithoutImport(address buyer);
    error OverImportCapacity(address buyer, uint256 total, uint256 capWh);
    error BoughtEnergyNotForSale(address holder, uint256 free, uint256 amount);
    error NotAnOwner(address account);
    error EscrowTooLow(uint256 escrow, uint256 needed);
    error NotExpired(address holder);
    error ZeroAmount();
    error PaymentFailed();

    constructor(
        string memory name_,
        string memory symbol_,
        IMeterRegistry registry_,
        uint32 microgrid_,
        uint256 feedInWeiPerWh_
    ) ERC20(name_, symbol_) EIP712("OpenMG EnergyToken", "1") {
        registry = registry_;
        microgrid = microgrid_;
        feedInWeiPerWh = feedInWeiPerWh_;
    }

    /// @notice One unit is one Wh; it is not divided.
    function decimals() public pure override returns (uint8) {
        return 0;
    }

    /// @notice Adds to the escrow that pays redemptions.
    function fund() external payable {
        escrow += msg.value;
        emit EscrowFunded(msg.sender, msg.value);
    }

    /// @notice Turns a meter's export of a slot into energy of its owner, once.
    /// @param meter Device address of the meter; the caller must own it.
    /// @param slot Slot of the reading; its sums must be recorded.
    /// @param exportWh Exported energy that the meter signed.
    /// @param signature The meter's EIP-712 signature over MeterReading(1, meter, slot, exportWh).
    function mint(address meter, uint256 slot, uint256 exportWh, bytes calldata signature) external {
        Meter memory m = _ownMeter(meter, slot);
        require(!isMinted[meter][slot], AlreadyMinted(meter, slot));
        require(exportWh > 0, ZeroAmount());
        require(exportWh <= m.capExportWh, OverCapacity(meter, exportWh, m.capExportWh));
        _requireSigned(KIND_EXPORT, meter, slot, exportWh, signature);
        SlotSum memory agreed = registry.slotSum(microgrid, slot);
        uint256 minted = slotUse[slot].mintedWh + exportWh;
        require(minted <= agreed.exportWh, OverAgreedSum(slot, minted, agreed.exportWh));
        isMinted[meter][slot] = true;
        slotUse[slot].mintedWh = uint128(minted);
        totalMinted += exportWh;
        _mint(msg.sender, exportWh);
        emit Minted(meter, slot, msg.sender, exportWh);
    }

    /// @notice Burns energy against a meter's import of a slot; bought energy is used up first.
    /// @param meter Device address of the meter; the caller must own it.
    /// @param slot Slot of the reading; its sums must be recorded.
    /// @param amountWh Energy to burn; with earlier burns of the slot at most `importWh`.
    /// @param importWh Imported energy that the meter signed.
    /// @param signature The meter's EIP-712 signature over MeterReading(2, meter, slot, importWh).
    function burn(address meter, uint256 slot, uint256 amountWh, uint256 importWh, bytes calldata signature) external {
        Meter memory m = _ownMeter(meter, slot);
        require(amountWh > 0, ZeroAmount());
        require(importWh <= m.capImportWh, OverCapacity(meter, importWh, m.capImportWh));
        _requireSigned(KIND_IMPORT, meter, slot, importWh, signature);
        ImportUse storage use = _importUse[meter][slot];
        require(use.importWhPlusOne == 0 || use.importWhPlusOne == importWh + 1, ReadingChanged(meter, slot));
        uint256 burned = use.burnedWh + amountWh;
        require(burned <= importWh, OverReading(meter, slot, burned, importWh));
        SlotSum memory agreed = registry.slotSum(microgrid, slot);
        uint256 total = slotUse[slot].burnedWh + amountWh;
        require(total <= agreed.importWh, OverAgreedSum(slot, total, agreed.importWh));
        use.importWhPlusOne = uint128(importWh + 1);
        use.burnedWh = uint128(burned);
        slotUse[slot].burnedWh = uint128(total);
        totalBurned += amountWh;
        _useDelivery(msg.sender, amountWh);
        _burn(msg.sender, amountWh);
        emit Burned(meter, slot, msg.sender, amountWh);
    }

    /// @notice Sells unsold own supply to the utility at the feed-in price.
    /// @param amountWh Energy that was not bought; the escrow must cover it.
    function redeem(uint256 amountWh) external nonReentrant {
        require(amountWh > 0, ZeroAmount());
        require(registry.isOwner(microgrid, msg.sender), NotAnOwner(msg.sender));
        _requireFree(msg.sender, amountWh);
        uint256 payment = amountWh * feedInWeiPerWh;
        require(payment <= escrow, EscrowTooLow(escrow, payment));
        escrow -= payment;
        totalRedeemed += amountWh;
        _burn(msg.sender, amountWh);
        emit Redeemed(msg.sender, amountWh, payment);
        (bool paid,) = msg.sender.call{value: payment}("");
        require(paid, PaymentFailed());
    }

    /// @notice Removes a balance that nothing was added to for a day. Anyone may call; exchanges are exempt.
    function expire(address holder) external {
        uint256 amount = balanceOf(holder);
        bool old = registry.currentSlot() > lastIncomingSlot[holder] + LIFETIME_SLOTS;
        require(amount > 0 && old && !registry.isExchange(holder), NotExpired(holder));
        totalExpired += amount;
        deliveryOf[holder] = 0;
        _burn(holder, amount);
        emit Expired(holder, amount);
    }

    /// @notice What was burned so far against a meter's import of a slot.
    function burnedAgainst(address meter, uint256 slot) external view returns (uint256) {
        return _importUse[meter][slot].burnedWh;
    }

    /// @notice The digest a meter signs for a reading.
    function readingDigest(uint8 kind, address meter, uint256 slot, uint256 energyWh) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(READING_TYPEHASH, kind, meter, slot, energyWh)));
    }

    /// @dev Every movement of energy passes here. Mint and burn were checked by their callers.
    function _update(address from, address to, uint256 value) internal override {
        if (from != address(0) && to != address(0)) _checkTransfer(from, to, value);
        if (to != address(0) && value > 0) _refresh(from, to);
        super._update(from, to, value);
    }

    function _refresh(address from, address to) private {
        bool passedOn = from != address(0) && registry.isOwner(microgrid, from);
        uint256 slot = passedOn ? lastIncomingSlot[from] : registry.currentSlot();
        if (slot > lastIncomingSlot[to]) lastIncomingSlot[to] = slot;
    }

    function _checkTransfer(address from, address to, uint256 value) private {
        bool fromMarket = registry.isExchange(from);
        bool fromTie = registry.isTieLine(from);
        bool toMarket = registry.isExchange(to);
        bool toTie = registry.isTieLine(to);
        bool fromOwner = registry.isOwner(microgrid, from);
        bool toOwner = registry.isOwner(microgrid, to);
        require((fromOwner || fromMarket || fromTie) && (toOwner || toMarket || toTie), TransferNotAllowed(from, to));
        require(!(fromMarket && toMarket), TransferNotAllowed(from, to)); // it would lie there for ever
        if (!fromMarket && !fromTie) {
            if (toMarket || toTie) _requireFree(from, value);
            else _moveDelivery(from, to, value);
        }
        if (fromMarket && !toMarket && !toTie) _buy(to, value);
    }

    /// @dev A purchase is limited to what the buyer's meters can import in a slot, and becomes a delivery.
    function _buy(address buyer, uint256 value) private {
        uint256 cap = registry.importCapWh(microgrid, buyer);
        require(cap > 0, BuyerWithoutImport(buyer));
        uint256 slot = registry.currentSlot();
        uint256 bought = boughtInSlot[buyer][slot] + value;
        require(bought <= cap, OverImportCapacity(buyer, bought, cap));
        boughtInSlot[buyer][slot] = bought;
        deliveryOf[buyer] += value;
    }

    /// @dev Between owners free energy moves first; what is more than that stays a delivery at the receiver.
    function _moveDelivery(address from, address to, uint256 value) private {
        uint256 free = balanceOf(from) - deliveryOf[from];
        if (value <= free || value > balanceOf(from)) return; // too high a value fails in the ERC-20 part
        deliveryOf[from] -= value - free;
        deliveryOf[to] += value - free;
    }

    function _useDelivery(address account, uint256 amount) private {
        uint256 delivery = deliveryOf[account];
        deliveryOf[account] = amount < delivery ? delivery - amount : 0;
    }

    function _requireFree(address account, uint256 amount) private view {
        uint256 free = balanceOf(account) - deliveryOf[account];
        require(amount <= free, BoughtEnergyNotForSale(account, free, amount));
    }

    function _ownMeter(address meter, uint256 slot) private view returns (Meter memory m) {
        m = registry.activeMeter(meter);
        require(m.owner == msg.sender, NotMeterOwner(meter, msg.sender));
        require(m.microgrid == microgrid, WrongMicrogrid(meter));
        uint256 current = registry.currentSlot();
        require(slot >= m.fromSlot && slot < current && current - slot <= LIFETIME_SLOTS, SlotOutOfRange(slot, current));
    }

    function _requireSigned(uint8 kind, address meter, uint256 slot, uint256 energyWh, bytes calldata signature)
        private
        view
    {
        address recovered = ECDSA.recoverCalldata(readingDigest(kind, meter, slot, energyWh), signature);
        require(recovered == meter, WrongMeterSignature(meter, recovered));
    }
}
