"""Writes a statement made for the purpose, its proof and its keys into a folder, for programs that are not ours.

    snarkjs   verification_key.json, proof.json, public.json
    iden3     <circuit>.r1cs, <circuit>.wtns, <circuit>.zkey

Rules: without a ceremony's key the keys are the development keys, with which anybody can forge: the files then show that our
encodings and theirs agree, and prove nothing to a stranger. A proof is verified before it is written. Not here: encodings
(the neighbours).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path

from openmg.zk.backend import Backend
from openmg.zk.ceremony.arithmetic import arithmetic_of
from openmg.zk.export import snarkjs_json
from openmg.zk.export.example import SEED_BYTES, Statement, example
from openmg.zk.export.r1cs_file import r1cs_bytes
from openmg.zk.export.wtns_file import wtns_bytes
from openmg.zk.export.zkey_file import odd_lagrange_points, odd_lagrange_points_of_ceremony, zkey_bytes
from openmg.zk.field import R
from openmg.zk.groth16 import Toxic
from openmg.zk.keys import DEVELOPMENT_SEED, Progress, ProvingKeyInfo, ensure_keys, open_ceremony_key
from openmg.zk.proof import Proof
from openmg.zk.proving_key import ProvingKeyFile


class ExportError(Exception):
    """Nothing could be exported; the text says why and what to do."""


def _no_progress(_text: str) -> None:
    pass


def _snarkjs(statement: Statement, key: ProvingKeyInfo, backend: Backend, progress: Progress) -> dict[str, bytes]:
    progress(f"proving ({backend.name})")
    proof = backend.prover(key.path).prove(statement.wires, secrets.randbelow(R), secrets.randbelow(R))
    if not backend.verify(key.verifying_key, statement.publics, proof):
        raise ExportError(f"the {backend.name} backend made a proof that does not verify; report this")
    documents = {
        "verification_key.json": snarkjs_json.verification_key(key.verifying_key),
        "proof.json": snarkjs_json.proof(Proof.from_bytes(proof)),
        "public.json": snarkjs_json.public(statement.publics),
    }
    return {name: (json.dumps(document, indent=1) + "\n").encode("ascii") for name, document in documents.items()}


def _iden3(statement: Statement, key: ProvingKeyInfo, backend: Backend, progress: Progress) -> dict[str, bytes]:
    file = ProvingKeyFile(key.path)
    if key.development:
        progress(f"deriving snarkjs's H points from the published seed ({backend.name})")
        h_points = odd_lagrange_points(file, Toxic.from_seed(DEVELOPMENT_SEED, key.circuit_hash), backend.g1_fixed_base)
    else:
        arithmetic = arithmetic_of(backend)
        progress(f"deriving snarkjs's H points from the key's ({arithmetic.name})")
        h_points = odd_lagrange_points_of_ceremony(file, arithmetic, progress)
    progress("encoding circuit, witness and key")
    return {
        f"{key.circuit}.r1cs": r1cs_bytes(file.constraint_system()),
        f"{key.circuit}.wtns": wtns_bytes(statement.wires),
        f"{key.circuit}.zkey": zkey_bytes(file, h_points),
    }


Encode = Callable[[Statement, ProvingKeyInfo, Backend, Progress], dict[str, bytes]]
FORMATS: dict[str, Encode] = {"snarkjs": _snarkjs, "iden3": _iden3}


def export(
    circuit: str,
    form: str,
    folder: Path,
    backend: Backend,
    *,
    cache_dir: Path | None = None,
    key_file: Path | None = None,
    key_sha256: bytes = b"",
    seed: bytes | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the files of one format and return their paths; files of these names are replaced.

    `key_file` is a ceremony's key with the SHA-256 that its owner wrote down; without it the development key is taken.
    `seed` (32 bytes) fixes the statement; without it a fresh one is made. Raises ExportError when the folder cannot be
    written, KeysError when there are no keys or the file is another, ValueError for an unknown circuit or format or a file
    that is no key.
    """
    if form not in FORMATS:
        raise ValueError(f"there is no format {form!r}; use one of {', '.join(sorted(FORMATS))}")
    say = progress or _no_progress
    statement = example(circuit, secrets.token_bytes(SEED_BYTES) if seed is None else seed)()
    key = None if key_file is None else open_ceremony_key(circuit, key_file, key_sha256)
    _write(folder, {})  # a folder that cannot be is told before anything is proved
    key = key or ensure_keys(circuit, cache_dir, backend, say)
    return _write(folder, FORMATS[form](statement, key, backend, say))


def _write(folder: Path, files: dict[str, bytes]) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        reason = error.strerror or error
        raise ExportError(f"the files cannot be written to {folder} ({reason}); choose another folder or make room") from error
    return [folder / name for name in files]
