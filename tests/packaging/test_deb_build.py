"""What goes into the package, decided without building it; and, slow, that equal inputs give equal bytes.

The native prover is compiled anew for the second build, because a compiler is what differs most easily.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fresh_root import built

from scripts.build_deb import (
    ARCHES,
    NOT_SHIPPED,
    ROOT,
    VERSION,
    Arch,
    platform_options,
    requirements,
    rust_flags,
    source_date,
    why_no_native,
)


@pytest.mark.parametrize("arch", ARCHES.values(), ids=list(ARCHES))
def test_every_requirement_is_pinned_and_one_engine_is_chosen(repo_root: Path, arch: object) -> None:
    named = {re.split(r"[<>=!~]", item)[0].lower() for item in requirements(arch)}  # type: ignore[arg-type]
    constraints = (repo_root / "scripts/constraints.txt").read_text(encoding="utf-8")
    pinned = {line.split("==")[0].lower() for line in constraints.splitlines() if "==" in line}
    assert named <= pinned and not named & set(NOT_SHIPPED)
    assert {"pyserial", "paho-mqtt", "numpy", "cbor2"} <= named
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


def test_a_folder_with_a_space_is_one_word_to_the_compiler() -> None:
    """rustc takes the last of several that fit, and the output folder may lie in the checkout."""
    words = rust_flags(ROOT / "메터 deb").split("\x1f")
    assert all(word.startswith("--remap-path-prefix=/") for word in words)
    assert words[-1] == f"--remap-path-prefix={ROOT}/메터 deb/native-target=/target"
    assert words.index(f"--remap-path-prefix={ROOT}=/openmg") < len(words) - 1


@pytest.mark.parametrize("arch", ["amd64", "arm64", "armhf", "armel", "i386"])
def test_the_package_refuses_a_32_bit_system_in_one_sentence(arch: str, repo_root: Path, tmp_path: Path) -> None:
    """`dpkg` names the system that the script is to find; test_deb_roots.py has a real one."""
    says = tmp_path / "dpkg"
    says.write_text(f"#!/bin/sh\necho {arch}\n", encoding="ascii")
    says.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run(["sh", "deploy/debian/preinst", "install"], cwd=repo_root, env=env, capture_output=True, text=True)
    if arch in ARCHES:
        assert (result.returncode, result.stderr) == (0, "")
    else:
        assert result.returncode == 1 and result.stderr.count("\n") == 1
        assert f"needs a 64-bit system and this one is {arch}: install the 64-bit" in result.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pip_refuses_the_wheel_on_a_32_bit_system_before_it_compiles_anything(repo_root: Path, tmp_path: Path) -> None:
    """pip itself decides, by the tags of a machine that is named to it."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."]
    subprocess.run(command, cwd=repo_root, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    command = [*pip, "install", "--no-index", "--no-deps", "--dry-run", "--target", str(tmp_path / "there"), str(wheel)]
    for machine in ("x86_64", "aarch64", "armv7l", "i686"):
        there = platform_options(Arch("", machine, "", ""))
        result = subprocess.run([*command, *there], cwd=tmp_path, capture_output=True, text=True)
        if machine in {arch.machine for arch in ARCHES.values()}:
            assert result.returncode == 0, result.stderr
        else:
            assert result.returncode == 1
            assert result.stderr == f"ERROR: {wheel.name} is not a supported wheel on this platform.\n"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("arch", list(ARCHES))
def test_a_second_build_has_the_same_bytes_and_names_no_folder_of_this_machine(
    arch: str, repo_root: Path, tmp_path: Path
) -> None:
    """The first is what `make deb` left in dist; another folder, zone, locale and umask are not what is built from."""
    first = built(repo_root, arch)
    if first.stat().st_mtime < _last_change(repo_root):
        pytest.skip(f"{first.name} in dist is older than the checkout; make deb builds it")
    native = ["--require-native"] if why_no_native(ARCHES[arch]) is None else []
    output = tmp_path / "둘째 것"
    env = {**os.environ, "TZ": "Asia/Seoul", "LC_ALL": "C"}
    command = [sys.executable, "scripts/build_deb.py", "--arch", arch, "--output", str(output), *native]
    made = subprocess.run(command, cwd=repo_root, env=env, umask=0o077, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    (second,) = output.glob("*.deb")
    sums = [hashlib.sha256(package.read_bytes()).hexdigest() for package in (first, second)]
    assert sums[0] == sums[1]
    subprocess.run(["dpkg-deb", "--raw-extract", str(second), str(tmp_path / "tree")], check=True)
    for file in (tmp_path / "tree").rglob("*"):
        if file.is_file() and not file.is_symlink():
            # Libraries of others may have been made by a root of theirs; of ours only the prover is compiled by cargo.
            ours = (tmp_path, repo_root, *((Path.home() / ".cargo",) if file.parent.name == "openmg_native" else ()))
            assert not any(str(folder).encode() in file.read_bytes() for folder in ours), file


def _last_change(repo_root: Path) -> float:
    """When a file of the checkout changed last, or a commit gave it another date."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repo_root, capture_output=True, text=True, check=True).stdout
    files = [repo_root / name for name in listed.split("\0") if name]
    return max([source_date(), *(file.stat().st_mtime for file in files if file.exists())])
