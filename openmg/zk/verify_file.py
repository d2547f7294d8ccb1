"""Check a proof kept in a JSON file: {circuit, proof, publics, vk?}, hex strings, publics in the circuit's order.

Rules: without `vk` the development key of the circuit is used. A key that comes in the file is the file's own claim:
whoever made it may know its secrets, so the report names the key. The check itself is py_ecc's (`pyecc_verify`), so
that it shares no arithmetic with the prover. Not here: printing (the command line does that).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openmg.zk import pyecc_verify
from openmg.zk.circuits.registry import circuit_named
from openmg.zk.keys import KeysError, ensure_keys
from openmg.zk.proof import VerifyingKey

MAX_FILE_BYTES = 256 * 1024
"""A proof file has about 4 kB with its key."""


class ProofFileError(Exception):
    """The file is no proof file, or cannot be checked here; the text says why."""


@dataclass(frozen=True)
class ProofReport:
    """What the check found."""

    circuit: str
    valid: bool
    key_hash: bytes
    development: bool
    """Whether the key's secrets are public, in which case a valid proof proves nothing to a stranger."""


def _bytes(value: Any, name: str) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a hex string")
    return bytes.fromhex(value.removeprefix("0x"))


def _number(value: Any) -> int:
    number = int(value, 0) if isinstance(value, str) else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError("publics holds something that is not a non-negative integer")
    return number


def check_proof_file(path: Path, cache_dir: Path | None = None) -> ProofReport:
    """Read and check; ProofFileError with one sentence when there is nothing to check."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ProofFileError(f"{path} cannot be read ({error.strerror}); give the path of a proof file") from error
    try:
        if len(text) > MAX_FILE_BYTES:
            raise ValueError(f"it is longer than {MAX_FILE_BYTES} bytes")
        document = json.loads(text)
        if not isinstance(document, dict) or not {"circuit", "proof", "publics"} <= document.keys():
            raise ValueError("it needs the keys circuit, proof and publics")
        circuit = circuit_named(str(document["circuit"]))
        proof = _bytes(document["proof"], "proof")
        publics = [_number(value) for value in document["publics"]]
        given = VerifyingKey.from_bytes(_bytes(document["vk"], "vk")) if document.get("vk") else None
    except (ValueError, TypeError, RecursionError) as error:
        raise ProofFileError(f"{path} is not a proof file: {error}") from error
    try:
        development = ensure_keys(circuit.name, cache_dir).verifying_key
    except KeysError as error:
        raise ProofFileError(f"{path} cannot be checked: {error}") from error
    key = development if given is None else given
    valid = pyecc_verify.verify(key, publics, proof)
    return ProofReport(circuit.name, valid, key.digest(), key == development)
