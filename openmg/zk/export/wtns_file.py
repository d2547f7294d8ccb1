"""The .wtns file of an assignment: iden3's binary format of a witness, version 2.

    1 header   prime | u32 wires
    2 values   each wire, in standard form

Rules: the constant one comes first. The file holds every secret of the statement. Not here: the circuit (`r1cs_file`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from openmg.zk.export.iden3 import binary_file, numbers_bytes, prime_bytes
from openmg.zk.field import R

KIND = b"wtns"
VERSION = 2


def wtns_bytes(wires: Sequence[int]) -> bytes:
    """The whole file of an assignment."""
    header = prime_bytes(R) + struct.pack("<I", len(wires))
    return binary_file(KIND, VERSION, [(1, header), (2, numbers_bytes(wires))])
