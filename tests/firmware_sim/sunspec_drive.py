"""Drives the pure SunSpec discovery over any function that reads registers."""

from __future__ import annotations

import struct
from collections.abc import Callable

from firmware_sim.image import Image
from openmg.profiles.profile_file import SunSpecOptions
from openmg.profiles.sunspec import ModelBlock, SunSpecDevice, discover, values

ReadRegisters = Callable[[int, int], tuple[int, ...] | None]


def image_reader(image: Image) -> ReadRegisters:
    """Reads from an image; None outside of it, as a device refuses."""

    def read(address: int, count: int) -> tuple[int, ...] | None:
        for span in image:
            if span.start <= address and address + count <= span.end:
                return struct.unpack(f">{count}H", span.part(address, count))
        return None

    return read


def found_by(read: ReadRegisters, options: SunSpecOptions) -> SunSpecDevice:
    search = discover(options)
    wanted = next(search)
    while True:
        try:
            wanted = search.send(read(wanted.address, wanted.count))
        except StopIteration as done:
            device: SunSpecDevice = done.value
            return device


def read_all(read: ReadRegisters, options: SunSpecOptions) -> dict[str, float | None]:
    """Discovers, reads both groups and decodes."""
    device = found_by(read, options)
    blocks: dict[ModelBlock, tuple[int, ...]] = {}
    for block in (*device.group("fast"), *device.group("slow")):
        registers = read(block.read.address, block.read.count)
        assert registers is not None
        blocks[block] = registers
    return values(device, blocks, options)
