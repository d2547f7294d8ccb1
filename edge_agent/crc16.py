"""CRC-16 as serial protocols have it: low bit first, beginning with all ones.

Not here: which polynomial, and whether the result is inverted (Modbus: `modbus.frames`; HDLC: `dlms.hdlc.frame`).
"""

from __future__ import annotations


def table(polynomial: int) -> tuple[int, ...]:
    """What each byte does to a register of zeros; the polynomial's bits stand in the reverse order."""
    rows = []
    for row in range(256):
        for _ in range(8):
            row = row >> 1 ^ polynomial if row & 1 else row >> 1
        rows.append(row)
    return tuple(rows)


def crc16(data: bytes, rows: tuple[int, ...]) -> int:
    """The register after the data."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ rows[(crc ^ byte) & 0xFF]
    return crc
