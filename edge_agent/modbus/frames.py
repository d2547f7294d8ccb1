"""Frames of Modbus reads: the bytes of a request, and the answer in the bytes that have arrived.

Rules: pure. A frame counts that is whole, right (its length, and on RTU its check sum) and of the unit that was asked, on TCP
also of the transaction; all others are passed over, since a late answer is one. What it holds must be what was asked for:
another function or count is `Garbled`, an exception is `Refused`. On RTU nothing says where a frame begins, so each byte may.
Sources: Modbus Application Protocol V1.1b3 sections 4.1, 6.1 to 6.4 and 7; Messaging on TCP/IP V1.0b section 3.1.3 (header);
Modbus over Serial Line V1.02 sections 2.5.1 (frame) and 6.2.2 (check sum).
Not here: sockets, ports and time-outs (`connection`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

from edge_agent.crc16 import crc16, table
from edge_agent.modbus.errors import Refused

COILS, DISCRETE_INPUTS, HOLDING_REGISTERS, INPUT_REGISTERS = 1, 2, 3, 4
READ_FUNCTIONS = (COILS, DISCRETE_INPUTS, HOLDING_REGISTERS, INPUT_REGISTERS)
MAX_REGISTERS, MAX_BITS = 125, 2000
"""Most of each that one answer can carry (Modbus Application Protocol V1.1b3 sections 6.1 to 6.4)."""
MAX_PDU_BYTES = 253
MAX_TRANSACTION = 0xFFFF
EXCEPTION = 0x80
"""Set in the function of an answer that refuses."""
_REQUEST = struct.Struct(">BHH")
_HEADER = struct.Struct(">HHHB")
"""Transaction, protocol (0), length of unit and PDU, unit."""


class Garbled(Exception):
    """What came is no answer to the question; the text follows the name of the meter."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One read: `count` registers or bits of a unit from an address."""

    unit: int
    function: int
    address: int
    count: int
    transaction: int = 1
    """1 to MAX_TRANSACTION; RTU frames do not carry it."""

    @property
    def pdu(self) -> bytes:
        """The request without its frame."""
        return _REQUEST.pack(self.function, self.address, self.count)

    @property
    def answer_bytes(self) -> int:
        """How many the registers or bits take."""
        return -(-self.count // 8) if self.function in (COILS, DISCRETE_INPUTS) else 2 * self.count


class Framing(Protocol):
    """One of the two ways in which frames travel."""

    @staticmethod
    def wrap(ask: Ask) -> bytes:
        """The request's frame."""

    @staticmethod
    def find(ask: Ask, arrived: bytes) -> bytes | None:
        """The answer's PDU in what has arrived; None while it is not there. Raises Garbled when it never can be."""


class TcpFraming:
    """A header tells the length, the transaction and the unit."""

    @staticmethod
    def wrap(ask: Ask) -> bytes:
        return _HEADER.pack(ask.transaction, 0, _REQUEST.size + 1, ask.unit) + ask.pdu

    @staticmethod
    def find(ask: Ask, arrived: bytes) -> bytes | None:
        start = 0
        while len(arrived) - start > _HEADER.size:
            transaction, protocol, length, unit = _HEADER.unpack_from(arrived, start)
            if protocol or not 2 <= length <= MAX_PDU_BYTES + 1:
                raise Garbled("sent something that is no Modbus answer (its header is none); check port and transport")
            if length == 2 and len(arrived) - start == 9:  # some units do not count the code of their exceptions
                length = 3
            end = start + 6 + length
            if len(arrived) < end:
                return None
            # Some gateways answer every transaction as 0; unit 0 is whatever answers there.
            if transaction in (0, ask.transaction) and (unit == ask.unit or not ask.unit):
                return arrived[start + _HEADER.size : end]
            start = end
        return None


class RtuFraming:
    """Unit, PDU and a check sum."""

    @staticmethod
    def wrap(ask: Ask) -> bytes:
        body = bytes((ask.unit,)) + ask.pdu
        return body + check_sum(body)

    @staticmethod
    def find(ask: Ask, arrived: bytes) -> bytes | None:
        for start in range(len(arrived) - 4):
            unit, function, size = arrived[start : start + 3]
            if (unit != ask.unit and ask.unit) or function & ~EXCEPTION not in READ_FUNCTIONS:
                continue
            end = start + 5 + (0 if function & EXCEPTION else size)
            if len(arrived) < end:
                if (function, size) == (ask.function, ask.answer_bytes):
                    return None  # it has begun, and what looks like a frame inside of it is none
            elif check_sum(arrived[start : end - 2]) == arrived[end - 2 : end]:
                return arrived[start + 1 : end - 2]
        return None


def read_answer(ask: Ask, pdu: bytes) -> tuple[int, ...]:
    """The registers, or bits as 0 and 1, that were asked for; raises Garbled or Refused."""
    function, size, data = pdu[0], pdu[1] if len(pdu) > 1 else 0, pdu[2:]
    if function & EXCEPTION:
        raise Refused(f"exception {size}", size)
    if function != ask.function:
        raise Garbled(f"answered function {function} instead of {ask.function}")
    if size != len(data):
        raise Garbled(f"sent something that is no Modbus answer ({len(data)} bytes for {size}); check port and transport")
    bits = function in (COILS, DISCRETE_INPUTS)
    if size != ask.answer_bytes:
        sent = f"{8 * size} bits" if bits else f"{size // 2} registers"
        raise Garbled(f"sent {sent} instead of {ask.count}")
    if bits:
        return tuple(data[i // 8] >> i % 8 & 1 for i in range(ask.count))
    return struct.unpack(f">{ask.count}H", data)


_CRC = table(0xA001)


def check_sum(data: bytes) -> bytes:
    """CRC-16/MODBUS, low byte first."""
    return crc16(data, _CRC).to_bytes(2, "little")
