"""The proving-key file that both backends read.

All integers are little-endian, field elements 32 bytes in standard form, points as in `curve`:

    magic 8 | circuit hash 32 | u32 n_wires, n_public, domain_log2, n_constraints
    alpha1, beta1, delta1 (G1) | beta2, gamma2, delta2 (G2)
    A[n_wires] G1 | B1[n_wires] G1 | B2[n_wires] G2
    L[n_wires - n_public - 1] G1 | H[domain - 1] G1 | IC[n_public + 1] G1
    matrices A, B, C, each: u32 rows, u32 entries | u32 row starts[rows + 1] | u32 columns[entries] | coefficients

Rules: lengths are checked when a file is opened, its content is authenticated by hash (`keys`). Sections are read one
by one, so that nobody holds the whole file. Not here: what the points mean (`groth16`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from openmg.zk.curve import G1_BYTES, G2_BYTES
from openmg.zk.field import FELT_BYTES, fast
from openmg.zk.ntt import TWO_ADICITY
from openmg.zk.proof import VerifyingKey
from openmg.zk.r1cs import ConstraintSystem, Matrix, u32_array

MAGIC = b"OMGPK\0\0\1"
HEADER = struct.Struct("<8s32s4I")
MAX_WIRES = 1 << 21
"""More than any planned circuit; bounds what a damaged header can ask for."""


class KeyFileError(ValueError):
    """A proving-key file that cannot be used; the text says which and what to do."""


@dataclass(frozen=True)
class KeyHeader:
    """The sizes that fix every section's place."""

    circuit_hash: bytes
    n_wires: int
    n_public: int
    domain_log2: int
    n_constraints: int

    def to_bytes(self) -> bytes:
        return HEADER.pack(MAGIC, self.circuit_hash, self.n_wires, self.n_public, self.domain_log2, self.n_constraints)

    def sections(self) -> list[tuple[str, int]]:
        """Name and length in bytes of each point section, in file order."""
        wires, public = self.n_wires, self.n_public
        return [
            ("alpha1", G1_BYTES), ("beta1", G1_BYTES), ("delta1", G1_BYTES),
            ("beta2", G2_BYTES), ("gamma2", G2_BYTES), ("delta2", G2_BYTES),
            ("A", wires * G1_BYTES), ("B1", wires * G1_BYTES), ("B2", wires * G2_BYTES),
            ("L", (wires - public - 1) * G1_BYTES), ("H", ((1 << self.domain_log2) - 1) * G1_BYTES),
            ("IC", (public + 1) * G1_BYTES),
        ]  # fmt: skip


def key_file_bytes(header: KeyHeader, points: dict[str, bytes], matrices: bytes) -> bytes:
    """The whole file from its sections; ValueError when one has another length than the header says."""
    parts = [header.to_bytes()]
    for name, length in header.sections():
        if len(points[name]) != length:
            raise ValueError(f"section {name} has {len(points[name])} bytes instead of {length}")
        parts.append(points[name])
    return b"".join([*parts, matrices])


class ProvingKeyFile:
    """A key file, open by path; every read opens it anew, so an object can be shared and kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                head = file.read(HEADER.size)
        except OSError as error:
            raise KeyFileError(f"proving key {path} cannot be read ({error.strerror}); make the keys again") from error
        if len(head) < HEADER.size or not head.startswith(MAGIC):
            raise self._damaged("it does not start as one")
        _, circuit, n_wires, n_public, domain_log2, n_constraints = HEADER.unpack(head)
        if not n_public < n_wires <= MAX_WIRES or not 1 <= domain_log2 <= TWO_ADICITY:
            raise self._damaged("its sizes are impossible")
        if n_constraints + n_public >= 1 << domain_log2:
            raise self._damaged("its domain is too small for its constraints")
        self.header = KeyHeader(circuit, n_wires, n_public, domain_log2, n_constraints)
        self._places: dict[str, tuple[int, int]] = {}
        start = HEADER.size
        for name, length in self.header.sections():
            self._places[name] = (start, length)
            start += length
        self._matrix_start, self._size = start, size
        if size < start:
            raise self._damaged("it is cut off")

    def _damaged(self, why: str) -> KeyFileError:
        return KeyFileError(f"{self.path} is no proving key of this version: {why}; delete it and make the keys again")

    def section(self, name: str) -> bytes:
        """The bytes of one point section."""
        start, length = self._places[name]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    @cached_property
    def verifying_key(self) -> VerifyingKey:
        names = ("alpha1", "beta2", "gamma2", "delta2", "IC")
        return VerifyingKey.from_bytes(b"".join(self.section(name) for name in names))

    def constraint_system(self) -> ConstraintSystem:
        """The matrices, parsed; coefficients that occur often are shared."""
        with self.path.open("rb") as file:
            file.seek(self._matrix_start)
            data = file.read()
        shared: dict[bytes, int] = {}
        offset = 0
        matrices: list[Matrix] = []
        for _ in range(3):
            matrix, offset = self._matrix(data, offset, shared)
            matrices.append(matrix)
        if offset != len(data):
            raise self._damaged("it is longer than its sections")
        a, b, c = matrices
        return ConstraintSystem(self.header.n_wires, self.header.n_public, a, b, c)

    def _matrix(self, data: bytes, offset: int, shared: dict[bytes, int]) -> tuple[Matrix, int]:
        if len(data) < offset + 8:
            raise self._damaged("it is cut off")
        rows, entries = struct.unpack_from("<2I", data, offset)
        offset += 8
        end = offset + 4 * (rows + 1) + (4 + FELT_BYTES) * entries
        if rows != self.header.n_constraints or len(data) < end:
            raise self._damaged("a matrix is cut off")
        starts = u32_array(data[offset : offset + 4 * (rows + 1)])
        offset += 4 * (rows + 1)
        columns = u32_array(data[offset : offset + 4 * entries])
        offset += 4 * entries
        if starts[0] or starts[-1] != entries or (entries and max(columns) >= self.header.n_wires):
            raise self._damaged("a matrix names wires it does not have")
        coefficients = []
        for start in range(offset, end, FELT_BYTES):
            part = data[start : start + FELT_BYTES]
            value = shared.get(part)
            if value is None:
                value = shared[part] = fast(int.from_bytes(part, "little"))
            coefficients.append(value)
        return Matrix(starts, columns, coefficients), end
