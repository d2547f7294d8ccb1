"""The versions that the native prover is built from are those of native/Cargo.toml, today and later.

There is no lock file, so a crate that Cargo.toml does not name would be whatever is newest on the day of the build.
"""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from scripts.build_deb import ARCHES, Arch

OURS = "openmg-native"


def named(manifest: Path) -> set[tuple[str, str]]:
    """Crate and version of every dependency, each of which is exact."""
    cargo = tomllib.loads(manifest.read_text(encoding="utf-8"))
    chosen = set()
    for key, value in (cargo["dependencies"] | cargo["target"]["cfg(any())"]["dependencies"]).items():
        entry = {"version": value} if isinstance(value, str) else value
        assert entry["version"].startswith("="), f"{key} may be another version tomorrow"
        chosen.add((entry.get("package", key), entry["version"].removeprefix("=")))
    return chosen


def built_from(manifest: Path, target: str) -> set[tuple[str, str]]:
    """Crate and version of everything that cargo compiles for the target."""
    command = ["cargo", "tree", "--offline", "--manifest-path", str(manifest), "--features", "python"]
    command += ["--edges", "normal,build", "--prefix", "none", "--format", "{p}", "--target", target]
    told = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    if "--offline" in told.stderr:
        pytest.skip("cargo has not fetched the prover's crates yet; make setup does")
    assert told.returncode == 0, told.stderr
    words = [line.split() for line in told.stdout.splitlines() if line]
    return {(name, version.removeprefix("v")) for name, version, *_ in words} - {(OURS, "0.1.0")}


@pytest.mark.parametrize("arch", ARCHES.values(), ids=list(ARCHES))
def test_nothing_is_built_whose_version_is_not_named_and_nothing_else_is_named(
    arch: Arch, repo_root: Path, tmp_path: Path
) -> None:
    if shutil.which("cargo") is None:
        pytest.skip("there is no cargo on this machine")
    # Away from native/, where a lock file of an earlier build would answer.
    manifest = Path(shutil.copy(repo_root / "native/Cargo.toml", tmp_path))
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").write_text("", encoding="ascii")
    assert built_from(manifest, arch.target) == named(manifest)
