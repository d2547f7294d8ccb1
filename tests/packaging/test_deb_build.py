"""What goes into the package, decided without building it; and, slow, that equal inputs give equal bytes."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.build_deb import ARCHES, NOT_SHIPPED, VERSION, platform_options, requirements


@pytest.mark.parametrize("arch", ARCHES.values(), ids=list(ARCHES))
def test_every_requirement_is_pinned_and_one_engine_is_chosen(repo_root: Path, arch: object) -> None:
    named = {re.split(r"[<>=!~]", item)[0].lower() for item in requirements(arch)}  # type: ignore[arg-type]
    constraints = (repo_root / "scripts/constraints.txt").read_text(encoding="utf-8")
    pinned = {line.split("==")[0].lower() for line in constraints.splitlines() if "==" in line}
    assert named <= pinned and not named & set(NOT_SHIPPED)
    assert {"pymodbus", "paho-mqtt", "numpy", "cbor2"} <= named
    assert len(named & {"tflite-runtime", "ai-edge-litert"}) == 1


def test_wheels_are_those_of_the_target_and_of_debian_12() -> None:
    options = platform_options(ARCHES["arm64"])
    platforms = [value for option, value in zip(options, options[1:], strict=False) if option == "--platform"]
    assert all(tag.endswith("aarch64") for tag in platforms)
    newest = max(int(tag.split("_")[2]) for tag in platforms if tag.startswith("manylinux_"))
    assert newest == 36  # glibc of Debian 12


def test_versions_are_debians() -> None:
    for good in ("0.1.0", "1.2.3~rc1", "1.0-2", "0.1.0+git5"):
        assert VERSION.fullmatch(good)
    for bad in ("", "v1", "1:2", "1.0 beta", "1.0-", "1/2"):
        assert not VERSION.fullmatch(bad)


def test_a_bad_version_is_refused_in_one_sentence(repo_root: Path) -> None:
    command = [sys.executable, "scripts/build_deb.py", "--version", "v1"]
    result = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == "build_deb: version is 'v1'; write one like 1.2.3 or 1.2.3-1\n"


@pytest.mark.parametrize("script", ["preinst", "postinst", "prerm", "postrm", "openmg-agent"])
def test_the_scripts_are_plain_shell(repo_root: Path, script: str) -> None:
    path = repo_root / "deploy/debian" / script
    assert path.read_text(encoding="utf-8").startswith("#!/bin/sh\n") and "\nset -e\n" in path.read_text(encoding="utf-8")
    subprocess.run(["sh", "-n", str(path)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_builds_are_the_same_bytes(repo_root: Path, tmp_path: Path) -> None:
    sums = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "TZ": "Asia/Seoul" if sums else "UTC"}
        command = [sys.executable, "scripts/build_deb.py", "--arch", "amd64", "--output", str(folder)]
        subprocess.run(command, cwd=repo_root, env=env, check=True, capture_output=True)
        (package,) = folder.glob("*.deb")
        sums.append(hashlib.sha256(package.read_bytes()).hexdigest())
    assert sums[0] == sums[1]
