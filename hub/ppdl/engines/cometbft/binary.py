"""Where the CometBFT program comes from: a path given, the cache folder, or a build with the Go toolchain.

The version is pinned: 0.40 is the first line with secp256k1eth keys, so that a hub signs both kinds of chain with one
key and an address is the same in both. `go install` checks every module against Go's checksum database.

    python scripts/build_cometbft.py           builds it into the cache folder, some two minutes on two cores
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from openmg.zk.keys import default_cache_dir

VERSION = "v0.40.0"
PACKAGE = "github.com/cometbft/cometbft/cmd/cometbft"
ENVIRONMENT = "OPENMG_COMETBFT"
BUILD_TIMEOUT_S = 900.0
PROGRESS_S = 5.0
TAIL_CHARS = 400


class BinaryError(RuntimeError):
    """There is no CometBFT to run; the message is one sentence for the operator."""


def cached_path() -> Path:
    """Where a build of the pinned version lies."""
    return default_cache_dir() / "cometbft" / f"cometbft-{VERSION}"


def find_binary() -> Path:
    """The program of $OPENMG_COMETBFT, else of the cache folder. Raises BinaryError."""
    given = os.environ.get(ENVIRONMENT)
    path = Path(given) if given else cached_path()
    if os.access(path, os.X_OK) and path.is_file():
        return path
    where = f"{ENVIRONMENT} names" if given else "the cache folder has no"
    raise BinaryError(f"{where} {path}, which cannot be run: run scripts/build_cometbft.py or set {ENVIRONMENT}")


def build(progress: Callable[[str], None], timeout_s: float = BUILD_TIMEOUT_S) -> Path:
    """Build the pinned version into the cache folder unless it is there; return its path. Raises BinaryError."""
    target = cached_path()
    if os.access(target, os.X_OK):
        return target
    go = shutil.which("go")
    if go is None:
        raise BinaryError(f"CometBFT {VERSION} cannot be built: install the Go toolchain or set {ENVIRONMENT}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _run([go, "install", f"{PACKAGE}@{VERSION}"], Path(folder), progress, timeout_s)
        (Path(folder) / "cometbft").replace(target)
    return target


def _run(command: list[str], folder: Path, progress: Callable[[str], None], timeout_s: float) -> None:
    """Run the build with its output in a file; one line of progress at once, as a warm cache builds within a few seconds."""
    environment = os.environ | {"GOBIN": str(folder)}
    said = folder / "output"
    start = time.monotonic()
    progress(f"building CometBFT {VERSION} with Go")
    with said.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        while True:
            try:
                code = process.wait(PROGRESS_S)
                break
            except subprocess.TimeoutExpired:
                seconds = time.monotonic() - start
                progress(f"building CometBFT {VERSION} with Go: {seconds:.0f} s")
                if seconds > timeout_s:
                    process.kill()
                    raise BinaryError(f"CometBFT {VERSION} was not built in {timeout_s:.0f} s: try again") from None
    if code:
        tail = said.read_text(errors="replace").strip()[-TAIL_CHARS:]
        raise BinaryError(f"CometBFT {VERSION} cannot be built ({tail}): check that Go reaches its modules")
