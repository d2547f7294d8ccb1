"""SunSpec devices: finding their models, and turning a model's registers into quantities.

Theory of operation. `discover` is a generator: it yields each read it wants, is sent the registers (or None when the
device refuses), and returns the device's map; whoever drives it owns the connection. A model is then read whole in one
request, since its scale factors may change between two, and `values` turns those registers into quantities by the
names of `quantities`. Every answer must begin with the model's own ID and length: a device that was updated in between
is noticed instead of misread.

Rules: pure. A value that is not implemented, and one whose scale factor is not, is None. An accumulator of 0 is 0,
whether nothing was counted or nothing is counted. What gives power and energy: the first meter model; without one the
first inverter, with its sign turned, and no imported energy; further meters and inverters are not read. Of model 802
and 124 the battery's state is taken from 802. Of model 160 as many inputs are read as one request brings (five).
Not here: the models' layouts (`sunspec_models`), requests (`edge_agent.modbus`).
Source: SunSpec Information Model Specification V1.9 sections 4 to 6.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from openmg.profiles.profile_file import MAX_REGISTERS, SunSpecOptions
from openmg.profiles.quantities import QUANTITIES
from openmg.profiles.registers import decode, decode_text
from openmg.profiles.sunspec_models import NUMBER_TYPES, Model, ModelPoint, Term, models

MARKER = (0x5375, 0x6E53)
"""The text "SunS" at a device's base register."""
END_ID = 0xFFFF
MAX_MODELS = 64
"""Models that are walked over; devices have some ten."""
HEADER = 2
MAX_EXPONENT = 10
"""Scale factors are -10 to 10."""
METER_IDS, INVERTER_IDS = (201, 202, 203, 204), (101, 102, 103, 111, 112, 113)
SLOW_IDS = (160, 124, 802)
RANGES = {
    "V": (-1_500.0, 1_500.0), "A": (-100_000.0, 100_000.0), "Hz": (0.0, 70.0), "W": (-1e8, 1e8), "VA": (-1e8, 1e8),
    "var": (-1e8, 1e8), "kWh": (0.0, 1e10), "kvarh": (0.0, 1e10), "1": (-1.001, 1.001), "%": (0.0, 110.0),
    "Wh": (0.0, 1e9), "C": (-60.0, 150.0),
}  # fmt: skip
"""Plausible values by unit: a wrong scale factor leaves them at once."""


class NotSunSpec(Exception):
    """No SunSpec device answers, or its models do not hold together; the text says what was seen."""


@dataclass(frozen=True)
class Read:
    """Registers to read (function 3)."""

    address: int
    count: int


@dataclass(frozen=True)
class ModelBlock:
    """One model on a device: its id, the address of its ID register and its length without ID and L."""

    model_id: int
    address: int
    length: int

    @property
    def read(self) -> Read:
        """The one request that brings the block with its header, as far as one request can."""
        return Read(self.address, min(self.length + HEADER, MAX_REGISTERS))


@dataclass(frozen=True)
class SunSpecDevice:
    """What a device has: every model that was found, known or not, in its order."""

    base: int
    blocks: tuple[ModelBlock, ...]

    def first(self, ids: Sequence[int]) -> ModelBlock | None:
        """The first model of those ids."""
        return next((block for block in self.blocks if block.model_id in ids), None)

    def group(self, name: str) -> tuple[ModelBlock, ...]:
        """Blocks to read at every poll (`fast`: meter and inverter) or more seldom (`slow`: panels and battery)."""
        if name == "fast":
            wanted = [self.first(METER_IDS), self.first(INVERTER_IDS)]
        else:
            wanted = [self.first((model_id,)) for model_id in SLOW_IDS]
        return tuple(block for block in wanted if block is not None)


Discovery = Generator[Read, tuple[int, ...] | None, SunSpecDevice]


def discover(options: SunSpecOptions) -> Discovery:
    """Yields reads, is sent their registers (None: refused or no answer), returns the device; NotSunSpec."""
    for base in options.bases:
        if (yield Read(base, 2)) == MARKER:
            return SunSpecDevice(base, (yield from _walk(base + 2)))
    bases = ", ".join(str(base) for base in options.bases)
    raise NotSunSpec(f"no SunSpec marker at {bases}; check unit and port, and that SunSpec is switched on")


def _walk(address: int) -> Generator[Read, tuple[int, ...] | None, tuple[ModelBlock, ...]]:
    blocks: list[ModelBlock] = []
    while len(blocks) < MAX_MODELS:
        if address + HEADER > 65_536:
            break
        header = yield Read(address, HEADER)
        if header is None or len(header) != HEADER:
            raise NotSunSpec(f"the list of models breaks off at register {address} after {len(blocks)} models")
        if header[0] == END_ID:
            return tuple(blocks)
        blocks.append(ModelBlock(header[0], address, header[1]))
        address += HEADER + header[1]
    raise NotSunSpec(f"the list of models has no end within {len(blocks)} models and 65536 registers")


def values(
    device: SunSpecDevice, answers: Mapping[ModelBlock, Sequence[int]], options: SunSpecOptions
) -> dict[str, float | None]:
    """Quantities of the blocks that were read, by name; None where the device has no value.

    NotSunSpec when an answer is not that block (another ID or length, too few registers) or a value is implausible.
    """
    has_meter = device.first(METER_IDS) is not None
    found: dict[str, float | None] = {}
    for block in sorted(answers, key=lambda item: (SLOW_IDS + (item.model_id,)).index(item.model_id)):
        model, registers = models().get(block.model_id), answers[block]
        if model is None:
            continue
        points = decode_block(block, registers)
        wanted = dict(model.quantities) if has_meter or not model.without_meter else {**model.quantities, **model.without_meter}
        read = {name: _quantity(terms, points, options) for name, terms in wanted.items()}
        read |= _modules(model, block, registers, points, options)
        found |= {name: value for name, value in read.items() if value is not None or name not in found}
    for name, value in found.items():
        low, high = RANGES.get(QUANTITIES[name].unit, (-math.inf, math.inf))
        if value is not None and not low <= value <= high:
            raise NotSunSpec(f"{name} is {value:g}, outside {low:g} to {high:g}; the device's scale factor is wrong")
    return found


def decode_block(block: ModelBlock, registers: Sequence[int]) -> dict[str, float | str | None]:
    """All points of a known model's fixed part in the model's own units, by the model's names; KeyError if unknown."""
    if len(registers) != block.read.count or tuple(registers[:HEADER]) != (block.model_id, block.length):
        raise NotSunSpec(f"model {block.model_id} at register {block.address} is not there any more; discover it again")
    return _decode(models()[block.model_id].points, registers, {})


def decode_modules(block: ModelBlock, registers: Sequence[int]) -> tuple[dict[str, float | str | None], ...]:
    """The repeated modules of a block that lie whole in the registers, in their order."""
    model = models()[block.model_id]
    if not model.module_length:
        return ()
    fixed, first = decode_block(block, registers), HEADER + model.length
    whole = (len(registers) - first) // model.module_length
    parts = [registers[first + i * model.module_length : first + (i + 1) * model.module_length] for i in range(whole)]
    return tuple(_decode(model.module_points, part, fixed) for part in parts)


def _decode(
    points: Mapping[str, ModelPoint], registers: Sequence[int], outer: Mapping[str, float | str | None]
) -> dict[str, float | str | None]:
    raw: dict[str, float | str | None] = {}
    for name, point in points.items():
        part = registers[point.at : point.at + point.size]
        if len(part) < point.size:
            raw[name] = None  # an older, shorter version of the model
        elif point.type == "string":
            raw[name] = decode_text(part) or None
        else:
            raw[name] = decode(NUMBER_TYPES[point.type], "ABCD", part, "sunspec")
    factors = {**outer, **raw}
    return {name: _scaled(point, raw[name], factors) for name, point in points.items()}


def _scaled(point: ModelPoint, number: float | str | None, factors: Mapping[str, float | str | None]) -> float | str | None:
    if point.sf is None or number is None or isinstance(number, str):
        return number
    exponent = factors.get(point.sf)
    if not isinstance(exponent, int | float) or abs(exponent) > MAX_EXPONENT:
        return None
    scale: int = 10 ** abs(int(exponent))
    return number * scale if exponent >= 0 else number / scale


def _quantity(terms: Sequence[Term], points: Mapping[str, float | str | None], options: SunSpecOptions) -> float | None:
    total = 0.0
    for term in terms:
        number = points.get(term.point)
        if number is None or isinstance(number, str):
            return None
        total += number * term.factor * turned(term, options)
    return total


def turned(term: Term, options: SunSpecOptions) -> int:
    """1, or -1 where the sign of the term's point is the other way round."""
    return -1 if term.turn == "-" else options.meter_sign if term.turn == "~" else 1


def _modules(
    model: Model,
    block: ModelBlock,
    registers: Sequence[int],
    fixed: Mapping[str, float | str | None],
    options: SunSpecOptions,
) -> dict[str, float | None]:
    """Quantities of the modules that the device says it has (`N`)."""
    if not model.module_quantities:
        return {}
    count = fixed.get("N")
    modules = decode_modules(block, registers)[: int(count) if isinstance(count, int | float) else None]
    found = {}
    for name, terms in model.module_quantities.items():
        place = int("".join(c for c in name.split("_")[0] if c.isdigit()))
        if place <= len(modules):
            found[name] = _quantity(terms, modules[place - 1], options)
    return found
