"""Which requests read a set of points: neighbouring values share one request, within the meter's limit.

Rules: pure; every point lies whole in exactly one block; no block is longer than the limit; a gap is bridged
when that is cheaper than a request (meters answer unused registers with 0). Not here: sending them (`link`,
`reader`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from openmg.profiles.profile import Point

MAX_GAP_REGISTERS = 10
"""20 bytes, about what a separate request and its answer's header cost on the wire."""


@dataclass(frozen=True)
class Block:
    """One read request and the points it brings."""

    address: int
    count: int
    points: tuple[Point, ...]


def plan_blocks(points: Iterable[Point], max_registers: int) -> tuple[Block, ...]:
    """The requests for the points; ValueError when one value is wider than the limit."""
    blocks: list[list[Point]] = []
    for point in sorted(points, key=lambda item: item.address):
        if point.width > max_registers:
            raise ValueError(f"point {point.name} needs more than {max_registers} registers in one request")
        last = blocks[-1] if blocks else None
        if (
            last is not None
            and point.end - last[0].address <= max_registers
            and point.address - last[-1].end <= MAX_GAP_REGISTERS
        ):
            last.append(point)
        else:
            blocks.append([point])
    return tuple(Block(b[0].address, b[-1].end - b[0].address, tuple(b)) for b in blocks)
