// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IEnergyRegistry} from "../interfaces/IEnergyRegistry.sol";
import {CollarCurve} from "../lib/CollarCurve.sol";
import {Ladder} from "../lib/Ladder.sol";

/// @title Who stands behind a key of the energy market: providers with PETH, and the utility's escrow
/// @notice Each key (a day and a tariff band) is a pool of its own. Providers bring PETH before the key's first order and
/// take their share after it is closed; the rest of its energy is redeemed then, at the floor. Less PETH than a curve
/// needs trades nothing and comes back whole.
/// @dev Invariant: the balance is the sum of all keys' PETH, the escrow, and what orders have locked (`EnergyPool`).
/// The escrow keeps the floor for every lot that is offered or lies in a pool, so no clearing and no closing ever waits
/// for it: a sale that it could not redeem is not taken. Batches of a key are cleared in the order of their slots, since
/// the price of one depends on those before it and whoever clears must not choose.
/// Not here: orders (`EnergyPool`), prices (`CollarCurve`).
abstract contract PoolLiquidity is ReentrancyGuardTransient {
    using SafeCast for uint256;

    /// @notice Slots after a key's day after which no order of it can come any more.
    uint256 public constant TRADE_SLOTS = 96;
    /// @notice Most PETH that a key may hold from its providers.
    uint256 public constant MAX_LIQUIDITY_WEI = type(uint96).max;

    /// @param provided PETH that providers brought; their shares are of this.
    /// @param openBatches Batches that are not settled to the end.
    /// @param cleared Batches that are cleared.
    /// @param opened Whether a first order came.
    /// @param closed Whether providers may take their shares.
    struct Key {
        CollarCurve.Reserves reserves;
        uint128 provided;
        uint32 openBatches;
        uint32 cleared;
        bool opened;
        bool closed;
    }

    IEnergyRegistry public immutable registry;
    uint32 public immutable microgrid;
    /// @notice Lowest and highest price of one Wh.
    uint256 public immutable floorWeiPerWh;
    uint256 public immutable capWeiPerWh;
    /// @notice What the utility has put aside for energy that nobody buys.
    uint256 public escrow;
    /// @notice The part of the escrow that is kept for lots which are offered or lie in a pool.
    uint256 public reservedWei;
    mapping(uint40 key => Key) private _keys;
    /// @dev Slots in which a key's batches began, ascending.
    mapping(uint40 key => uint32[]) private _batchesOf;
    /// @notice PETH that an account brought to a key and has not taken back.
    mapping(uint40 key => mapping(address provider => uint256)) public providedBy;

    event EscrowFunded(address indexed from, uint256 amount);
    event Provided(uint40 indexed key, address indexed provider, uint256 amount);
    event KeyClosed(uint40 indexed key, uint256 redeemedWh, uint256 reserveWei);
    event Withdrawn(uint40 indexed key, address indexed provider, uint256 amount);

    error InvalidCollar(uint256 floorWeiPerWh, uint256 capWeiPerWh);
    error TooLate(uint40 key);
    error ZeroAmount();
    error TooMuch(uint256 amount);
    error KeyNotOver(uint40 key);
    error KeyAlreadyClosed(uint40 key);
    error KeyNotClosed(uint40 key);
    error EscrowTooLow(uint256 free, uint256 needed);
    error NotTheOldest(uint40 key, uint32 oldest);
    error PaymentFailed();

    constructor(IEnergyRegistry registry_, uint32 microgrid_, uint256 floorWeiPerWh_, uint256 capWeiPerWh_) {
        // There is room for a curve, and what an order locks fits 96 bits.
        bool wide = floorWeiPerWh_ >= CollarCurve.MIN_FLOOR && floorWeiPerWh_ + floorWeiPerWh_ / 1000 < capWeiPerWh_;
        require(wide && capWeiPerWh_ < 1 << 64, InvalidCollar(floorWeiPerWh_, capWeiPerWh_));
        registry = registry_;
        microgrid = microgrid_;
        floorWeiPerWh = floorWeiPerWh_;
        capWeiPerWh = capWeiPerWh_;
    }

    /// @notice Adds to the escrow.
    function fund() external payable {
        escrow += msg.value;
        emit EscrowFunded(msg.sender, msg.value);
    }

    /// @notice Brings PETH to a key whose first order has not come.
    function provide(uint40 key) external payable {
        Key storage stored = _keys[key];
        require(msg.value > 0, ZeroAmount());
        bool early = !stored.opened && !stored.closed && registry.currentSlot() <= registry.lastSlotOf(key);
        require(early, TooLate(key));
        uint256 total = stored.provided + msg.value;
        require(total <= MAX_LIQUIDITY_WEI, TooMuch(total));
        stored.provided = uint128(total);
        stored.reserves.wei_ = uint128(total);
        providedBy[key][msg.sender] += msg.value;
        emit Provided(key, msg.sender, msg.value);
    }

    /// @notice Ends a key after its last order is settled: its energy is redeemed at the floor. Anybody may call this.
    function closeKey(uint40 key) external {
        Key storage stored = _keys[key];
        require(!stored.closed, KeyAlreadyClosed(key));
        bool over = registry.currentSlot() > registry.lastSlotOf(key) + TRADE_SLOTS;
        require(over && stored.openBatches == 0, KeyNotOver(key));
        stored.closed = true;
        uint256 wh = stored.reserves.wh;
        reservedWei -= wh * floorWeiPerWh;
        escrow -= wh * floorWeiPerWh;
        stored.reserves.wh = 0;
        stored.reserves.wei_ += (wh * floorWeiPerWh).toUint128();
        emit KeyClosed(key, wh, stored.reserves.wei_);
    }

    /// @notice Pays the sender its share of a closed key.
    function withdraw(uint40 key) external nonReentrant {
        Key storage stored = _keys[key];
        require(stored.closed, KeyNotClosed(key));
        uint256 share = providedBy[key][msg.sender];
        require(share > 0, ZeroAmount());
        providedBy[key][msg.sender] = 0;
        uint256 amount = (uint256(stored.reserves.wei_) * share) / stored.provided;
        // Both fall together, so the shares of those who wait keep their worth.
        stored.reserves.wei_ -= uint128(amount);
        stored.provided -= uint128(share);
        emit Withdrawn(key, msg.sender, amount);
        (bool paid,) = msg.sender.call{value: amount}("");
        require(paid, PaymentFailed());
    }

    /// @notice PETH, energy and virtual offsets of a key.
    function reserves(uint40 key)
        external
        view
        returns (uint256 reserveWei, uint256 reserveWh, uint256 virtualWei, uint256 virtualWh)
    {
        CollarCurve.Reserves storage pool = _keys[key].reserves;
        return (pool.wei_, pool.wh, pool.virtualWei, pool.virtualWh);
    }

    /// @notice How many batches of a key are not settled, and whether it had an order and was closed.
    function keyState(uint40 key) external view returns (uint256 openBatches, bool opened, bool closed) {
        Key storage stored = _keys[key];
        return (stored.openBatches, stored.opened, stored.closed);
    }

    // ---- for the market ----------------------------------------------------------------------------------------

    /// @dev The batch of a slot gets its first order; the key's first one fixes the curve.
    function _beginBatch(uint40 key, uint32 slot) internal {
        Key storage stored = _keys[key];
        require(!stored.closed, KeyAlreadyClosed(key));
        ++stored.openBatches;
        _batchesOf[key].push(slot);
        if (stored.opened) return;
        stored.opened = true;
        if (!CollarCurve.suffices(stored.provided, capWeiPerWh)) return;
        (uint128 virtualWei, uint128 virtualWh) = CollarCurve.offsets(stored.provided, floorWeiPerWh, capWeiPerWh);
        (stored.reserves.virtualWei, stored.reserves.virtualWh) = (virtualWei, virtualWh);
        stored.reserves.product = (uint256(stored.provided) + virtualWei) * virtualWh;
    }

    /// @dev Keeps the floor of lots that are offered.
    function _reserve(uint256 lots) internal {
        uint256 needed = lots * _lotWei(floorWeiPerWh);
        uint256 free = escrow - reservedWei;
        require(needed <= free, EscrowTooLow(free, needed));
        reservedWei += needed;
    }

    function _endBatch(uint40 key) internal {
        --_keys[key].openBatches;
    }

    /// @dev Clears `sold` against `wanted` lots in the key's oldest batch and moves pool and escrow accordingly.
    function _clear(uint40 key, uint32 slot, uint256 sold, uint256 wanted)
        internal
        returns (CollarCurve.Clearing memory result)
    {
        uint32 oldest = _batchesOf[key][_keys[key].cleared];
        require(slot == oldest, NotTheOldest(key, oldest));
        ++_keys[key].cleared;
        CollarCurve.Reserves storage pool = _keys[key].reserves;
        result = CollarCurve.clear(pool, sold, wanted, floorWeiPerWh, capWeiPerWh);
        uint256 redeemed = result.escrowLots * _lotWei(floorWeiPerWh);
        escrow -= redeemed;
        uint256 poolWh = result.poolLots * Ladder.LOT_WH;
        reservedWei -= sold * _lotWei(floorWeiPerWh);
        if (result.clearedLots > sold) {
            pool.wei_ += (result.poolLots * result.priceWeiPerLot).toUint128();
            pool.wh -= poolWh.toUint128();
            reservedWei -= poolWh * floorWeiPerWh;
        } else if (sold > result.clearedLots) {
            pool.wei_ -= ((sold - result.clearedLots) * result.priceWeiPerLot - redeemed).toUint128();
            pool.wh += poolWh.toUint128();
            reservedWei += poolWh * floorWeiPerWh;
        }
    }

    function _lotWei(uint256 weiPerWh) internal pure returns (uint256) {
        return weiPerWh * Ladder.LOT_WH;
    }
}
