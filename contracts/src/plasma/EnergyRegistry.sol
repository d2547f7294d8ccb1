// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IEnergyRegistry} from "../interfaces/IEnergyRegistry.sol";
import {EventProof, IPpdlRelay} from "../interfaces/IPpdlRelay.sol";
import {ZkTags} from "../zk/ZkTags.sol";

/// @title Meters as proofs know them, the commitments agreed for every slot, and the calendar of tariffs
/// @notice A meter counts once the operator has proposed its leaf and the utility has approved the same change with the
/// same root. What was agreed for a slot enters only as an event of the PPDL chain, proved through the relay.
/// @dev The root of the meters' Poseidon tree is computed and checked by both roles outside the chain; whoever wants to
/// check it too has every leaf in the events. A slot's root is the last one approved up to that slot, so it is fixed
/// when the slot is over; new leaves begin later than the slot of their approval. Closed leaves stay. Not here: whose
/// meter it is in public (`MeterRegistry`), orders (`EnergyPool`).
contract EnergyRegistry is IEnergyRegistry {
    bytes32 private constant SLOT_ROOT_TAG = keccak256("openmg.event.slotroot.v1");
    /// @notice `toSlot` of a leaf that is not closed.
    uint32 public constant OPEN = type(uint32).max;
    uint256 public constant SLOTS_PER_DAY = 96;
    uint256 private constant SLOTS_PER_HOUR = 4;
    /// @dev Time from deployment for which slots must fit their 32 bits.
    uint256 private constant CENTURY_MILLIS = 36_500 days * 1000;

    /// @param meterId mid = H(mid, mk).
    /// @param publicKey pk of the owner's notes.
    /// @param number Number of the physical meter, hashed; not a part of the leaf.
    /// @param capExportWh Most it can export in a slot.
    /// @param capImportWh Most it can import in a slot.
    /// @param fromSlot First slot that counts.
    /// @param toSlot First slot that no longer counts; `OPEN` until the leaf is closed.
    struct MeterLeaf {
        uint256 meterId;
        uint256 publicKey;
        bytes32 number;
        uint32 capExportWh;
        uint32 capImportWh;
        uint32 microgrid;
        uint32 fromSlot;
        uint32 toSlot;
    }

    /// @param index Place of the leaf in the tree.
    /// @param toSlot First slot in which it no longer counts.
    struct Closing {
        uint32 index;
        uint32 toSlot;
    }

    /// @param genesisSlot Slot from which slots are counted.
    /// @param genesisMillis Wall time at which it began, Unix milliseconds.
    /// @param slotWallMillis Wall length of a slot; so long that a century's slots have numbers of their own.
    struct SlotClock {
        uint256 genesisSlot;
        uint256 genesisMillis;
        uint256 slotWallMillis;
    }

    /// @param utcOffsetSlots Local time less UTC, in slots.
    /// @param periodDays Days of a billing period.
    /// @param bandOfHour Tariff band of every local hour.
    struct Calendar {
        int32 utcOffsetSlots;
        uint16 periodDays;
        bytes24 bandOfHour;
    }

    /// @param leaves How many meters' commitments lie under the root.
    struct SlotRoot {
        uint32 microgrid;
        uint32 slot;
        uint256 root;
        uint32 leaves;
    }

    struct Frozen {
        uint32 slot;
        uint256 root;
    }

    address public immutable operator;
    address public immutable utility;
    IPpdlRelay public immutable relay;
    uint256 private immutable _genesisSlot;
    uint256 private immutable _genesisMillis;
    uint256 private immutable _slotWallMillis;
    int256 private immutable _utcOffsetSlots;
    uint256 private immutable _periodDays;
    bytes24 private immutable _bandOfHour;

    /// @notice The change that the operator has proposed, as a hash; 0 when none is.
    bytes32 public proposedHash;
    MeterLeaf[] private _leaves;
    Frozen[] private _history;
    /// @notice Whether an open leaf has this meter id, owner's key or meter number.
    mapping(bytes32 use => bool) private _inUse;
    /// @notice First slot in which a meter that was closed may count again.
    mapping(uint256 meterId => uint32) public freeFrom;
    /// @notice The same for the number of a physical meter, which may come back under another id.
    mapping(bytes32 number => uint32) public numberFreeFrom;
    mapping(uint32 microgrid => mapping(uint32 slot => SlotRoot)) private _slotRoots;

    event ChangeProposed(bytes32 indexed hash, uint256 newRoot);
    event RegistryChanged(uint32 indexed slot, uint256 root, MeterLeaf[] added, Closing[] closed);
    event SlotRootRecorded(uint32 indexed microgrid, uint32 indexed slot, uint256 root, uint32 leaves);

    error NotOperator(address caller);
    error NotUtility(address caller);
    error InvalidClock();
    error InvalidLeaf(uint256 index);
    error InUse(bytes32 use);
    error InvalidClosing(uint32 index, uint32 toSlot);
    error OutsideField(uint256 value);
    error NotProposed(bytes32 hash);
    error NothingChanges();
    error NoRegistry(uint32 slot);
    error InvalidKey(uint40 key);
    error FutureSlot(uint32 slot, uint32 currentSlot);
    error SlotRootUnknown(uint32 microgrid, uint32 slot);
    error SlotRootAlreadyRecorded(uint32 microgrid, uint32 slot);
    error EventNotProved();

    constructor(
        address operator_,
        address utility_,
        IPpdlRelay relay_,
        SlotClock memory clock,
        Calendar memory calendar
    ) {
        require(clock.slotWallMillis > 0 && clock.genesisMillis <= block.timestamp * 1000, InvalidClock());
        // A slot number that wraps would be an old slot again, whose root and commitments stand here.
        uint256 millis = block.timestamp * 1000 - clock.genesisMillis + CENTURY_MILLIS;
        bool fits = clock.genesisSlot < OPEN && millis / clock.slotWallMillis < OPEN - clock.genesisSlot;
        require(fits && calendar.periodDays > 0, InvalidClock());
        require(int256(clock.genesisSlot) + calendar.utcOffsetSlots >= 0, InvalidClock());
        operator = operator_;
        utility = utility_;
        relay = relay_;
        _genesisSlot = clock.genesisSlot;
        _genesisMillis = clock.genesisMillis;
        _slotWallMillis = clock.slotWallMillis;
        _utcOffsetSlots = calendar.utcOffsetSlots;
        _periodDays = calendar.periodDays;
        _bandOfHour = calendar.bandOfHour;
    }

    // ---- meters ------------------------------------------------------------------------------------------------

    /// @notice The operator's half of a change: leaves that are added behind the others, and leaves that end.
    /// @param newRoot Root of the tree with the change; both roles compute it.
    function propose(MeterLeaf[] calldata added, Closing[] calldata closed, uint256 newRoot) external {
        require(msg.sender == operator, NotOperator(msg.sender));
        bytes32 hash = keccak256(abi.encode(added, closed, newRoot));
        proposedHash = hash;
        emit ChangeProposed(hash, newRoot);
    }

    /// @notice The utility's half: the same change counts from now on.
    function approve(MeterLeaf[] calldata added, Closing[] calldata closed, uint256 newRoot) external {
        require(msg.sender == utility, NotUtility(msg.sender));
        bytes32 hash = keccak256(abi.encode(added, closed, newRoot));
        require(hash == proposedHash, NotProposed(hash));
        require(added.length + closed.length > 0, NothingChanges());
        require(newRoot < ZkTags.FIELD, OutsideField(newRoot));
        delete proposedHash;
        uint32 slot = currentSlot();
        for (uint256 i = 0; i < closed.length; ++i) {
            _close(closed[i], slot);
        }
        for (uint256 i = 0; i < added.length; ++i) {
            _add(added[i], i, slot);
        }
        _freeze(slot, newRoot);
        emit RegistryChanged(slot, newRoot, added, closed);
    }

    function _add(MeterLeaf calldata leaf, uint256 index, uint32 slot) private {
        bool numbers = leaf.meterId < ZkTags.FIELD && leaf.publicKey < ZkTags.FIELD && leaf.toSlot == OPEN;
        bool future = leaf.fromSlot > slot && leaf.fromSlot < OPEN;
        bool free = leaf.fromSlot >= freeFrom[leaf.meterId] && leaf.fromSlot >= numberFreeFrom[leaf.number];
        require(numbers && future && free && (leaf.capExportWh > 0 || leaf.capImportWh > 0), InvalidLeaf(index));
        _take("meter", bytes32(leaf.meterId));
        _take("owner", bytes32(leaf.publicKey));
        _take("number", leaf.number);
        _leaves.push(leaf);
    }

    function _close(Closing calldata closing, uint32 slot) private {
        require(closing.index < _leaves.length, InvalidClosing(closing.index, closing.toSlot));
        MeterLeaf storage leaf = _leaves[closing.index];
        bool open = leaf.toSlot == OPEN && closing.toSlot != OPEN;
        require(open && closing.toSlot > slot, InvalidClosing(closing.index, closing.toSlot));
        leaf.toSlot = closing.toSlot;
        // A leaf that is closed before it began must not free what an earlier one still holds; its own start is no earlier.
        uint32 free = closing.toSlot > leaf.fromSlot ? closing.toSlot : leaf.fromSlot;
        freeFrom[leaf.meterId] = free;
        numberFreeFrom[leaf.number] = free;
        delete _inUse[_use("meter", bytes32(leaf.meterId))];
        delete _inUse[_use("owner", bytes32(leaf.publicKey))];
        delete _inUse[_use("number", leaf.number)];
    }

    function _take(string memory what, bytes32 value) private {
        bytes32 use = _use(what, value);
        require(!_inUse[use], InUse(use));
        _inUse[use] = true;
    }

    function _use(string memory what, bytes32 value) private pure returns (bytes32) {
        return keccak256(abi.encode(what, value));
    }

    function _freeze(uint32 slot, uint256 root) private {
        uint256 count = _history.length;
        if (count > 0 && _history[count - 1].slot == slot) _history[count - 1].root = root;
        else _history.push(Frozen(slot, root));
    }

    /// @notice Leaves ever registered.
    function leafCount() external view returns (uint256) {
        return _leaves.length;
    }

    /// @notice A leaf as it stands now.
    function leafAt(uint256 index) external view returns (MeterLeaf memory) {
        return _leaves[index];
    }

    /// @inheritdoc IEnergyRegistry
    function rootAt(uint32 slot) external view returns (uint256) {
        uint32 current = currentSlot();
        require(slot <= current, FutureSlot(slot, current));
        (uint256 low, uint256 high) = (0, _history.length);
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (_history[middle].slot <= slot) low = middle + 1;
            else high = middle;
        }
        require(low > 0, NoRegistry(slot));
        return _history[low - 1].root;
    }

    // ---- slots -------------------------------------------------------------------------------------------------

    /// @notice Records the agreed commitments of a slot, once. Anyone may bring the proof.
    /// @param agreed Exactly what the event says.
    /// @param proof Where the event stands on the PPDL chain.
    function recordSlotRoot(SlotRoot calldata agreed, EventProof calldata proof) external {
        SlotRoot storage stored = _slotRoots[agreed.microgrid][agreed.slot];
        require(stored.leaves == 0, SlotRootAlreadyRecorded(agreed.microgrid, agreed.slot));
        bytes memory leaf =
            abi.encode(SLOT_ROOT_TAG, relay.ppdlChainId(), agreed.microgrid, agreed.slot, agreed.root, agreed.leaves);
        require(agreed.leaves > 0 && relay.verifyEvent(leaf, proof), EventNotProved());
        require(agreed.root < ZkTags.FIELD, OutsideField(agreed.root));
        _slotRoots[agreed.microgrid][agreed.slot] = agreed;
        emit SlotRootRecorded(agreed.microgrid, agreed.slot, agreed.root, agreed.leaves);
    }

    /// @inheritdoc IEnergyRegistry
    function slotRoot(uint32 microgrid, uint32 slot) external view returns (uint256) {
        SlotRoot storage stored = _slotRoots[microgrid][slot];
        require(stored.leaves > 0, SlotRootUnknown(microgrid, slot));
        return stored.root;
    }

    /// @notice Whether the commitments of a slot are recorded.
    function isRecorded(uint32 microgrid, uint32 slot) external view returns (bool) {
        return _slotRoots[microgrid][slot].leaves > 0;
    }

    // ---- calendar ----------------------------------------------------------------------------------------------

    /// @inheritdoc IEnergyRegistry
    function currentSlot() public view returns (uint32) {
        return uint32(_genesisSlot + (block.timestamp * 1000 - _genesisMillis) / _slotWallMillis);
    }

    /// @notice Local day of a slot.
    function dayOf(uint32 slot) public view returns (uint32) {
        return uint32(_local(slot) / SLOTS_PER_DAY);
    }

    /// @notice Tariff band of a slot.
    function bandOf(uint32 slot) public view returns (uint8) {
        return uint8(_bandOfHour[(_local(slot) % SLOTS_PER_DAY) / SLOTS_PER_HOUR]);
    }

    /// @inheritdoc IEnergyRegistry
    function keyOf(uint32 slot) external view returns (uint40) {
        return (uint40(dayOf(slot)) << 8) | bandOf(slot);
    }

    /// @inheritdoc IEnergyRegistry
    function periodOf(uint32 slot) external view returns (uint32) {
        return uint32(dayOf(slot) / _periodDays);
    }

    /// @inheritdoc IEnergyRegistry
    function firstSlotOf(uint40 key) public view returns (uint32) {
        int256 first = int256(uint256(key >> 8) * SLOTS_PER_DAY) - _utcOffsetSlots;
        // Cut to 32 bits, a far day would have the slots of a near one.
        require(first <= int256(uint256(OPEN) - SLOTS_PER_DAY), InvalidKey(key));
        return first < 0 ? 0 : uint32(uint256(first));
    }

    /// @inheritdoc IEnergyRegistry
    function lastSlotOf(uint40 key) external view returns (uint32) {
        return uint32(firstSlotOf(key) + SLOTS_PER_DAY - 1);
    }

    function _local(uint32 slot) private view returns (uint256) {
        int256 local = int256(uint256(slot)) + _utcOffsetSlots;
        return local < 0 ? 0 : uint256(local);
    }
}
