// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EventProof, IPpdlRelay} from "../interfaces/IPpdlRelay.sol";
import {IMeterRegistry, Meter, SlotSum} from "../interfaces/IMeterRegistry.sol";

/// @title Meters, the accounts that may hold energy, and the agreed sums of every slot
/// @notice A meter counts once the operator has proposed it and the utility has approved the same content. A slot's
/// sums enter only as an event of the PPDL chain, proved through the relay.
/// @dev Slots are counted from a known slot at a known time, because the virtual clock may run faster than this chain.
/// Not here: energy itself (`EnergyToken`).
contract MeterRegistry is IMeterRegistry {
    bytes32 private constant SLOT_TAG = keccak256("openmg.event.slot.v1");

    address public immutable operator;
    address public immutable utility;
    IPpdlRelay public immutable relay;
    /// @notice Index of the slot from which slots are counted.
    uint256 public immutable genesisSlot;
    /// @notice Wall time at which `genesisSlot` began, Unix milliseconds.
    uint256 public immutable genesisMillis;
    /// @notice Wall length of one slot in milliseconds.
    uint256 public immutable slotWallMillis;

    /// @notice Content of a meter that the operator has proposed and the utility has not approved yet.
    mapping(address device => bytes32) public proposedHash;
    mapping(address device => Meter) private _meters;
    mapping(uint32 microgrid => mapping(uint256 slot => SlotSum)) private _slotSums;
    mapping(uint32 microgrid => mapping(address account => uint256)) private _metersOf;
    /// @inheritdoc IMeterRegistry
    mapping(uint32 microgrid => mapping(address account => uint256)) public importCapWh;
    /// @inheritdoc IMeterRegistry
    mapping(address account => bool) public isExchange;
    /// @inheritdoc IMeterRegistry
    mapping(address account => bool) public isTieLine;
    /// @notice Active meters.
    uint256 public meterCount;

    event MeterProposed(address indexed device, Meter meter);
    event MeterRegistered(address indexed device, address indexed owner, uint32 indexed microgrid);
    event MeterRevoked(address indexed device, address indexed owner, address by);
    event ExchangeRegistered(address indexed exchange);
    event TieLineRegistered(address indexed account);
    event SlotRecorded(uint32 indexed microgrid, uint64 indexed slot, uint32 members, uint64 importWh, uint64 exportWh);

    error NotOperator(address caller);
    error NotUtility(address caller);
    error InvalidMeter(address device);
    error MeterAlreadyActive(address device);
    error MeterNotActive(address device);
    error NotProposed(address device);
    error SlotAlreadyRecorded(uint32 microgrid, uint64 slot);
    error SlotNotRecorded(uint32 microgrid, uint256 slot);
    error EventNotProved();
    error InvalidClock();

    modifier onlyOperator() {
        require(msg.sender == operator, NotOperator(msg.sender));
        _;
    }

    modifier onlyUtility() {
        require(msg.sender == utility, NotUtility(msg.sender));
        _;
    }

    constructor(
        address operator_,
        address utility_,
        IPpdlRelay relay_,
        uint256 genesisSlot_,
        uint256 genesisMillis_,
        uint256 slotWallMillis_
    ) {
        require(slotWallMillis_ > 0 && genesisMillis_ <= block.timestamp * 1000, InvalidClock());
        operator = operator_;
        utility = utility_;
        relay = relay_;
        genesisSlot = genesisSlot_;
        genesisMillis = genesisMillis_;
        slotWallMillis = slotWallMillis_;
    }

    /// @notice The operator's half of a registration, for any number of meters; a later proposal replaces an earlier one.
    /// @param meters What the utility is to approve; none of them active yet.
    function proposeMeters(Meter[] calldata meters) external onlyOperator {
        for (uint256 i = 0; i < meters.length; ++i) {
            Meter calldata meter = meters[i];
            require(
                meter.device != address(0) && meter.owner != address(0) && meter.active
                    && (meter.capExportWh > 0 || meter.capImportWh > 0),
                InvalidMeter(meter.device)
            );
            require(!_meters[meter.device].active, MeterAlreadyActive(meter.device));
            proposedHash[meter.device] = keccak256(abi.encode(meter));
            emit MeterProposed(meter.device, meter);
        }
    }

    /// @notice The utility's half: approves meters exactly as they were proposed.
    /// @param meters As in the proposal; from now on they count.
    function approveMeters(Meter[] calldata meters) external onlyUtility {
        for (uint256 i = 0; i < meters.length; ++i) {
            Meter calldata meter = meters[i];
            require(proposedHash[meter.device] == keccak256(abi.encode(meter)), NotProposed(meter.device));
            delete proposedHash[meter.device];
            _meters[meter.device] = meter;
            _metersOf[meter.microgrid][meter.owner] += 1;
            importCapWh[meter.microgrid][meter.owner] += meter.capImportWh;
            ++meterCount;
            emit MeterRegistered(meter.device, meter.owner, meter.microgrid);
        }
    }

    /// @notice Either role can take a meter out; to come back it must be registered anew.
    /// @param device An active meter.
    function revokeMeter(address device) external {
        require(msg.sender == operator || msg.sender == utility, NotUtility(msg.sender));
        Meter storage meter = _meters[device];
        require(meter.active, MeterNotActive(device));
        meter.active = false;
        _metersOf[meter.microgrid][meter.owner] -= 1;
        importCapWh[meter.microgrid][meter.owner] -= meter.capImportWh;
        --meterCount;
        emit MeterRevoked(device, meter.owner, msg.sender);
    }

    /// @notice Lets an exchange hold energy.
    function registerExchange(address exchange) external onlyUtility {
        isExchange[exchange] = true;
        emit ExchangeRegistered(exchange);
    }

    /// @notice Lets an account carry energy between microgrids.
    function registerTieLine(address account) external onlyUtility {
        isTieLine[account] = true;
        emit TieLineRegistered(account);
    }

    /// @notice Records the agreed sums of a slot, once. Anyone may bring the proof.
    /// @param sum The sums, exactly as in the event.
    /// @param proof Where the event stands on the PPDL chain.
    function recordSlot(SlotSum calldata sum, EventProof calldata proof) external {
        SlotSum storage stored = _slotSums[sum.microgrid][sum.slot];
        require(stored.members == 0, SlotAlreadyRecorded(sum.microgrid, sum.slot));
        bytes memory leaf =
            abi.encode(SLOT_TAG, relay.ppdlChainId(), sum.microgrid, sum.slot, sum.members, sum.importWh, sum.exportWh);
        require(sum.members > 0 && relay.verifyEvent(leaf, proof), EventNotProved());
        _slotSums[sum.microgrid][sum.slot] = sum;
        emit SlotRecorded(sum.microgrid, sum.slot, sum.members, sum.importWh, sum.exportWh);
    }

    /// @inheritdoc IMeterRegistry
    function currentSlot() external view returns (uint256) {
        return genesisSlot + (block.timestamp * 1000 - genesisMillis) / slotWallMillis;
    }

    /// @inheritdoc IMeterRegistry
    function activeMeter(address device) external view returns (Meter memory meter) {
        meter = _meters[device];
        require(meter.active, MeterNotActive(device));
    }

    /// @inheritdoc IMeterRegistry
    function slotSum(uint32 microgrid, uint256 slot) external view returns (SlotSum memory sum) {
        sum = _slotSums[microgrid][slot];
        require(sum.members > 0, SlotNotRecorded(microgrid, slot));
    }

    /// @notice Whether the sums of a slot are recorded.
    function isRecorded(uint32 microgrid, uint256 slot) external view returns (bool) {
        return _slotSums[microgrid][slot].members > 0;
    }

    /// @inheritdoc IMeterRegistry
    function isOwner(uint32 microgrid, address account) external view returns (bool) {
        return _metersOf[microgrid][account] > 0;
    }
}
