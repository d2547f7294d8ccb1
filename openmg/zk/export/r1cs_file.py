"""The .r1cs file of a circuit: iden3's binary format of a constraint system, version 1.

    1 header       prime | u32 wires, public outputs, public inputs, private inputs | u64 labels | u32 constraints
    2 constraints  A, B, C of each: u32 entries, then for each entry u32 wire and its coefficient
    3 labels       u64 label of each wire

Rules: our wires stand in the order that the format wants (constant, public, private). A circuit of ours has no outputs
in circom's sense and no names, so all public wires are inputs, all others private inputs, and each label is the wire.
Source: iden3's r1csfile, doc/r1cs_bin_format. Not here: the witness (`wtns_file`).
"""

from __future__ import annotations

import struct

from openmg.zk.export.iden3 import binary_file, number_bytes, prime_bytes
from openmg.zk.field import R
from openmg.zk.r1cs import ConstraintSystem, Matrix

KIND = b"r1cs"
VERSION = 1


def _linear_combination(matrix: Matrix, row: int) -> bytes:
    start, end = matrix.row_start[row], matrix.row_start[row + 1]
    parts = [struct.pack("<I", end - start)]
    for k in range(start, end):
        parts += [struct.pack("<I", matrix.columns[k]), number_bytes(matrix.coefficients[k])]
    return b"".join(parts)


def r1cs_bytes(system: ConstraintSystem) -> bytes:
    """The whole file of a constraint system."""
    private = system.n_wires - system.n_public - 1
    header = prime_bytes(R) + struct.pack(
        "<4IQI", system.n_wires, 0, system.n_public, private, system.n_wires, system.n_constraints
    )
    matrices = (system.a, system.b, system.c)
    rows = [_linear_combination(matrix, row) for row in range(system.n_constraints) for matrix in matrices]
    labels = struct.pack(f"<{system.n_wires}Q", *range(system.n_wires))
    return binary_file(KIND, VERSION, [(1, header), (2, b"".join(rows)), (3, labels)])
