"""Which circuit a ceremony is for: one of ours by name, or a file with its matrices.

The file is the very text whose keccak-256 is the circuit's hash (`r1cs.circuit_hash`): tag, u32 wires, u32 public
wires, matrices A, B, C. So whoever knows the hash can check the file with any Keccak tool.
"""

from __future__ import annotations

import struct
from pathlib import Path

from openmg.hashing import keccak256
from openmg.zk.ceremony.entries import CIRCUIT_NAME
from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.circuits.registry import CIRCUITS, circuit_named
from openmg.zk.field import FELT_BYTES, R, fast
from openmg.zk.proof import MAX_PUBLIC_INPUTS
from openmg.zk.proving_key import MAX_WIRES
from openmg.zk.r1cs import (
    CIRCUIT_TAG,
    MAX_CONSTRAINTS,
    ConstraintSystem,
    Matrix,
    circuit_hash,
    system_bytes,
    u32_array,
    u32_bytes,
)


def circuit_bytes(system: ConstraintSystem) -> bytes:
    """The file of a circuit; keccak-256 of it is the circuit's hash."""
    return CIRCUIT_TAG + u32_bytes([system.n_wires, system.n_public]) + system_bytes(system)


def circuit_from_bytes(data: bytes, where: str) -> ConstraintSystem:
    """CeremonyError unless the bytes are exactly one circuit in its canonical form."""
    start = len(CIRCUIT_TAG)
    try:
        if not data.startswith(CIRCUIT_TAG):
            raise ValueError("it does not start as one")
        n_wires, n_public = struct.unpack_from("<2I", data, start)
        if not n_public < n_wires <= MAX_WIRES or n_public > MAX_PUBLIC_INPUTS:
            raise ValueError("its sizes are impossible")
        offset = start + 8
        matrices: list[Matrix] = []
        for _ in range(3):
            matrix, offset = _matrix(data, offset, n_wires)
            matrices.append(matrix)
        if offset != len(data) or len({matrix.rows for matrix in matrices}) != 1:
            raise ValueError("its matrices do not belong together")
    except (ValueError, struct.error) as error:
        raise CeremonyError(f"{where} is no circuit file ({error}); give the name of a circuit or its matrices") from error
    a, b, c = matrices
    system = ConstraintSystem(n_wires, n_public, a, b, c)
    if circuit_hash(system) != keccak256(data):
        raise CeremonyError(f"{where} is not in its canonical form; write it again")
    return system


def _matrix(data: bytes, offset: int, n_wires: int) -> tuple[Matrix, int]:
    rows, entries = struct.unpack_from("<2I", data, offset)
    starts_end = offset + 8 + 4 * (rows + 1)
    columns_end = starts_end + 4 * entries
    end = columns_end + FELT_BYTES * entries
    if rows > MAX_CONSTRAINTS or end > len(data):
        raise ValueError("it is cut off")
    starts, columns = u32_array(data[offset + 8 : starts_end]), u32_array(data[starts_end:columns_end])
    rising = all(a <= b for a, b in zip(starts, starts[1:], strict=False))
    if starts[0] or starts[-1] != entries or not rising or (entries and max(columns) >= n_wires):
        raise ValueError("a matrix names wires it does not have")
    parts = (data[i : i + FELT_BYTES] for i in range(columns_end, end, FELT_BYTES))
    coefficients = [fast(int.from_bytes(part, "little")) for part in parts]
    if any(value >= R for value in coefficients):
        raise ValueError("a coefficient is not below r")
    return Matrix(starts, columns, coefficients), end


def load_circuit(name_or_file: str) -> tuple[str, ConstraintSystem]:
    """Name and matrices; CeremonyError when there is no such circuit or file, or ours has not its written-down hash."""
    if name_or_file in CIRCUITS:
        circuit = circuit_named(name_or_file)
        system = circuit.build()
        if circuit_hash(system) != circuit.circuit_hash:
            raise CeremonyError(f"the {name_or_file} circuit is not the one written down with it; use a released version")
        return name_or_file, system
    path = Path(name_or_file)
    if not CIRCUIT_NAME.fullmatch(path.stem):
        raise CeremonyError(f"{path} gives no name for contracts; name the file by letters, digits, - and _")
    try:
        data = path.read_bytes()
    except OSError as error:
        known = ", ".join(sorted(CIRCUITS))
        raise CeremonyError(f"{path} is no circuit ({error.strerror}); name one of {known} or give a circuit file") from error
    return path.stem, circuit_from_bytes(data, str(path))
