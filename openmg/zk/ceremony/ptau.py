"""The iden3 `.ptau` file: somebody's public phase 1.

    "ptau" | u32 version 1 | u32 sections, each: u32 type | u64 size | content
    1 header: u32 32 | q | u32 power | u32 power of the ceremony
    2 tauG1[2 * 2^power - 1]   3 tauG2[2^power]   4 alphaTauG1[2^power]   5 betaTauG1[2^power]   6 betaG2

Points are uncompressed, x then y (c0 then c1 in G2), little-endian, in Montgomery form (times 2^256 modulo q). Only
what the circuit needs is read, the first 2^log2 powers; other sections are skipped.
Rules: a file is read only when its digest is the given one (BLAKE2b as published lists of such files have it, or
SHA-256); that its points are powers of one tau is checked apart (`phase1.check`). Not here: who made it.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import BinaryIO

from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.ceremony.transcript import Origin, powers_sizes
from openmg.zk.field import FELT_BYTES, Q

MAGIC = b"ptau"
MAX_SECTIONS = 64
MAX_POWER = 28
SECTIONS = {2: "tau1", 3: "tau2", 4: "alpha1", 5: "beta1", 6: "beta2"}
UNMONTGOMERY = pow(1 << 256, -1, Q)
ALGORITHMS = {64: "blake2b", 32: "sha256"}
"""By the digest's length in bytes."""


def digest_of(path: Path, algorithm: str) -> bytes:
    """CeremonyError when the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).digest()
    except OSError as error:
        raise CeremonyError(f"{path} cannot be read ({error.strerror}); give the .ptau file") from error


def read_powers(path: Path, digest: bytes, log2: int) -> tuple[Origin, dict[str, bytes]]:
    """The first 2^log2 powers of a file with this digest, in our form; CeremonyError for another or a damaged file."""
    algorithm = ALGORITHMS.get(len(digest))
    if algorithm is None:
        raise CeremonyError("the hash of a .ptau file is BLAKE2b-512 or SHA-256; give 128 or 64 hex digits")
    found = digest_of(path, algorithm)
    if found != digest:
        raise CeremonyError(f"{path} has the {algorithm} hash {found.hex()}, not the given one; fetch it again")
    with path.open("rb") as file:
        places = _section_places(file, path)
        power = _power(file, places, path)
        if power < log2:
            raise CeremonyError(f"{path} has 2^{power} powers and the circuit needs 2^{log2}; take a larger file")
        whole, wanted = powers_sizes(power), powers_sizes(log2)
        sections = {}
        for kind, name in SECTIONS.items():
            start, size = places.get(kind, (0, 0))
            if size != whole[name]:
                raise CeremonyError(f"section {kind} of {path} has {size} bytes instead of {whole[name]}; fetch it again")
            file.seek(start)
            sections[name] = _standard(file.read(wanted[name]), wanted[name], path)
    return Origin(power, algorithm, digest), sections


def _section_places(file: BinaryIO, path: Path) -> dict[int, tuple[int, int]]:
    head = file.read(12)
    if len(head) < 12 or not head.startswith(MAGIC) or struct.unpack_from("<I", head, 4)[0] != 1:
        raise CeremonyError(f"{path} is no .ptau file of version 1; give one")
    count = struct.unpack_from("<I", head, 8)[0]
    places: dict[int, tuple[int, int]] = {}
    for _ in range(min(count, MAX_SECTIONS)):
        entry = file.read(12)
        if len(entry) < 12:
            raise CeremonyError(f"{path} is cut off; fetch it again")
        kind, size = struct.unpack("<IQ", entry)
        if kind in places:
            raise CeremonyError(f"{path} has section {kind} twice; take another file")
        places[kind] = (file.tell(), size)
        file.seek(size, 1)
    return places


def _power(file: BinaryIO, places: dict[int, tuple[int, int]], path: Path) -> int:
    start, size = places.get(1, (0, 0))
    if size != 4 + FELT_BYTES + 8:
        raise CeremonyError(f"{path} has no header of the expected length; take another file")
    file.seek(start)
    width, modulus, power, _ = struct.unpack(f"<I{FELT_BYTES}sII", file.read(size))
    if width != FELT_BYTES or int.from_bytes(modulus, "little") != Q:
        raise CeremonyError(f"{path} is of another curve; take one for BN254 (bn128)")
    if not 1 <= power <= MAX_POWER:
        raise CeremonyError(f"{path} says it has 2^{power} powers, which cannot be; take another file")
    return int(power)


def _standard(data: bytes, size: int, path: Path) -> bytes:
    """Coordinates out of Montgomery form; a coordinate that is not reduced is refused, being a second form of another."""
    if len(data) != size:
        raise CeremonyError(f"{path} is cut off; fetch it again")
    result = bytearray()
    for i in range(0, size, FELT_BYTES):
        value = int.from_bytes(data[i : i + FELT_BYTES], "little")
        if value >= Q:
            raise CeremonyError(f"{path} holds a coordinate that is not below the field's modulus; take another file")
        result += (value * UNMONTGOMERY % Q).to_bytes(FELT_BYTES, "little")
    return bytes(result)
