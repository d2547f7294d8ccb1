"""What who tries to install the agent on a 32-bit Debian sees: apt, dpkg, pip and the program itself, of such a system.

i386 runs on amd64 as it is, armhf by qemu-user. Slow: `make test-deb`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pip
import pytest
from fresh_root import FreshRoot, built, need_tools, running_foreign

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PACKAGES = {"i386": "amd64", "armhf": "arm64"}
"""Which package its owner would try there."""
TOOLS = "apt,coreutils,dash,diffutils,dpkg,libc-bin,python3,tar"
PROGRAM = "/opt/openmg-agent"


@pytest.mark.parametrize("arch", list(PACKAGES))
def test_a_32_bit_debian_refuses_the_agent(
    arch: str, repo_root: Path, tmp_path: Path, fresh_root: Callable[..., FreshRoot]
) -> None:
    need_tools("dpkg-deb", "chroot")
    document = (repo_root / "docs/INSTALL_METER.md").read_text(encoding="utf-8")
    package = built(repo_root, PACKAGES[arch])
    with running_foreign(arch):
        root = fresh_root(arch, TOOLS)
        file = root.bring(package)
        assert root.run("dpkg", "--print-architecture") == f"{arch}\n" and "dpkg --print-architecture" in document
        _by_apt(root, file, arch)
        _by_dpkg(root, file, arch)
        assert not (root.path / PROGRAM.lstrip("/")).exists()
        _by_pip(root, repo_root, tmp_path)
        _by_hand(root, repo_root)


def _by_apt(root: FreshRoot, file: str, arch: str) -> None:
    """apt looks for Debian's packages of the other architecture and has none; its words are in the document's table."""
    result = root.try_run("apt-get", "install", "--yes", file)
    assert result.returncode == 100
    assert f"openmg-agent:{PACKAGES[arch]} : Depends: python3:{PACKAGES[arch]}" in result.stdout
    assert "but it is not installable" in result.stdout


def _by_dpkg(root: FreshRoot, file: str, arch: str) -> None:
    result = root.try_run("dpkg", "--install", file)
    assert result.returncode == 1
    assert f" package architecture ({PACKAGES[arch]}) does not match system ({arch})\n" in result.stderr
    forced = root.try_run("dpkg", "--force-architecture", "--force-depends", "--install", file)
    assert forced.returncode == 1
    said = [line for line in forced.stderr.splitlines() if "64-bit" in line]
    assert len(said) == 1 and f"needs a 64-bit system and this one is {arch}: install the 64-bit" in said[0]


def _by_pip(root: FreshRoot, repo_root: Path, folder: Path) -> None:
    """The Python there runs this machine's pip; on a kernel of 64 bits, as on many a Raspberry Pi."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(build, cwd=repo_root, check=True)
    (wheel,) = folder.glob("*.whl")
    shutil.copytree(Path(pip.__file__).parent, root.path / "srv/pip")
    install = ("python3", "-m", "pip", "install", "--no-index", "--no-deps", "--target", "/tmp/there", root.bring(wheel))
    result = root.try_run(*install, PYTHONPATH="/srv")
    assert result.returncode == 1
    assert result.stderr == f"ERROR: {wheel.name} is not a supported wheel on this platform.\n"


def _by_hand(root: FreshRoot, repo_root: Path) -> None:
    """The sources alone, copied there."""
    shutil.copytree(repo_root / "edge_agent", root.path / "srv/edge_agent")
    started = root.try_run("python3", "-m", "edge_agent", "run", PYTHONPATH="/srv")
    assert started.returncode == 2 and started.stdout == ""
    assert started.stderr.count("\n") == 1 and "32 bits" in started.stderr
