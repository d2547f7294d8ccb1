"""`python -m openmg.zk.prove`: one request on standard input, one JSON line on standard output, then the end.

Rules: r and s come from the system's randomness; a proof is verified before it leaves; a failure is {"error": sentence}
and exit code 1, and no error text holds a secret. Not here: the request's format (`prover`).
"""

from __future__ import annotations

import json
import secrets
import sys
import time

from openmg.orphans import die_with_parent
from openmg.zk.backend import Backend, BackendError, get_backend
from openmg.zk.circuits import transfer
from openmg.zk.curve import PointError
from openmg.zk.field import R
from openmg.zk.keys import KeysError, ProvingKeyInfo, ensure_keys, open_ceremony_key
from openmg.zk.memory import peak_rss_mb
from openmg.zk.prover import MAX_REQUEST_BYTES, ProofResult, ProverError, TransferRequest
from openmg.zk.r1cs import WitnessBuilder


def prove_transfer(request: TransferRequest) -> ProofResult:
    """Witness, proof and self-check, timed; UnsatisfiedError names the rule that the values break."""
    started = time.perf_counter()
    publics = transfer.publics_of(request.witness)
    builder = WitnessBuilder()
    transfer.synthesize(builder, publics, request.witness)
    built = time.perf_counter()
    backend = get_backend(request.backend, request.threads)
    key = _key(request, backend)
    ready = time.perf_counter()
    proof = backend.prover(key.path).prove(builder.witness, secrets.randbelow(R), secrets.randbelow(R))
    proved = time.perf_counter()
    if not backend.verify(key.verifying_key, publics.as_list(), proof):
        raise ProverError(f"the {backend.name} backend made a proof that does not verify; report this")
    return ProofResult(
        proof=proof,
        publics=tuple(publics.as_list()),
        prove_seconds=round(proved - ready, 4),
        witness_seconds=round(built - started, 4),
        verify_seconds=round(time.perf_counter() - proved, 4),
        rss_mb=peak_rss_mb(),
        backend=backend.name,
        threads=backend.threads,
    )


def _key(request: TransferRequest, backend: Backend) -> ProvingKeyInfo:
    """The key of the request; KeysError for a development key outside demo mode."""
    if request.key_file is not None:
        return open_ceremony_key(transfer.NAME, request.key_file, bytes.fromhex(request.key_sha256))
    if not request.demo:
        raise KeysError("there is no proving key: name a ceremony's key file and its SHA-256; only a demo may do without")
    return ensure_keys(transfer.NAME, request.cache_dir, backend)


def main() -> int:
    """Read, prove, answer."""
    die_with_parent()  # a proof that nobody waits for must not keep a meter busy
    try:
        text = sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1)
        if len(text) > MAX_REQUEST_BYTES:
            raise ValueError(f"the proof request is longer than {MAX_REQUEST_BYTES} bytes")
        result = prove_transfer(TransferRequest.from_json(text.decode("utf-8")))
    except (ValueError, PointError, ProverError, KeysError, BackendError) as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(result.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
