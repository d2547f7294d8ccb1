"""Proofs of any circuit: the request, the result, and the asyncio side that proves in a child process.

Rules: a proof needs some 100 MB for seconds, so it is made in a short-lived process whose memory goes back at once. The
request, which holds secrets, travels over standard input only; the answer is one JSON line. Field elements are hex strings
in JSON. Not here: how a witness is spelt (`witness_json`), what the child does and proofs without a child (`prove`).
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from pathlib import Path

from openmg.zk import witness_json
from openmg.zk.backend import BACKEND_NAMES
from openmg.zk.circuits.registry import circuit_named
from openmg.zk.proof import PROOF_BYTES

MAX_REQUEST_BYTES = 64 * 1024
"""The largest, of a merge or burn, has about 14 kB."""
MAX_ANSWER_BYTES = 64 * 1024
MAX_PROVE_SECONDS = 600.0
"""A slot lasts 900 s; a proof that takes longer than this is of no use in it."""


class ProverError(Exception):
    """No proof was made; the text says why."""


@dataclass(frozen=True)
class ProofRequest:
    """A statement to be proved with a ceremony's key, or in demo mode with the development key in `cache_dir` (None: the
    default folder). ValueError for an unknown circuit or backend and for another circuit's witness.
    """

    circuit: str
    witness: object = field(repr=False)
    """Of the circuit's `witness_type`."""
    backend: str = "auto"
    cache_dir: Path | None = None
    _: KW_ONLY
    threads: int | None = None
    """For the native backend; None leaves it to the module."""
    key_file: Path | None = None
    key_sha256: str = ""
    """64 hex digits that the ceremony's owner wrote down for `key_file`."""
    demo: bool = False
    """Take the development key, with which anybody can forge."""

    def __post_init__(self) -> None:
        expected = circuit_named(self.circuit).witness_type
        if not isinstance(self.witness, expected):
            raise ValueError(
                f"circuit {self.circuit} is proved from a {expected.__name__}, not a {type(self.witness).__name__}"
            )
        if self.backend not in BACKEND_NAMES:
            raise ValueError(f"backend is {self.backend!r}; use one of {', '.join(BACKEND_NAMES)}")

    def to_json(self) -> str:
        """One line; it holds the spending key, so it goes nowhere but to the child's standard input."""
        document = {
            "circuit": self.circuit,
            "backend": self.backend,
            "cache_dir": None if self.cache_dir is None else str(self.cache_dir),
            "threads": self.threads,
            "key_file": None if self.key_file is None else str(self.key_file),
            "key_sha256": self.key_sha256,
            "demo": self.demo,
            "witness": witness_json.encode(self.witness),
        }
        return json.dumps(document)

    @staticmethod
    def from_json(text: str) -> ProofRequest:
        """ValueError with one sentence for anything that is no request."""
        try:
            document = json.loads(text)
            circuit = circuit_named(str(document["circuit"]))
            folder, threads, key_file = document.get("cache_dir"), document.get("threads"), document.get("key_file")
            return ProofRequest(
                circuit=circuit.name,
                witness=witness_json.decode(circuit.witness_type, document["witness"]),
                backend=str(document.get("backend", "auto")),
                cache_dir=None if folder is None else Path(folder),
                threads=None if threads is None else int(threads),
                key_file=None if key_file is None else Path(key_file),
                key_sha256=str(document.get("key_sha256", "")),
                demo=document.get("demo") is True,
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"the proof request is not of the expected shape ({type(error).__name__})") from error


def _public(value: object) -> int:
    """A public input of an answer, as `ProofResult.to_json` writes it."""
    if not isinstance(value, str):
        raise ValueError("a public input is not a hex string")
    return int(value, 16)


@dataclass(frozen=True)
class ProofResult:
    """A proof that its maker has verified, and what it cost."""

    proof: bytes
    publics: tuple[int, ...]
    prove_seconds: float
    witness_seconds: float
    verify_seconds: float
    rss_mb: float
    backend: str
    threads: int

    def to_json(self) -> str:
        document = asdict(self) | {"proof": self.proof.hex(), "publics": [hex(value) for value in self.publics]}
        return json.dumps(document)

    @staticmethod
    def from_json(text: str) -> ProofResult:
        """ProverError when the child reports one or says something else."""
        try:
            document = json.loads(text)
            if "error" in document:
                raise ProverError(str(document["error"]))
            result = ProofResult(**document)
            result = replace(result, proof=bytes.fromhex(document["proof"]), publics=tuple(map(_public, document["publics"])))
        except (ValueError, TypeError, KeyError) as error:
            raise ProverError(f"the prover's answer cannot be read ({error})") from error
        if len(result.proof) != PROOF_BYTES:
            raise ProverError(f"the prover's answer holds a proof of {len(result.proof)} bytes")
        return result

    @property
    def words(self) -> tuple[int, ...]:
        """The eight words of the verifier contract's `proof`."""
        return tuple(int.from_bytes(self.proof[i : i + 32], "big") for i in range(0, PROOF_BYTES, 32))


async def prove_in_child(
    request: ProofRequest, backend: str | None = None, timeout_seconds: float = MAX_PROVE_SECONDS
) -> ProofResult:
    """Prove in a child of this process; ProverError when it fails or takes too long. Cancelling ends the child."""
    chosen = request if backend is None else replace(request, backend=backend)
    pipe = asyncio.subprocess.PIPE
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "openmg.zk.prove", stdin=pipe, stdout=pipe, stderr=pipe, limit=MAX_ANSWER_BYTES
        )
    except OSError as error:
        raise ProverError(f"the prover process cannot be started ({error.strerror}); free memory or processes") from error
    try:
        answer, complaint = await asyncio.wait_for(child.communicate(chosen.to_json().encode()), timeout_seconds)
    except TimeoutError as error:
        raise ProverError(f"no proof after {timeout_seconds:.0f} s; use native or raise the limit") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    text = answer.decode("utf-8", "replace").strip()
    if not text or len(text) > MAX_ANSWER_BYTES:
        last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
        raise ProverError(f"the prover process ended with code {child.returncode}: {last[0]}")
    return ProofResult.from_json(text)
