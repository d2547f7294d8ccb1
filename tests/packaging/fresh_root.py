"""Fresh Debian 12 roots and what is run in them: made by mmdebstrap, entered by chroot, foreign ones by qemu-user."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SUITE = "bookworm"
BINFMT = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True)
class Emulated:
    """An architecture that qemu-user runs: its name there, and what tells its programs (ELF class and machine)."""

    qemu: str
    elf_class: int
    elf_machine: int

    @property
    def handler(self) -> str:
        return f"openmg-test-{self.qemu}"

    @property
    def interpreter(self) -> str:
        return f"qemu-{self.qemu}-static"

    def rule(self, interpreter: str) -> str:
        """Name, magic, mask, interpreter, and F: opened now, so that it need not lie in the root (kernel: binfmt-misc)."""
        magic = (*b"\x7fELF", self.elf_class, 1, 1, *[0] * 9, 2, 0, self.elf_machine, 0)
        mask = (*[0xFF] * 7, 0, *[0xFF] * 8, 0xFE, 0xFF, 0xFF, 0xFF)  # any ABI; programs with a fixed place or without
        escaped = ("".join(f"\\x{byte:02x}" for byte in part) for part in (magic, mask))
        return f":{self.handler}:M::{':'.join(escaped)}:{interpreter}:F"


EMULATED = {"arm64": Emulated("aarch64", 2, 0xB7), "armhf": Emulated("arm", 1, 0x28)}
"""What neither this machine's CPU nor, as i386 on amd64, its kernel runs."""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
"""Of every command in a root; this machine's own is not known there."""
LISTS_HOLD_SECONDS = 12 * 3600
"""For so long what apt knew when the image was made still is what the mirrors have."""
MAX_SECONDS = 1800
"""One command: installing the package under qemu takes minutes, on a busy machine many."""


class FreshRoot:
    """A root folder; `run` runs in it as root of that system."""

    def __init__(self, path: Path, lists_are_old: bool) -> None:
        self.path = path
        self._lists_are_old = lists_are_old

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        """Starts a command with its words in pipes."""
        line = ["chroot", str(self.path), *command]
        return subprocess.Popen(line, env={**ENVIRONMENT, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

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
        if self._lists_are_old:
            self.run("apt-get", "update")
            self._lists_are_old = False
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
    if arch not in EMULATED or (arch == "arm64" and os.uname().machine == "aarch64"):
        yield
        return
    emulated = EMULATED[arch]
    need_tools(emulated.interpreter, "arch-test")
    if subprocess.run(["arch-test", arch], capture_output=True).returncode == 0:
        yield
        return
    with contextlib.ExitStack() as undo:
        if not (BINFMT / "register").exists():
            undo.enter_context(mounted("binfmt_misc", BINFMT, "-t", "binfmt_misc"))
        try:
            (BINFMT / "register").write_text(emulated.rule(str(shutil.which(emulated.interpreter))), encoding="ascii")
        except OSError as error:
            pytest.skip(f"the kernel takes no interpreter for {arch} programs ({error.strerror})")
        undo.callback((BINFMT / emulated.handler).write_text, "-1", encoding="ascii")
        yield


@contextlib.contextmanager
def mounted(source: str, folder: Path, *options: str) -> Iterator[None]:
    """A mount for as long as needed; skips where this machine forbids it."""
    result = subprocess.run(["mount", *options, source, str(folder)], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"{folder} cannot be mounted here ({result.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def base_image(arch: str, cache: Path, only: str = "") -> Path:
    """A tar of the minimal system with apt's lists, made once: dist/roots/SUITE-ARCH.tar.

    With `only`, those packages and what they need, unpacked and not configured, of the release without its updates:
    enough to ask what is refused, made without running a program of the architecture.
    """
    need_tools("mmdebstrap")
    image = cache / f"{SUITE}-{arch}{'-only' if only else ''}.tar"
    if image.exists():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    part = image.with_suffix(".part.tar")
    options = ["--variant=minbase"]
    if only:
        options = ["--variant=extract", f"--include={only}", '--setup-hook=sed -i /security/d "$1/etc/apt/sources.list"']
    command = ["mmdebstrap", *options, f"--architectures={arch}", "--skip=cleanup/apt/lists", SUITE, str(part)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode:
        why = next((line for line in result.stderr.splitlines() if line.startswith("E: ")), "it does not say why")
        pytest.skip(f"mmdebstrap could not make a root for {arch}: {why.removeprefix('E: ')}")
    part.rename(image)
    return image


def unpack(image: Path, folder: Path) -> FreshRoot:
    """A new root."""
    (folder / "dev").mkdir(parents=True)
    subprocess.run(["tar", "--numeric-owner", "-xpf", str(image), "-C", str(folder), "--exclude=./dev/*"], check=True)
    for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
        os.mknod(folder / "dev" / name, 0o666 | 0o020000, os.makedev(1, minor))
        os.chmod(folder / "dev" / name, 0o666)
    # A root that is thrown away need not outlive a power cut, and under qemu each sync is waited for.
    (folder / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n", encoding="ascii")
    if Path("/etc/resolv.conf").exists():
        shutil.copyfile("/etc/resolv.conf", folder / "etc/resolv.conf")
    return FreshRoot(folder, time.time() - image.stat().st_mtime > LISTS_HOLD_SECONDS)
