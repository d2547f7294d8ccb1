"""`openmg zk`: proofs verified by py_ecc, exported for snarkjs, measured; witnesses mutated.

Rules: results go to standard output, progress to standard error; heavy modules are imported by the command that needs
them. Not here: keys (`python -m openmg.zk.keys`), the comparison with snarkjs (`benchmarks/bench_zk.py`).
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from workbench.failure import failed
from workbench.progress import Progress

app = typer.Typer(no_args_is_help=True, help="Proofs: verify, export, measure.")


class Backend(StrEnum):
    """How proofs are made."""

    NATIVE = "native"
    PORTABLE = "portable"
    AUTO = "auto"


class Format(StrEnum):
    """For whose programs files are written."""

    SNARKJS = "snarkjs"
    IDEN3 = "iden3"


SHA256_BYTES = 32

CircuitOption = Annotated[str, typer.Option(help="Name of the circuit.")]
BackendOption = Annotated[Backend, typer.Option(help="auto takes native when it is built.")]


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="JSON file with a proof and its public inputs.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Verify a proof with py_ecc, independently of our provers.

    The answer names the key: a proof says no more than whoever made its key can be trusted with.

    Example: openmg zk verify proof.json
    """
    from openmg.zk.verify_file import ProofFileError, check_proof_file

    try:
        report = check_proof_file(file)
    except ProofFileError as error:
        raise failed(str(error), 2) from error
    key = "0x" + report.key_hash.hex()
    if as_json:
        typer.echo(json.dumps({"valid": report.valid, "key": key, "development": report.development}))
    else:
        origin = "the development key, which anybody can forge with" if report.development else "a key of the file's own"
        typer.echo(f"{'valid' if report.valid else 'not valid'} under {origin} ({key})")
    raise typer.Exit(0 if report.valid else 1)


def _digest(text: str) -> bytes:
    """A SHA-256 in hex, or nothing; ValueError for anything else."""
    try:
        digest = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        digest = b"?"
    if len(digest) not in (0, SHA256_BYTES):
        raise ValueError(f"--sha256 takes {2 * SHA256_BYTES} hex digits; copy the whole SHA-256 of the key file")
    return digest


@app.command("export")
def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files; made when missing.")],
    circuit: CircuitOption = "transfer",
    form: Annotated[Format, typer.Option("--format", help="snarkjs: JSON. iden3: r1cs, wtns, zkey.")] = Format.SNARKJS,
    backend: BackendOption = Backend.AUTO,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="A ceremony's key; default: the development key.")] = None,
    sha256: Annotated[str, typer.Option(metavar="HEX", help="The SHA-256 that the ceremony published for it.")] = "",
) -> None:
    """Write a fresh true statement for programs that are not ours.

    It is made for the purpose, under the key named or the development key. The paths of the files go to standard output.

    Example: openmg zk export --circuit transfer --format snarkjs --out exported
    """
    from openmg.zk.backend import BackendError, get_backend
    from openmg.zk.export.writer import ExportError
    from openmg.zk.export.writer import export as write
    from openmg.zk.keys import KeysError

    if (key is None) != (not sha256):
        raise failed("--key and --sha256 go together; give the SHA-256 that the ceremony published", 2)
    try:
        digest = _digest(sha256)
        chosen = get_backend(backend.value)
        paths = write(circuit, form.value, out, chosen, key_file=key, key_sha256=digest, progress=Progress().step)
    except ValueError as error:
        raise failed(str(error), 2) from error
    except (BackendError, ExportError, KeysError) as error:
        raise failed(str(error), 1) from error
    for path in paths:
        typer.echo(path)


@app.command("bench")
def bench(
    circuit: CircuitOption = "transfer",
    backend: BackendOption = Backend.AUTO,
    runs: Annotated[int, typer.Option(help="Proofs to make; medians are printed.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the row as JSON.")] = False,
) -> None:
    """Measure proving, witness and verification on this machine.

    Example: openmg zk bench --circuit transfer --backend native --runs 7 --json
    """
    from openmg.zk.backend import BackendError
    from openmg.zk.bench import BenchError, measure
    from openmg.zk.keys import KeysError

    try:
        row = measure(circuit, backend.value, runs, progress=Progress().step).row()
    except ValueError as error:
        raise failed(str(error), 2) from error
    except (BackendError, BenchError, KeysError) as error:
        raise failed(str(error), 1) from error
    typer.echo(row.to_json() if as_json else row.to_text())


@app.command("fuzz")
def fuzz(
    circuit: Annotated[list[str] | None, typer.Option(help="May be repeated; default: every circuit.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each circuit.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of the drawn statements, wires and values.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reports as JSON.")] = False,
) -> None:
    """Change one wire of true witnesses at a time: each change must break a constraint.

    Exit code 1 when a wire can change alone; the finding names statement, wire and value.

    Example: openmg zk fuzz --circuit transfer --seconds 600 --seed 7
    """
    from openmg.zk.circuits.registry import CIRCUITS
    from workbench.zk.fuzz import fuzz as run

    try:
        progress = Progress()
        reports = [run(name, seed, seconds=seconds, progress=progress.live) for name in circuit or sorted(CIRCUITS)]
    except ValueError as error:
        raise failed(str(error), 2) from error
    if as_json:
        typer.echo(json.dumps([report.row() for report in reports]))
    else:
        for report in reports:
            typer.echo(
                f"{report.circuit:<9} {report.wires:>6} wires  {report.mutations:>9} mutations of"
                f" {report.statements} statements  {len(report.findings)} findings"
            )
            for found in report.findings:
                typer.echo(f"  wire {found.wire} can be {found.value} in the statement {found.statement_seed}")
    raise typer.Exit(1 if any(report.findings for report in reports) else 0)
