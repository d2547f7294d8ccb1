"""Development keys: made once from a published seed, cached by circuit hash, the same bytes on every machine.

Rules: anybody can make these keys and therefore forge with them; programs refuse them outside demo mode (`prove`, the hub's
`proof_keys`). A cached file is trusted only when its SHA-256 is the one written down with its circuit; it
is written beside its place and moved there, so a reader never sees half a file. `python -m openmg.zk.keys` makes them.
Keys of a ceremony are only opened here, by the SHA-256 that their owner wrote down. Not here: how they are made
(`ceremony`).
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from openmg.durable import replace_durably
from openmg.zk import groth16
from openmg.zk.backend import BACKEND_NAMES, Backend, BackendError, get_backend
from openmg.zk.circuits.registry import CIRCUITS, DEMO_CIRCUITS, Circuit, circuit_named
from openmg.zk.proof import VerifyingKey
from openmg.zk.proving_key import ProvingKeyFile
from openmg.zk.r1cs import circuit_hash

log = logging.getLogger(__name__)

DEVELOPMENT_SEED = b"openmg development keys 1: public, forgeable, never for value"
HASH_NAME_BYTES = 8
"""Leading bytes of the circuit hash in a file name; the whole hash is checked inside."""

Progress = Callable[[str], None]


class KeysError(Exception):
    """Keys cannot be made or may not be used; the text says why and what to do."""


@dataclass(frozen=True)
class ProvingKeyInfo:
    """A proving key that is ready on disk."""

    circuit: str
    path: Path
    circuit_hash: bytes
    sha256: bytes
    verifying_key: VerifyingKey
    development: bool
    setup_seconds: float
    """0 when the key came from the cache."""


def default_cache_dir() -> Path:
    """$OPENMG_CACHE, or the user's cache folder."""
    override = os.environ.get("OPENMG_CACHE")
    return Path(override) if override else Path.home() / ".cache" / "openmg"


def key_path(circuit: Circuit, cache_dir: Path) -> Path:
    return cache_dir / "zk" / f"{circuit.name}-{circuit.circuit_hash[:HASH_NAME_BYTES].hex()}.pk"


def _is_cached(path: Path, sha256: bytes) -> bool:
    """Whether the file is there with this digest; KeysError when it cannot be read."""
    try:
        with path.open("rb") as file:
            good = hashlib.file_digest(file, "sha256").digest() == sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise KeysError(f"cached key {path} cannot be read ({error.strerror}); mend it or set OPENMG_CACHE") from error
    if not good:
        log.warning("cached key %s is damaged or of another version; it is made again", path)
    return good


def _keep(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(path, data)
    except OSError as error:
        raise KeysError(f"keys cannot be written to {path.parent} ({error.strerror}); set OPENMG_CACHE") from error


def make_development_key(circuit: Circuit, backend: Backend) -> bytes:
    """The key file from the published seed; KeysError when it is not the one written down with the circuit."""
    system = circuit.build()
    if circuit_hash(system) != circuit.circuit_hash:
        raise KeysError(f"the {circuit.name} circuit is not the one written down with it; its hash must be renewed")
    data = groth16.setup(system, DEVELOPMENT_SEED, backend.g1_fixed_base, backend.g2_fixed_base)
    if hashlib.sha256(data).digest() != circuit.development_key_sha256:
        raise KeysError(f"the {circuit.name} keys made by {backend.name} are not the written-down ones; report this")
    return data


def ensure_keys(
    circuit: str,
    cache_dir: Path | None = None,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> ProvingKeyInfo:
    """The development key of a circuit, from the cache or made now (seconds); ValueError for an unknown circuit."""
    chosen = circuit_named(circuit)
    path = key_path(chosen, default_cache_dir() if cache_dir is None else cache_dir)
    seconds = 0.0
    if not _is_cached(path, chosen.development_key_sha256):
        maker = get_backend("auto") if backend is None else backend
        if progress:
            progress(f"making development keys of the {circuit} circuit ({maker.name})")
        started = time.monotonic()
        _keep(path, make_development_key(chosen, maker))
        seconds = time.monotonic() - started
    key = ProvingKeyFile(path)
    return ProvingKeyInfo(
        circuit=circuit,
        path=path,
        circuit_hash=chosen.circuit_hash,
        sha256=chosen.development_key_sha256,
        verifying_key=key.verifying_key,
        development=True,
        setup_seconds=seconds,
    )


def open_ceremony_key(circuit: str, path: Path, sha256: bytes) -> ProvingKeyInfo:
    """A ceremony's proving key with the SHA-256 that its owner wrote down.

    KeysError when the file is another, belongs to another circuit or is the development key; ValueError for an unknown
    circuit, KeyFileError and UnsafeKeyError for a file that is no key.
    """
    chosen = circuit_named(circuit)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise KeysError(f"proving key {path} cannot be read ({error.strerror}); fetch it from the ceremony") from error
    if found != sha256:
        raise KeysError(f"proving key {path} has the SHA-256 {found.hex()}, not the written-down one; fetch it again")
    if found == chosen.development_key_sha256:
        raise KeysError(f"{path} is the development key of {circuit}, with which anybody can forge; run a ceremony")
    key = ProvingKeyFile(path)
    if key.header.circuit_hash != chosen.circuit_hash:
        raise KeysError(f"{path} is a key of another circuit than {circuit}; take the file of this circuit")
    return ProvingKeyInfo(
        circuit=circuit,
        path=path,
        circuit_hash=chosen.circuit_hash,
        sha256=found,
        verifying_key=key.verifying_key,
        development=False,
        setup_seconds=0.0,
    )


def main(arguments: list[str] | None = None) -> int:
    """`ensure`: make whatever keys are missing and print one line for each circuit."""
    parser = argparse.ArgumentParser(prog="openmg.zk.keys", description="Make the development keys of circuits.")
    parser.add_argument("action", choices=["ensure"])
    parser.add_argument(
        "--circuit", action="append", choices=sorted(CIRCUITS), help="may be repeated; default: what the demo needs"
    )
    parser.add_argument("--backend", choices=BACKEND_NAMES, default="auto")
    parser.add_argument("--cache-dir", type=Path)
    options = parser.parse_args(arguments)
    try:
        backend = get_backend(options.backend)
        for name in options.circuit or DEMO_CIRCUITS:
            info = ensure_keys(name, options.cache_dir, backend, print)
            origin = f"made in {info.setup_seconds:.1f} s" if info.setup_seconds else "cached"
            print(f"{name}: {info.path} ({info.path.stat().st_size >> 20} MiB, {origin})")
    except (KeysError, BackendError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
