"""The container of iden3's binary files, and the numbers in them.

    type 4 bytes | u32 version | u32 sections | for each section: u32 id, u64 length in bytes, content

Rules: everything is little-endian; a number of a field has as many bytes as its prime rounded up to 8 (32 here); where
a format wants Montgomery form, x stands as x 2^256 modulo the prime. Source: iden3's r1csfile and binfileutils.
Not here: what the sections mean (`r1cs_file`, `wtns_file`, `zkey_file`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from openmg.zk.field import FELT_BYTES, FQ, R, fast

_HEADER = struct.Struct("<4sII")
_SECTION = struct.Struct("<IQ")
_MONTGOMERY = fast(1 << 8 * FELT_BYTES)


def binary_file(kind: bytes, version: int, sections: Sequence[tuple[int, bytes]]) -> bytes:
    """The whole file; a `kind` of four bytes names the format."""
    parts = [_HEADER.pack(kind, version, len(sections))]
    for number, content in sections:
        parts += [_SECTION.pack(number, len(content)), content]
    return b"".join(parts)


def number_bytes(value: int) -> bytes:
    """32 bytes little-endian."""
    return int(value).to_bytes(FELT_BYTES, "little")


def numbers_bytes(values: Iterable[int]) -> bytes:
    return b"".join([number_bytes(value) for value in values])


def prime_bytes(prime: int) -> bytes:
    """How a header states a field: u32 bytes of a number, then the prime."""
    return struct.pack("<I", FELT_BYTES) + number_bytes(prime)


def montgomery_squared(value: int) -> bytes:
    """A coefficient of the circuit field as a zkey holds it: times 2^512, so that one Montgomery product with a plain
    witness value gives their product in Montgomery form."""
    return number_bytes(value * _MONTGOMERY * _MONTGOMERY % R)


def montgomery_points(data: bytes) -> bytes:
    """Points as in `curve`, coordinate by coordinate in Montgomery form; infinity stays zeros."""
    starts = range(0, len(data), FELT_BYTES)
    plain = [int.from_bytes(data[i : i + FELT_BYTES], "little") for i in starts]
    return numbers_bytes([value * _MONTGOMERY % FQ for value in plain])
