"""Coverage-guided runs with atheris (libFuzzer), where it is installed; a process for each target.

    python -m workbench.ppdl_fuzz.coverage TARGET CORPUS [libFuzzer options]

The process ends with libFuzzer's own exit code (77 for a finding, whose tape it writes). Nothing else needs atheris.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import random
import subprocess
import sys
from pathlib import Path

EXIT_FINDING = 77
"""Of libFuzzer: the target raised."""
MAX_LEN = 4096
INPUT_SECONDS = 20
"""A tape that takes longer is a finding: work must be bounded."""
GRACE_SECONDS = 60.0
"""Beside its time for loading, and for libFuzzer's last tape."""
LAST_CHARS = 2000
FIRST_TAPES = 32
"""Drawn at random, to begin with: libFuzzer alone begins with no bytes."""
_INSTRUMENTED = ["hub.ppdl", "openmg.codec", "openmg.messages"]


def available() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def run_target(name: str, seconds: float, seed: int, folder: Path) -> tuple[int, str]:
    """Run one target in a process of its own; its exit code, and its last line of figures, or the end of what it said."""
    from workbench.ppdl_fuzz.tape import TAPE_BYTES  # not above: what it imports is to be instrumented first

    corpus = folder / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    draw = random.Random(f"{name} {seed}")
    for number in range(FIRST_TAPES):
        (corpus / f"drawn-{number}").write_bytes(draw.randbytes(draw.choice(TAPE_BYTES)))
    options = [f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}", f"-max_len={MAX_LEN}", f"-timeout={INPUT_SECONDS}"]
    command = [sys.executable, "-m", "workbench.ppdl_fuzz.coverage", name, str(corpus), *options]
    command += [f"-artifact_prefix={folder / name}-", "-print_final_stats=1", "-len_control=0"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return EXIT_FINDING, f"{name} did not end in {seconds + GRACE_SECONDS:.0f} seconds"
    said = done.stderr.decode(errors="replace")
    if done.returncode == 0:
        figures = [line for line in said.splitlines() if line.startswith("#") and "cov:" in line]
        return 0, figures[-1].replace("\t", " ") if figures else said[-LAST_CHARS:]
    return done.returncode, said[-LAST_CHARS:]


def main() -> None:
    """Run one target until libFuzzer ends; never returns."""
    atheris = importlib.import_module("atheris")
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=_INSTRUMENTED):
        from workbench.ppdl_fuzz.tape import Tape
        from workbench.ppdl_fuzz.targets import targets_named
    (target,) = targets_named([sys.argv[1]]).values()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: target(Tape(data)) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
