// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A meter as operator and utility registered it.
/// @param device Address of the key that signs its readings; names the meter.
/// @param owner Account that receives and pays for its energy.
/// @param microgrid Microgrid whose energy it measures.
/// @param fromSlot First slot whose readings count.
/// @param capExportWh Most it can export in one slot; 0 for a pure consumer.
/// @param capImportWh Most it can import in one slot; 0 for a pure producer.
/// @param active Whether its readings count.
struct Meter {
    address device;
    address owner;
    uint32 microgrid;
    uint64 fromSlot;
    uint32 capExportWh;
    uint32 capImportWh;
    bool active;
}

/// @notice What the PPDL chain agreed on for one slot of one microgrid.
struct SlotSum {
    uint32 microgrid;
    uint64 slot;
    uint32 members;
    uint64 importWh;
    uint64 exportWh;
}

/// @title What energy tokens ask of the registry
interface IMeterRegistry {
    /// @notice Index of the slot that contains this block.
    function currentSlot() external view returns (uint256);

    /// @notice The meter of a device; reverts when it is not active.
    function activeMeter(address device) external view returns (Meter memory);

    /// @notice The agreed sums of a slot; reverts when they are not recorded.
    function slotSum(uint32 microgrid, uint256 slot) external view returns (SlotSum memory);

    /// @notice Whether the account owns an active meter in the microgrid.
    function isOwner(uint32 microgrid, address account) external view returns (bool);

    /// @notice Sum of the import capacities of the account's active meters, in Wh per slot.
    function importCapWh(uint32 microgrid, address account) external view returns (uint256);

    /// @notice Whether the account is an exchange that may hold energy.
    function isExchange(address account) external view returns (bool);

    /// @notice Whether the account carries energy over a tie line.
    function isTieLine(address account) external view returns (bool);
}
