"""`openmg zk ceremony`: keys that no single party can forge with.

Rules: results go to standard output, progress to standard error once a command takes longer than two seconds. Typed
randomness is asked for without echo or read as a line of standard input, never taken from an argument, which other
users of the machine and the shell's history would see. No file is written over. Exit code 1 for what is refused, 2 for
options that do not go together. Not here: what is checked (`openmg.zk.ceremony`); how to hold one (docs/CEREMONY.md).
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.failure import failed
from workbench.progress import Progress
from workbench.zk_cli import Backend, BackendOption

if TYPE_CHECKING:
    from openmg.zk.ceremony.arithmetic import Arithmetic
    from openmg.zk.ceremony.randomness import Pool
    from openmg.zk.ceremony.transcript import Transcript
    from openmg.zk.ceremony.verification import Report
    from openmg.zk.r1cs import ConstraintSystem

app = typer.Typer(no_args_is_help=True, help="Make keys together: init, contribute, verify, finalise.")

QUIET_SECONDS = 2.0
"""Commands that end sooner say nothing on the way."""

FileArgument = Annotated[Path, typer.Argument(help="The ceremony's file.")]
OutOption = Annotated[Path, typer.Option(help="The file to write; it must not exist.")]
CircuitOption = Annotated[str, typer.Option(help="Name of a circuit, or a file with its matrices; default: the file's own.")]


@contextmanager
def _refusals() -> Iterator[None]:
    """A refusal is one sentence and exit code 1."""
    from openmg.zk.backend import BackendError
    from openmg.zk.ceremony.errors import CeremonyError

    try:
        yield
    except (CeremonyError, BackendError) as error:
        raise failed(str(error), 1) from error


class _Work:
    """The arithmetic of a command and the progress of its steps."""

    def __init__(self, backend: Backend) -> None:
        from openmg.zk.backend import get_backend
        from openmg.zk.ceremony.arithmetic import arithmetic_of

        self.arithmetic: Arithmetic = arithmetic_of(get_backend(backend.value))
        self.progress = Progress()

    def say(self, text: str) -> None:
        if self.progress.seconds > QUIET_SECONDS:
            self.progress.live(text, once=text.partition(":")[0])

    def verify(self, transcript: Transcript, system: ConstraintSystem | None) -> Report:
        from openmg.zk.ceremony.verification import verify as check

        return check(transcript, system, self.arithmetic, secrets.randbelow, self.say)


def _hex(text: str, option: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise failed(f"{option} is not hex; give an even number of hex digits", 2) from error


def _system(transcript: Transcript, circuit: str) -> ConstraintSystem | None:
    """The circuit that a phase 2 is checked against; None for phase 1."""
    from openmg.zk.ceremony.circuit_file import load_circuit
    from openmg.zk.ceremony.errors import CeremonyError
    from openmg.zk.circuits.registry import CIRCUITS

    if transcript.subject is None:
        return None
    name = circuit or transcript.subject.name
    if not circuit and name not in CIRCUITS:
        raise CeremonyError(f"this ceremony is for a circuit {name!r} that is not ours; give its file with --circuit")
    return load_circuit(name)[1]


@app.command("init")
def init(
    out: OutOption,
    circuit: Annotated[str, typer.Option(help="Name of a circuit, or a file with its matrices.")] = "",
    power: Annotated[int, typer.Option(help="Start phase 1 with 2^POWER powers, for any circuit of the size.")] = 0,
    phase1: Annotated[Path | None, typer.Option(help="Start phase 2 from our own phase 1 in this file.")] = None,
    ptau: Annotated[Path | None, typer.Option(help="Start phase 2 from this public .ptau file.")] = None,
    ptau_hash: Annotated[str, typer.Option(help="The published hash of the .ptau file: BLAKE2b-512 or SHA-256.")] = "",
    backend: BackendOption = Backend.AUTO,
) -> None:
    """Start a phase: with --circuit or --power alone phase 1, with --phase1 or --ptau phase 2 of the circuit.

    Example: openmg zk ceremony init --circuit transfer --ptau pot14.ptau --ptau-hash eeefbcf7... --out transfer.0
    """
    if (ptau is None) != (not ptau_hash):
        raise failed("--ptau and --ptau-hash go together; give the hash that the ceremony published", 2)
    sources = [source for source in (phase1, ptau) if source is not None]
    if len(sources) > 1 or (sources and not circuit) or (sources and power) or bool(power) == bool(circuit):
        raise failed("give --circuit (phase 1, or phase 2 with one of --phase1 and --ptau), or --power alone", 2)
    with _refusals():
        from openmg.zk.ceremony import phase1 as first
        from openmg.zk.ceremony.circuit_file import load_circuit
        from openmg.zk.ceremony.files import require_new, write_new

        require_new(out)
        work = _Work(backend)
        if not sources:
            transcript = first.start(power or load_circuit(circuit)[1].domain_log2)
        else:
            name, system = load_circuit(circuit)
            transcript = _phase2(work, name, system, phase1, ptau, _hex(ptau_hash, "--ptau-hash"))
        write_new(out, transcript.to_bytes())
    what = "phase 1" if transcript.subject is None else f"phase 2 of {transcript.subject.name}"
    typer.echo(f"{out}: {what}, 2^{transcript.log2} powers, start 0x{transcript.tip.hex()}")


def _phase2(
    work: _Work, name: str, system: ConstraintSystem, phase1: Path | None, ptau: Path | None, digest: bytes
) -> Transcript:
    """Phase 2 from a phase 1 that is checked first."""
    from openmg.zk.ceremony import phase2
    from openmg.zk.ceremony.files import read_transcript
    from openmg.zk.ceremony.ptau import read_powers
    from openmg.zk.ceremony.transcript import Transcript

    if phase1 is not None:
        powers = read_transcript(phase1)
    else:
        assert ptau is not None
        origin, sections = read_powers(ptau, digest, system.domain_log2)
        powers = Transcript(system.domain_log2, origin, None, (), (), sections)
    if powers.subject is None:
        work.verify(powers, None)
    return phase2.prepare(powers, name, system, work.arithmetic, work.say)


@app.command("contribute")
def contribute(
    file: FileArgument,
    out: OutOption,
    name: Annotated[str, typer.Option(help="Who contributes; it stands in the transcript.")],
    circuit: CircuitOption = "",
    backend: BackendOption = Backend.AUTO,
) -> None:
    """Add a contribution: secrets from the system and from what you type, used once and forgotten.

    Example: openmg zk ceremony contribute transfer.0 --name "Hub of Jeju" --out transfer.1
    """
    with _refusals():
        from openmg.zk.ceremony.entries import require_name
        from openmg.zk.ceremony.files import read_transcript, require_new, write_new
        from openmg.zk.ceremony.randomness import Pool, forget_on_exit

        forget_on_exit()
        require_new(out)
        require_name(name)
        transcript = read_transcript(file)
        system = _system(transcript, circuit)
        typed = _typed()
        work = _Work(backend)
        work.verify(transcript, system)
        with Pool(typed) as pool:
            transcript = _contributed(work, transcript, name, pool)
        write_new(out, transcript.to_bytes())
    typer.echo(f"{out}: contribution of {name}\npublish this hash: 0x{transcript.tip.hex()}")


def _typed() -> str:
    """A line of the contributor's own; empty where nobody types."""
    if sys.stdin.isatty():
        return str(typer.prompt("Type something nobody can guess", default="", hide_input=True, show_default=False, err=True))
    return sys.stdin.readline()


def _contributed(work: _Work, transcript: Transcript, name: str, pool: Pool) -> Transcript:
    from openmg.zk.ceremony import phase1, phase2

    if transcript.subject is None:
        tau = phase1.TauSecrets(pool.scalar(), pool.scalar(), pool.scalar(), (pool.scalar(), pool.scalar(), pool.scalar()))
        return phase1.contribute(transcript, name, tau, work.arithmetic, work.say)
    delta = phase2.DeltaSecret(pool.scalar(), pool.scalar())
    return phase2.contribute(transcript, name, delta, work.arithmetic, work.say)


@app.command("verify")
def verify(
    file: FileArgument,
    circuit: CircuitOption = "",
    after: Annotated[Path | None, typer.Option(help="The file must continue this one.")] = None,
    contains: Annotated[str, typer.Option(help="Hash that a contributor published; it must be in the chain.")] = "",
    ptau: Annotated[Path | None, typer.Option(help="The powers must be those of this .ptau file.")] = None,
    key: Annotated[Path | None, typer.Option(help="This proving key must be the ceremony's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    backend: BackendOption = Backend.AUTO,
) -> None:
    """Check a ceremony's file against the circuit alone and print who contributed.

    Example: openmg zk ceremony verify transfer.ceremony --circuit transfer
    """
    with _refusals():
        from openmg.zk.ceremony.files import read_transcript
        from openmg.zk.ceremony.verification import require_hash, require_successor

        transcript = read_transcript(file)
        system = _system(transcript, circuit)
        work = _Work(backend)
        report = work.verify(transcript, system)
        if after is not None:
            require_successor(transcript, read_transcript(after))
        if contains:
            require_hash(report, _hex(contains, "--contains"))
        if ptau is not None:
            _require_ptau(transcript, ptau)
        if key is not None:
            _require_key(transcript, system, key)
    typer.echo(json.dumps(_as_json(transcript, report)) if as_json else _as_text(transcript, report))


def _require_ptau(transcript: Transcript, path: Path) -> None:
    from openmg.zk.ceremony.errors import CeremonyError
    from openmg.zk.ceremony.ptau import read_powers

    if transcript.origin.own:
        raise CeremonyError("phase 1 of this ceremony is our own and comes from no .ptau file; leave --ptau out")
    _, sections = read_powers(path, transcript.origin.digest, transcript.log2)
    if any(transcript.sections[name] != data for name, data in sections.items()):
        raise CeremonyError(f"the powers of this ceremony are not those of {path}; refuse this file")


def _require_key(transcript: Transcript, system: ConstraintSystem | None, path: Path) -> None:
    from openmg.zk.ceremony.errors import CeremonyError
    from openmg.zk.ceremony.verification import key_bytes

    try:
        found = path.read_bytes()
    except OSError as error:
        raise CeremonyError(f"{path} cannot be read ({error.strerror}); give the proving key") from error
    if system is None or found != key_bytes(transcript, system):
        raise CeremonyError(f"{path} is not the proving key of this ceremony; do not use it")


def _origin(transcript: Transcript) -> str:
    origin = transcript.origin
    return "our own" if origin.own else f".ptau file with {origin.algorithm} {origin.digest.hex()}"


def _as_json(transcript: Transcript, report: Report) -> dict[str, object]:
    key = report.verifying_key
    return {
        "valid": True,
        "phase": 1 if transcript.subject is None else 2,
        "final": report.final,
        "powers": _origin(transcript),
        "circuit_hash": None if transcript.subject is None else "0x" + transcript.subject.header.circuit_hash.hex(),
        "contributions": [
            {"phase": one.phase, "kind": one.kind, "name": one.name, "hash": "0x" + one.hash.hex()}
            for one in report.contributions
        ],
        "verifying_key_hash": None if key is None or not report.final else "0x" + key.digest().hex(),
    }


def _as_text(transcript: Transcript, report: Report) -> str:
    lines = [f"powers of tau: {_origin(transcript)}, 2^{transcript.log2} of them"]
    if transcript.subject is not None:
        lines.append(f"circuit: {transcript.subject.name}, hash 0x{transcript.subject.header.circuit_hash.hex()}")
    for one in report.contributions:
        lines.append(f"phase {one.phase}, {one.kind} of {one.name}: 0x{one.hash.hex()}")
    if report.final and report.verifying_key is not None:
        lines.append(f"valid and final; verifying-key hash: 0x{report.verifying_key.digest().hex()}")
    else:
        lines.append("valid, not final: its keys are not for use")
    return "\n".join(lines)


@app.command("finalise")
def finalise(
    file: FileArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for transcript, proving key and contract.")],
    beacon: Annotated[str, typer.Option(help="Public random value, in hex, that was not known before the contributions.")],
    hashes_log2: Annotated[int, typer.Option(help="The beacon is hashed 2^N times.")] = 20,
    name: Annotated[str, typer.Option(help="What the beacon is; it stands in the transcript.")] = "beacon",
    circuit: CircuitOption = "",
    backend: BackendOption = Backend.AUTO,
) -> None:
    """Apply the beacon, check everything, and write the keys.

    Example: openmg zk ceremony finalise transfer.3 --beacon 0x9f31... --name "Ethereum block 25000000" --out keys
    """
    value = _hex(beacon, "--beacon")
    with _refusals():
        from openmg.zk.ceremony import phase2
        from openmg.zk.ceremony.files import read_transcript
        from openmg.zk.ceremony.output import output_of, write_output

        transcript = read_transcript(file)
        output = output_of(out, transcript.circuit.name)
        system = _system(transcript, circuit)
        assert system is not None
        work = _Work(backend)
        transcript = phase2.apply_beacon(transcript, name, value, hashes_log2, work.arithmetic, work.say)
        work.verify(transcript, system)
        manifest = write_output(transcript, system, output)
    for path in output.all():
        typer.echo(path)
    typer.echo(f"proving-key SHA-256: {manifest['proving_key_sha256']}")
    typer.echo(f"verifying-key hash: {manifest['verifying_key_hash']}")
