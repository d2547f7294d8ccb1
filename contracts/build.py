"""Compiles the Solidity sources with the npm package `solc` and writes `artifacts/<Name>.json`.

Rules: the same sources give the same bytes everywhere (fixed compiler and settings, no metadata hash, sorted
JSON), so that the committed artifacts can be checked; programs read artifacts and never compile. Contracts of
tests go to `artifacts/testing/`. Needs node and `npm ci` in this folder; only the standard library of Python.
Usage: python contracts/build.py [--check]. With --check nothing is written and a difference is exit code 1.
Not here: deployment (`hub.chain.deploy`) and the generated sources in `src/zk` (`openmg.zk.solidity`).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
SOURCE_FOLDERS = {"src": Path(), "test-support": Path("testing")}
"""Folder of sources and where, below `artifacts/`, its contracts go."""
ARTIFACTS = ROOT / "artifacts"
SETTINGS: dict[str, Any] = {
    "evmVersion": "prague",
    "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
    "optimizer": {"enabled": True, "runs": 200},
    "viaIR": False,
}
"""`viaIR` off: nothing here needs it, and the legacy code generator gives smaller code for the Poseidon libraries."""
OUTPUT = {"*": {"*": ["abi", "evm.bytecode.object", "evm.bytecode.linkReferences", "evm.deployedBytecode.object"]}}
MAX_DEPLOYED_BYTES = 24_576
"""Contract size limit of the EVM (EIP-170)."""
COMPILE_SECONDS = 300
_IMPORT = re.compile(r'^\s*import\s+(?:[^"\']*?from\s+)?["\']([^"\']+)["\']', re.M)
_COMPILE_JS = """
const solc = require('solc');
const input = require('fs').readFileSync(0, 'utf8');
const answer = {version: solc.version(), output: JSON.parse(solc.compile(input))};
process.stdout.write(JSON.stringify(answer));
"""


class BuildError(Exception):
    """One sentence: what failed and what to do."""


def _path_of(name: str) -> Path:
    """The file of a source unit name: our own below this folder, packages below node_modules."""
    return ROOT / "node_modules" / name if name.startswith("@") else ROOT / name


def _imports(name: str, text: str) -> list[str]:
    """Source unit names that a source imports, relative ones resolved."""
    names = []
    for target in _IMPORT.findall(text):
        if target.startswith("."):
            base = [part for part in name.split("/")[:-1]]
            for part in target.split("/"):
                if part == "..":
                    base.pop()
                elif part != ".":
                    base.append(part)
            target = "/".join(base)
        names.append(target)
    return names


def read_sources() -> dict[str, str]:
    """Every source unit that the build needs, by name."""
    queue = [path.relative_to(ROOT).as_posix() for folder in SOURCE_FOLDERS for path in sorted((ROOT / folder).rglob("*.sol"))]
    sources: dict[str, str] = {}
    while queue:
        name = queue.pop()
        if name in sources:
            continue
        try:
            sources[name] = _path_of(name).read_text(encoding="utf-8")
        except OSError as error:
            raise BuildError(f"{name} cannot be read ({error.strerror}); run npm ci in contracts/") from error
        queue.extend(_imports(name, sources[name]))
    return dict(sorted(sources.items()))


def source_hash(name: str, sources: dict[str, str]) -> str:
    """sha256 over a source and all it imports, by name; the compiler sees nothing else."""
    wanted, queue = set(), [name]
    while queue:
        current = queue.pop()
        if current not in wanted:
            wanted.add(current)
            queue.extend(_imports(current, sources[current]))
    digest = hashlib.sha256()
    for unit in sorted(wanted):
        digest.update(f"{unit}\0{hashlib.sha256(sources[unit].encode()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _counts(message: dict[str, Any]) -> bool:
    """Errors always do, warnings when they are about our own sources."""
    return message["severity"] == "error" or not message.get("sourceLocation", {}).get("file", "").startswith("@")


def compile_sources(sources: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Compiler version and standard JSON output; BuildError with the compiler's messages when it refuses."""
    node = shutil.which("node")
    if node is None:
        raise BuildError("node is not on the PATH; install Node.js 20 or newer to compile the contracts")
    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": {**SETTINGS, "outputSelection": OUTPUT},
    }
    done = subprocess.run(
        [node, "-e", _COMPILE_JS],
        input=json.dumps(request).encode(),
        capture_output=True,
        cwd=ROOT,
        timeout=COMPILE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise BuildError(f"the compiler did not start ({last[0]}); run npm ci in contracts/")
    answer = json.loads(done.stdout)
    messages = [message for message in answer["output"].get("errors", []) if _counts(message)]
    if messages:
        raise BuildError("\n".join(message["formattedMessage"] for message in messages))
    return answer["version"], answer["output"]["contracts"]


def artifacts() -> dict[Path, str]:
    """Text of every artifact by its path below `artifacts/`."""
    sources = read_sources()
    version, contracts = compile_sources(sources)
    result: dict[Path, str] = {}
    for source, units in contracts.items():
        folder = SOURCE_FOLDERS.get(source.split("/", 1)[0])
        if folder is None:
            continue
        for name, unit in units.items():
            bytecode = unit["evm"]["bytecode"]
            deployed = unit["evm"]["deployedBytecode"]["object"]
            if not any(part["type"] == "function" for part in unit["abi"]) or not bytecode["object"]:
                continue  # interfaces and libraries that are compiled in
            if len(deployed) // 2 > MAX_DEPLOYED_BYTES:
                raise BuildError(f"{source}:{name} has {len(deployed) // 2} bytes; the limit is {MAX_DEPLOYED_BYTES}")
            artifact = {
                "abi": unit["abi"],
                "bytecode": "0x" + bytecode["object"],
                "compiler": version,
                "contractName": name,
                "deployedBytecode": "0x" + deployed,
                "linkReferences": bytecode["linkReferences"],
                "settings": SETTINGS,
                "sourceName": source,
                "sourceSha256": source_hash(source, sources),
            }
            path = folder / f"{name}.json"
            if path in result:
                raise BuildError(f"two contracts are called {name}; rename one")
            result[path] = json.dumps(artifact, indent=1, sort_keys=True) + "\n"
    return result


def check(built: dict[Path, str]) -> list[str]:
    """One sentence for every committed artifact that differs from what the sources give."""
    present = {path.relative_to(ARTIFACTS) for path in ARTIFACTS.rglob("*.json")}
    problems = [f"{path}: no source gives it; delete it" for path in sorted(present - built.keys())]
    for path, text in sorted(built.items()):
        if path not in present:
            problems.append(f"{path}: is missing; run python contracts/build.py")
        elif (ARTIFACTS / path).read_text(encoding="utf-8") != text:
            problems.append(f"{path}: differs from its source; run python contracts/build.py")
    return problems


def write(built: dict[Path, str]) -> None:
    """Make `artifacts/` hold exactly what was built."""
    for path in ARTIFACTS.rglob("*.json"):
        if path.relative_to(ARTIFACTS) not in built:
            path.unlink()
    for path, text in built.items():
        target = ARTIFACTS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def main() -> int:
    try:
        built = artifacts()
    except (BuildError, subprocess.TimeoutExpired) as error:
        print(f"contracts: {error}", file=sys.stderr)
        return 1
    if "--check" in sys.argv[1:]:
        problems = check(built)
        for problem in problems:
            print(f"contracts/artifacts/{problem}", file=sys.stderr)
        print(f"contracts: {len(built)} artifacts checked, {len(problems)} differ")
        return 1 if problems else 0
    write(built)
    print(f"contracts: {len(built)} artifacts written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
