"""What a Modbus meter answers: request PDU in, response PDU out.

Rules: pure; no input bytes raise: a wrong request gets the exception answer that real meters
give. Half a value is refused, a one-register read gives the instrument's type code, and a request over the
meter's limit is an illegal address, all as the profile says. Source: Modbus Application Protocol V1.1b3
sections 6.3, 6.4 and 7.
Not here: framing and sockets (`server`, `serial_line`), what the registers hold (`image`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_sim.image import Image, value_insides
from openmg.profiles.profile_file import MAX_REGISTERS

if TYPE_CHECKING:
    from openmg.profiles.profile import Profile

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
_READ = struct.Struct(">HH")


@dataclass(frozen=True)
class Rules:
    """What a meter model refuses: other functions, too many registers, parts of a value; the type code, if it has one."""

    function_code: int
    exception_over: int
    type_code: int | None
    inside: frozenset[int]


def rules_of(profile: Profile) -> Rules:
    """The rules of a profile's meter."""
    sim = profile.sim
    return Rules(
        profile.link.function_code,
        sim.exception_over,
        sim.type_code if "single_register_type_code" in sim.quirks else None,
        value_insides(profile.points) if "whole_values_only" in sim.quirks else frozenset(),
    )


def respond(rules: Rules, image: Image, request: bytes) -> bytes:
    """The response PDU to a request PDU; OverflowError when a value of the image does not fit its type."""
    if not request:
        return exception(0, ILLEGAL_FUNCTION)
    function = request[0]
    if function != rules.function_code:
        return exception(function, ILLEGAL_FUNCTION)
    if len(request) != 5:
        return exception(function, ILLEGAL_VALUE)
    address, count = _READ.unpack_from(request, 1)
    if not 1 <= count <= MAX_REGISTERS:
        return exception(function, ILLEGAL_VALUE)
    end = address + count
    span = next((span for span in image if span.start <= address and end <= span.end), None)
    if count > rules.exception_over or span is None:
        return exception(function, ILLEGAL_ADDRESS)
    if count == 1 and rules.type_code is not None:
        return struct.pack(">BBH", function, 2, rules.type_code)
    if address in rules.inside or end in rules.inside:
        return exception(function, ILLEGAL_ADDRESS)
    return bytes((function, 2 * count)) + span.part(address, count)


def exception(function: int, code: int) -> bytes:
    """The exception answer of that code."""
    return bytes((function | 0x80, code))
