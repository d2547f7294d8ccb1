"""Modbus frames: taking requests out of a stream of bytes, putting answers into frames.

Rules: pure; `take` removes one whole request from the buffer or leaves it as it is; a stream that is no Modbus is a
ValueError. Every read request of RTU is eight bytes long.
Source: Modbus Messaging on TCP/IP V1.0b section 3; Modbus over Serial Line V1.02 section 2.5 and 6.2.2.
Not here: connections (`server`), serial lines (`serial_line`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

MAX_PDU_BYTES = 253
RTU_REQUEST_BYTES = 8
_MBAP = struct.Struct(">HHHB")


@dataclass(frozen=True)
class Request:
    """One request: the unit it is for, its PDU, and the transaction id of Modbus TCP."""

    unit: int
    pdu: bytes
    transaction: int = 0


class TcpFraming:
    """Modbus TCP (MBAP header)."""

    @staticmethod
    def take(buffer: bytearray) -> Request | None:
        """The next request, or None until it is there; ValueError when this is no Modbus TCP."""
        if len(buffer) < _MBAP.size:
            return None
        transaction, protocol, length, unit = _MBAP.unpack_from(buffer)
        if protocol != 0 or not 2 <= length <= MAX_PDU_BYTES + 1:
            raise ValueError("not a Modbus TCP header")
        end = _MBAP.size + length - 1
        if len(buffer) < end:
            return None
        pdu = bytes(buffer[_MBAP.size : end])
        del buffer[:end]
        return Request(unit, pdu, transaction)

    @staticmethod
    def wrap(request: Request, answer: bytes) -> bytes:
        """The answer's frame."""
        return _MBAP.pack(request.transaction, 0, len(answer) + 1, request.unit) + answer


class RtuFraming:
    """RTU frames, on a line or over TCP as serial gateways speak it."""

    @staticmethod
    def take(buffer: bytearray) -> Request | None:
        """The next request, or None until it is there; ValueError when its CRC is wrong."""
        if len(buffer) < RTU_REQUEST_BYTES:
            return None
        frame = bytes(buffer[:RTU_REQUEST_BYTES])
        if crc16(frame[:-2]) != frame[-2:]:
            raise ValueError("CRC of the request is wrong")
        del buffer[:RTU_REQUEST_BYTES]
        return Request(frame[0], frame[1:-2])

    @staticmethod
    def wrap(request: Request, answer: bytes) -> bytes:
        """The answer's frame."""
        body = bytes((request.unit,)) + answer
        return body + crc16(body)


Framing = type[TcpFraming] | type[RtuFraming]


@lru_cache(maxsize=1)
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


def crc16(data: bytes) -> bytes:
    """CRC-16/MODBUS, low byte first."""
    crc, table = 0xFFFF, _crc_table()
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return struct.pack("<H", crc)
