"""Fresh Debian 12 roots and what is run in them: made by mmdebstrap, entered by chroot, foreign ones by qemu-user."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SUITE = "bookworm"
QEMU = "/usr/bin/qemu-aarch64-static"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
HANDLER = "openmg-test-aarch64"
AARCH64_ELF = (
    rf":{HANDLER}:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    rf":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:{QEMU}:F"
)
"""Name, magic, mask, interpreter, and F: opened now, so that it need not lie in the root (kernel: binfmt-misc)."""
MAX_SECONDS = 900
"""One command: installing Debian's Python under qemu takes minutes."""


class FreshRoot:
    """A root folder; `run` runs in it as root of that system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        """Starts a command with its words in pipes."""
        known = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **env}
        line = ["chroot", str(self.path), *command]
        return subprocess.Popen(line, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def try_run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, whatever that is."""
        process = self.start(*command, **env)
        try:
            out, err = process.communicate(timeout=MAX_SECONDS)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def run(self, *command: str, **env: str) -> str:
        """What the command prints; fails with its words when it does not end well."""
        result = self.try_run(*command, **env)
        assert result.returncode == 0, f"{' '.join(command)}: {result.stdout[-2000:]}{result.stderr[-2000:]}"
        return result.stdout

    def install(self, *packages: str) -> None:
        """By apt, as a user does it: packages by name, or files below / of the root."""
        self.run("apt-get", "install", "--yes", "--no-install-recommends", *packages)

    def bring(self, file: Path, folder: str = "/tmp") -> str:
        """Copies a file into the root and returns its path there."""
        target = self.path / folder.lstrip("/") / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        return f"{folder}/{file.name}"


def built(repo_root: Path, arch: str) -> Path:
    """The newest package in dist for the architecture."""
    found = sorted((repo_root / "dist").glob(f"openmg-agent_*_{arch}.deb"), key=lambda path: path.stat().st_mtime)
    if not found:
        pytest.skip(f"there is no package for {arch} in dist; make deb builds it")
    return found[-1]


def need_tools(*names: str) -> None:
    """Skips what this machine cannot do, and says what is missing."""
    if os.geteuid() != 0:
        pytest.skip("only root can enter a fresh root")
    for name in names:
        if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            pytest.skip(f"there is no {name} on this machine")


@contextlib.contextmanager
def running_foreign(arch: str) -> Iterator[None]:
    """Lets the kernel run programs of the architecture for as long as needed, where it cannot by itself."""
    if arch != "arm64" or os.uname().machine == "aarch64":
        yield
        return
    need_tools("qemu-aarch64-static", "arch-test")
    if subprocess.run(["arch-test", "arm64"], capture_output=True).returncode == 0:
        yield
        return
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "none", str(BINFMT)], capture_output=True)
    try:
        (BINFMT / "register").write_text(AARCH64_ELF, encoding="ascii")
    except OSError as error:
        pytest.skip(f"the kernel takes no interpreter for arm64 programs ({error.strerror})")
    try:
        yield
    finally:
        (BINFMT / HANDLER).write_text("-1", encoding="ascii")


def base_image(arch: str, cache: Path, include: str = "") -> Path:
    """A tar of the minimal system, made once: dist/roots/SUITE-ARCH[-include].tar."""
    need_tools("mmdebstrap")
    image = cache / f"{SUITE}-{arch}{'-' if include else ''}{include}.tar"
    if image.exists():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    part = image.with_suffix(".part.tar")
    options = [f"--include={include}"] if include else []
    command = ["mmdebstrap", "--variant=minbase", f"--architectures={arch}", *options, SUITE, str(part)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"mmdebstrap could not make a root for {arch}: {result.stderr.strip().splitlines()[-1]}")
    part.rename(image)
    return image


def unpack(image: Path, folder: Path) -> FreshRoot:
    """A new root, and what its package lists say today."""
    folder.mkdir(parents=True)
    subprocess.run(["tar", "--numeric-owner", "-xpf", str(image), "-C", str(folder), "--exclude=./dev/*"], check=True)
    for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
        os.mknod(folder / "dev" / name, 0o666 | 0o020000, os.makedev(1, minor))
        os.chmod(folder / "dev" / name, 0o666)
    root = FreshRoot(folder)
    if Path("/etc/resolv.conf").exists():
        shutil.copyfile("/etc/resolv.conf", folder / "etc/resolv.conf")
    root.run("apt-get", "update")
    return root
