"""What a finished ceremony leaves: the transcript, the proving key, the verifier contract, and their hashes.

Rules: files are made from a transcript that was just verified; the proving key is in the project's own format, so both
backends take it as it is. The manifest is for people and for configuration files: programs trust the SHA-256 that
their owner wrote down, not the manifest beside the key (`keys.open_ceremony_key`).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from openmg.zk.ceremony.files import require_new, write_new
from openmg.zk.ceremony.transcript import Transcript
from openmg.zk.ceremony.verification import contributions_of, key_bytes, verifying_key
from openmg.zk.r1cs import ConstraintSystem
from openmg.zk.solidity import PUBLIC_INPUTS, verifier_contract


@dataclass(frozen=True)
class Output:
    """The files' paths."""

    transcript: Path
    proving_key: Path
    contract: Path
    manifest: Path

    def all(self) -> tuple[Path, ...]:
        return self.transcript, self.proving_key, self.contract, self.manifest


def contract_name(circuit: str) -> str:
    """A Solidity name from a circuit's: transfer gives Transfer."""
    name = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", circuit))
    return name if name[:1].isalpha() else f"Circuit{name}"


def output_of(folder: Path, circuit: str) -> Output:
    """Where the files of a circuit go; CeremonyError when one of them is there already."""
    contract = f"{contract_name(circuit)}Verifier.sol"
    output = Output(*(folder / name for name in (f"{circuit}.ceremony", f"{circuit}.pk", contract, f"{circuit}.json")))
    for path in output.all():
        require_new(path)
    return output


def manifest_of(transcript: Transcript, key: bytes, data: bytes) -> dict[str, object]:
    """Hashes as hex: of the circuit, the verifying key, the two large files, and each contribution."""
    return {
        "circuit": transcript.circuit.name,
        "circuit_hash": "0x" + transcript.circuit.header.circuit_hash.hex(),
        "verifying_key_hash": "0x" + verifying_key(transcript).digest().hex(),
        "proving_key_sha256": hashlib.sha256(key).hexdigest(),
        "transcript_sha256": hashlib.sha256(data).hexdigest(),
        "contributions": [
            {"phase": one.phase, "kind": one.kind, "name": one.name, "hash": "0x" + one.hash.hex()}
            for one in contributions_of(transcript)
        ],
    }


def write_output(transcript: Transcript, system: ConstraintSystem, output: Output) -> dict[str, object]:
    """Write the four files and return the manifest; CeremonyError when the transcript is not final."""
    key, data = key_bytes(transcript, system), transcript.to_bytes()
    name, count = transcript.circuit.name, transcript.circuit.header.n_public
    inputs = PUBLIC_INPUTS.get(name, f"the {count} public wires in the circuit's order")
    circuit_hash = transcript.circuit.header.circuit_hash
    source = verifier_contract(contract_name(name), verifying_key(transcript), circuit_hash, inputs, development=False)
    manifest = manifest_of(transcript, key, data)
    write_new(output.proving_key, key)
    write_new(output.contract, source.encode("utf-8"))
    write_new(output.transcript, data)
    write_new(output.manifest, (json.dumps(manifest, indent=2) + "\n").encode("utf-8"))
    return manifest
