"""`python -m openmg.zk.prove`: one request on standard input, one JSON line on standard output, then the end.

`prove_now` is what that process does, for whoever may prove in its own: the key of a small circuit is opened once and kept.
Rules: r and s come from the system's randomness; a proof is verified before it leaves; a failure is {"error": sentence}
and exit code 1, and no error text holds a secret. Not here: the request's format (`prover`).
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from openmg.orphans import die_with_parent
from openmg.zk.backend import Backend, BackendError, Prover, get_backend
from openmg.zk.circuits.registry import circuit_named
from openmg.zk.curve import PointError
from openmg.zk.field import R
from openmg.zk.keys import KeysError, ProvingKeyInfo, ensure_keys, open_ceremony_key
from openmg.zk.memory import peak_rss_mb
from openmg.zk.proof import VerifyingKey
from openmg.zk.prover import MAX_REQUEST_BYTES, ProofRequest, ProofResult, ProverError

MAX_KEPT_BYTES = 4 << 20
"""Keys up to this size stay open in a process that proves again and again: `commit` and `period`, nothing larger."""
MAX_KEPT = 4
"""Keys that are kept; with more, all are forgotten."""

_KeyName = tuple[str, str, int | None, Path | None, Path | None, str, bool]


@dataclass(frozen=True)
class _Ready:
    """A backend with a proving key opened in it."""

    backend: Backend
    prover: Prover
    verifying_key: VerifyingKey


_kept: dict[_KeyName, _Ready] = {}
_kept_lock = threading.Lock()


def prove_now(request: ProofRequest) -> ProofResult:
    """Witness, proof and self-check in this process, timed; may be called from several threads.

    UnsatisfiedError names the rule that the values break; ProverError, KeysError and BackendError as the child answers.
    """
    started = time.perf_counter()
    solution = circuit_named(request.circuit).solve(request.witness)
    built = time.perf_counter()
    ready = _ready(request)
    began = time.perf_counter()
    proof = ready.prover.prove(solution.wires, secrets.randbelow(R), secrets.randbelow(R))
    proved = time.perf_counter()
    if not ready.backend.verify(ready.verifying_key, solution.publics, proof):
        raise ProverError(f"the {ready.backend.name} backend made a proof that does not verify; report this")
    return ProofResult(
        proof=proof,
        publics=tuple(solution.publics),
        prove_seconds=round(proved - began, 4),
        witness_seconds=round(built - started, 4),
        verify_seconds=round(time.perf_counter() - proved, 4),
        rss_mb=peak_rss_mb(),
        backend=ready.backend.name,
        threads=ready.backend.threads,
    )


def _ready(request: ProofRequest) -> _Ready:
    """The request's key in its backend, kept when it is small. Authenticated by its digest when it is opened."""
    name = (
        request.circuit, request.backend, request.threads, request.cache_dir,
        request.key_file, request.key_sha256, request.demo,
    )  # fmt: skip
    with _kept_lock:
        kept = _kept.get(name)
    if kept is not None:
        return kept
    backend = get_backend(request.backend, request.threads)
    key = _key(request, backend)
    ready = _Ready(backend, backend.prover(key.path), key.verifying_key)
    if key.path.stat().st_size <= MAX_KEPT_BYTES:
        with _kept_lock:
            if len(_kept) >= MAX_KEPT:
                _kept.clear()
            _kept[name] = ready
    return ready


def _key(request: ProofRequest, backend: Backend) -> ProvingKeyInfo:
    """The key of the request; KeysError for a development key outside demo mode."""
    if request.key_file is not None:
        return open_ceremony_key(request.circuit, request.key_file, bytes.fromhex(request.key_sha256))
    if not request.demo:
        raise KeysError("there is no proving key: name a ceremony's key file and its SHA-256; only a demo may do without")
    return ensure_keys(request.circuit, request.cache_dir, backend)


def main() -> int:
    """Read, prove, answer."""
    die_with_parent()  # a proof that nobody waits for must not keep a meter busy
    try:
        text = sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1)
        if len(text) > MAX_REQUEST_BYTES:
            raise ValueError(f"the proof request is longer than {MAX_REQUEST_BYTES} bytes")
        result = prove_now(ProofRequest.from_json(text.decode("utf-8")))
    except (ValueError, PointError, ProverError, KeysError, BackendError) as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(result.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
