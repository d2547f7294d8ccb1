"""The compiled contracts: committed JSON files that `contracts/build.py` writes.

Rules: a program reads artifacts and never compiles. They are looked for in $OPENMG_ARTIFACTS, else in
`contracts/artifacts` of the checkout. A contract that uses a library is linked before it is deployed.
Not here: addresses (`hub.chain.deploy`).
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_utils.abi import collapse_if_tuple

from hub.chain.errors import DeploymentError
from openmg.hashing import keccak256

ARTIFACTS_VARIABLE = "OPENMG_ARTIFACTS"
_CHECKOUT_FOLDER = Path(__file__).resolve().parents[2] / "contracts" / "artifacts"


@dataclass(frozen=True)
class Library:
    """A place in a bytecode that wants a library's address: library name and byte offset."""

    name: str
    offset: int


@dataclass(frozen=True)
class Artifact:
    """A compiled contract; `bytecode` is hex without 0x, with placeholders where `libraries` go."""

    name: str
    abi: tuple[dict[str, Any], ...]
    bytecode: str
    libraries: tuple[Library, ...]

    def creation_code(self, addresses: Mapping[str, bytes]) -> bytes:
        """The bytecode with the libraries' 20-byte addresses put in; DeploymentError when one is missing."""
        code = self.bytecode
        for library in self.libraries:
            if library.name not in addresses:
                raise DeploymentError(f"{self.name} needs the library {library.name}; deploy it first")
            start = 2 * library.offset
            code = code[:start] + addresses[library.name].hex() + code[start + 40 :]
        return bytes.fromhex(code)


def artifacts_folder() -> Path:
    """Where the artifacts are."""
    named = os.environ.get(ARTIFACTS_VARIABLE)
    return Path(named) if named else _CHECKOUT_FOLDER


def load_artifact(name: str, folder: Path | None = None) -> Artifact:
    """The artifact of a contract; DeploymentError when there is none or it is damaged."""
    return _load(name, folder or artifacts_folder())


@functools.lru_cache(maxsize=64)
def _load(name: str, folder: Path) -> Artifact:
    path = folder / f"{name}.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        libraries = tuple(
            Library(library, place["start"])
            for units in data["linkReferences"].values()
            for library, places in units.items()
            for place in places
        )
        return Artifact(name, tuple(data["abi"]), data["bytecode"].removeprefix("0x"), libraries)
    except OSError as error:
        raise DeploymentError(f"no artifact {path} ({error.strerror}); run python contracts/build.py") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DeploymentError(f"{path} is not an artifact ({error}); run python contracts/build.py") from error


@functools.lru_cache(maxsize=4)
def _error_table(folder: Path) -> dict[bytes, dict[str, Any]]:
    """ABI of every custom error that any of the contracts knows, by selector."""
    table: dict[bytes, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8"))["abi"]:
            if entry["type"] == "error":
                kinds = ",".join(collapse_if_tuple(item) for item in entry["inputs"])
                table[keccak256(f"{entry['name']}({kinds})".encode())[:4]] = entry
    return table


_BUILT_IN: dict[bytes, tuple[str, str]] = {
    bytes.fromhex("08c379a0"): ("Error", "string"),
    bytes.fromhex("4e487b71"): ("Panic", "uint256"),
}


def explain_revert(data: bytes) -> tuple[str, str]:
    """Name and arguments (as text) of the error that a revert carries; ("unknown", hex) for foreign data."""
    selector, body = data[:4], data[4:]
    try:
        if selector in _BUILT_IN:
            name, kind = _BUILT_IN[selector]
            return name, str(abi_decode([kind], body)[0])
        entry = _error_table(artifacts_folder()).get(selector)
        if entry is not None:
            values = abi_decode([collapse_if_tuple(item) for item in entry["inputs"]], body)
            named = zip(entry["inputs"], values, strict=True)
            return entry["name"], ", ".join(f"{item['name']}={_text(value)}" for item, value in named)
    except Exception:  # eth-abi has many exceptions for malformed data; the data is shown instead
        pass
    return "unknown", data.hex() or "no data"


def _text(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
