// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What a pool asks of the registry: roots and the calendar
interface IEnergyRegistry {
    /// @notice Index of the slot that contains this block.
    function currentSlot() external view returns (uint32);
    /// @notice Root of the meters' tree that is in force for a slot that is not in the future.
    function rootAt(uint32 slot) external view returns (uint256);
    /// @notice Root of the commitments agreed for a slot; reverts when none is recorded.
    function slotRoot(uint32 microgrid, uint32 slot) external view returns (uint256);
    /// @notice Day and tariff band of a slot as one number: day * 256 + band.
    function keyOf(uint32 slot) external view returns (uint40);
    /// @notice Billing period of a slot.
    function periodOf(uint32 slot) external view returns (uint32);
    /// @notice First slot of the key's day.
    function firstSlotOf(uint40 key) external view returns (uint32);
    /// @notice Last slot of the key's day.
    function lastSlotOf(uint40 key) external view returns (uint32);
}
