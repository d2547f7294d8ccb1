"""What a Modbus meter answers: request PDU in, response PDU out.

Rules: pure; never raises for any input bytes: a wrong request gets the exception answer that real meters
give. Half a value is refused, a one-register read gives the instrument's type code, and a request over the
meter's limit is an illegal address, all as the profile says. Source: Modbus Application Protocol V1.1b3
sections 6.3, 6.4 and 7.
Not here: framing and sockets (`server`), what the registers hold (`registers_of`'s caller).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from openmg.profiles.profile import MAX_REGISTERS, Profile
from openmg.profiles.registers import encode

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3


def registers_of(profile: Profile, values: Mapping[str, float]) -> list[int]:
    """The register image of a meter that shows these values; unused registers read 0."""
    image = [0] * profile.sim.span
    for point in profile.points:
        image[point.address : point.end] = encode(point.type, point.order, values[point.name])
    return image


def value_starts(profile: Profile) -> frozenset[int]:
    """Addresses inside a multi-register value, at which no read may start or end."""
    return frozenset(a for point in profile.points for a in range(point.address + 1, point.end))


def respond(profile: Profile, inside: frozenset[int], image: Sequence[int], request: bytes) -> bytes:
    """The response PDU to a request PDU; `inside` comes from `value_starts(profile)`."""
    if not request:
        return bytes([0x80, ILLEGAL_FUNCTION])
    function = request[0]
    if function != profile.link.function_code:
        return _exception(function, ILLEGAL_FUNCTION)
    if len(request) != 5:
        return _exception(function, ILLEGAL_VALUE)
    address, count = struct.unpack(">HH", request[1:])
    if not 1 <= count <= MAX_REGISTERS:
        return _exception(function, ILLEGAL_VALUE)
    if count > profile.sim.exception_over or address + count > len(image):
        return _exception(function, ILLEGAL_ADDRESS)
    if count == 1 and "single_register_type_code" in profile.sim.quirks:
        return struct.pack(">BBH", function, 2, profile.sim.type_code)
    if "whole_values_only" in profile.sim.quirks and (address in inside or address + count in inside):
        return _exception(function, ILLEGAL_ADDRESS)
    return struct.pack(f">BB{count}H", function, 2 * count, *image[address : address + count])


def _exception(function: int, code: int) -> bytes:
    return bytes([function | 0x80, code])
