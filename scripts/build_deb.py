"""Build the agent's Debian package: `make deb`, or `python scripts/build_deb.py --arch arm64`.

What is in it: /opt/openmg-agent, a virtual environment that is only a link to Debian's python3 and a folder of packages
(the extra `agent` of pyproject.toml in the versions of scripts/constraints.txt, this checkout's `openmg` and `edge_agent`,
and the native prover), the launcher, the systemd units, and deploy/debian's scripts.

Rules: wheels only, so nothing of the target runs while it is packed and arm64 is made on amd64; the package is for the
Python minor version that runs this file, because wheels are. Nothing but SOURCE_DATE_EPOCH (default: the last commit)
dates a file, and equal inputs give equal bytes. Where the prover cannot be cross-built the package goes without it and
says so: the portable one does the same work, slower. With --require-native that is a failure.
Not here: tests of the package (tests/packaging), the units (deploy/systemd).
"""

from __future__ import annotations

import argparse
import email.parser
import email.utils
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.openmg_setup.console import Console

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
UNITS = ("openmg-agent.service", "openmg-agent-page.service")
DEFAULT_MAINTAINER = "Enhanced Open MG maintainers <maintainers@openmg.example>"
"""No public address: whoever publishes the package sets DEBFULLNAME and DEBEMAIL."""
VERSION = re.compile(r"[0-9][A-Za-z0-9.+~]*(-[A-Za-z0-9.+~]+)?")
"""Upstream version and revision (Debian Policy 5.6.12), without epoch."""
GLIBC_MINORS = range(36, 16, -1)
"""Wheels up to glibc 2.36, which Debian 12 has."""
FOREIGN = ("hub", "workbench", "firmware_sim", "contracts", "bin")
"""Of our own wheel and of pip's --target: nothing that a meter runs."""
NOT_SHIPPED = ("pip",)
"""sqlite-utils names it for a command of its own that is not used here."""
CONFFILES = ("/etc/openmg-agent/agent.toml.example",)
RUST_SEPARATOR = "\x1f"
"""Between the words of CARGO_ENCODED_RUSTFLAGS (the Cargo Book, environment variables)."""
UNUSED = ("numpy/**/tests", "numpy/distutils", "Crypto/SelfTest", "**/__pycache__")
"""Folders that only makers of those libraries run, and compiled modules, which postinst makes for the Python that is there."""
INSTALL_RECORDS = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""Files of a dist-info that speak of the machine that packed it, or list files that are left out."""


@dataclass(frozen=True)
class Arch:
    """A Debian architecture: the machine in wheel tags and markers, Rust's target, and the linker for it."""

    debian: str
    machine: str
    target: str
    linker: str


ARCHES = {
    "amd64": Arch("amd64", "x86_64", "x86_64-unknown-linux-gnu", "x86_64-linux-gnu-gcc"),
    "arm64": Arch("arm64", "aarch64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc"),
}


class BuildError(Exception):
    """The package cannot be built; the text says why and what to do."""


@dataclass(frozen=True)
class Build:
    """One package: what it is built from, where, and its version."""

    arch: Arch
    version: str
    work: Path
    output: Path
    epoch: int
    log: Path

    @property
    def tree(self) -> Path:
        return self.work / "tree"

    @property
    def site_packages(self) -> Path:
        return self.tree / "opt/openmg-agent/lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"

    def run(self, command: list[str], what: str, **env: str) -> str:
        """Runs a tool with its words in the log; BuildError, with the last of them, when it fails."""
        known = {**os.environ, "SOURCE_DATE_EPOCH": str(self.epoch), "PIP_NO_INPUT": "1", **env}
        result = subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n{result.stdout}{result.stderr}\n")
        if result.returncode:
            last = (result.stderr.strip() or result.stdout.strip() or "it said nothing").splitlines()[-1]
            raise BuildError(f"{what} failed ({last}); the rest is in {self.log}")
        return result.stdout


# Wheels


def requirements(arch: Arch) -> list[str]:
    """What an agent installs on the target, markers resolved for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    there = {"platform_machine": arch.machine, "sys_platform": "linux"}
    wanted = map(Requirement, (*project["dependencies"], *project["optional-dependencies"]["agent"]))
    return [f"{item.name}{item.specifier}" for item in wanted if item.marker is None or item.marker.evaluate(there)]


def platform_options(arch: Arch) -> list[str]:
    """pip's words for wheels of the target, the newest glibc first."""
    tags = [f"manylinux_2_{minor}_{arch.machine}" for minor in GLIBC_MINORS]
    tags += [f"manylinux2014_{arch.machine}", f"linux_{arch.machine}"]
    python = f"{sys.version_info[0]}{sys.version_info[1]}"
    options = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    options += ["--abi", f"cp{python}", "--abi", "abi3", "--abi", "none"]
    return options + [word for tag in tags for word in ("--platform", tag)]


def fetch_wheels(build: Build) -> None:
    """The target's wheels into the work folder, by the machine's own pip settings."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", *platform_options(build.arch)]
    command += ["-c", "scripts/constraints.txt", "-d", str(build.work / "wheels"), *requirements(build.arch)]
    build.run(command, "fetching the wheels")


def build_own_wheel(build: Build) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(build.work / "own"),
        ".",
    ]
    build.run(command, "building the wheel of this checkout")


def why_no_native(arch: Arch) -> str | None:
    """Why the prover cannot be built for the target here, or None."""
    if shutil.which("cargo") is None:
        return "there is no cargo on this machine"
    if shutil.which(arch.linker) is None:
        return f"there is no linker {arch.linker} (Debian: sudo apt install gcc-{arch.machine.replace('_', '-')}-linux-gnu)"
    root = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True).stdout.strip()
    if not (Path(root) / "lib/rustlib" / arch.target).is_dir():
        return f"Rust has no standard library for {arch.target} (rustup target add {arch.target})"
    return None


def rust_flags(output: Path) -> str:
    """Words that leave no path of this machine in the library; of several that fit a path rustc takes the last."""
    cargo_home = os.environ.get("CARGO_HOME", str(Path.home() / ".cargo"))
    names = ((cargo_home, "cargo"), (ROOT, "openmg"), (output / "native-target", "target"))
    return RUST_SEPARATOR.join(f"--remap-path-prefix={path}=/{name}" for path, name in names)


def build_native(build: Build) -> None:
    """The prover's wheel, cross-built where the target is another machine; it runs on every CPU of its kind."""
    target = build.arch.target
    env = {
        "CARGO_TARGET_DIR": str(build.output / "native-target"),
        f"CARGO_TARGET_{target.upper().replace('-', '_')}_LINKER": build.arch.linker,
        "CARGO_ENCODED_RUSTFLAGS": rust_flags(build.output),
    }
    command = [str(Path(sys.executable).parent / "maturin"), "build", "--release", "--target", target]
    command += ["--auditwheel", "skip", "--compatibility", "linux", "-i", f"python{sys.version_info[0]}.{sys.version_info[1]}"]
    command += ["-m", "native/Cargo.toml", "-o", str(build.work / "native")]
    build.run(command, "building the native prover", **env)


# Tree


def lay_packages(build: Build) -> None:
    """The site-packages folder: what the wheels hold, less what a meter never runs."""
    wheels = [path for folder in ("wheels", "own", "native") for path in sorted((build.work / folder).glob("*.whl"))]
    shipped = [str(path) for path in wheels if path.name.split("-")[0] not in NOT_SHIPPED]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    build.run([*command, *platform_options(build.arch), "--target", str(build.site_packages), *shipped], "unpacking the wheels")
    for name in FOREIGN:
        shutil.rmtree(build.site_packages / name, ignore_errors=True)
    for info in build.site_packages.glob("*.dist-info"):
        for name in INSTALL_RECORDS:
            (info / name).unlink(missing_ok=True)
    for pattern in UNUSED:
        for folder in list(build.site_packages.glob(pattern)):
            shutil.rmtree(folder)


def lay_environment(build: Build) -> None:
    """A virtual environment without copies: Debian's python3 finds its packages by pyvenv.cfg beside the link."""
    home = build.tree / "opt/openmg-agent"
    (home / "bin").mkdir(parents=True)
    (home / "bin/python3").symlink_to("/usr/bin/python3")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n", encoding="ascii")


def lay_files(build: Build) -> None:
    """Launcher, units, example, manual page and what Debian wants to know of a package."""
    doc = build.tree / "usr/share/doc/openmg-agent"
    _copy(DEPLOY / "debian/openmg-agent", build.tree / "usr/bin/openmg-agent", 0o755)
    for unit in UNITS:
        _copy(DEPLOY / "systemd" / unit, build.tree / "lib/systemd/system" / unit)
    _copy(DEPLOY / "examples/agent.toml", build.tree / "etc/openmg-agent/agent.toml.example")
    _copy(DEPLOY / "debian/lintian-overrides", build.tree / "usr/share/lintian/overrides/openmg-agent")
    for drop_in in ("gateway.conf", "gateway-page.conf"):
        _copy(DEPLOY / "systemd" / drop_in, doc / "examples" / drop_in)
    _copy(ROOT / "docs/INSTALL_METER.md", doc / "INSTALL_METER.md")
    (doc / "copyright").write_text(copyright_text(build.site_packages), encoding="utf-8")
    changes = (
        f"openmg-agent ({build.version}) stable; urgency=medium\n\n  * The state of the project's sources at this version.\n\n"
    )
    changes += f" -- {maintainer()}  {email.utils.formatdate(build.epoch)}\n"
    _compress(changes.encode(), doc / "changelog.gz")
    _compress((DEPLOY / "debian/openmg-agent.1").read_bytes(), build.tree / "usr/share/man/man1/openmg-agent.1.gz")


def copyright_text(site_packages: Path) -> str:
    """Whose the packages are and under which licence, as their own metadata say."""
    lines = [
        "Enhanced Open MG is copyright of its contributors; the licence of the sources it was built from applies.",
        "",
        "It holds Python packages of others, each with the text of its licence in its .dist-info folder:",
        "",
    ]
    for metadata in sorted(site_packages.glob("*.dist-info/METADATA"), key=lambda path: path.parent.name.lower()):
        fields = email.parser.HeaderParser().parsestr(metadata.read_text(encoding="utf-8", errors="replace"))
        kinds = [word.split(" :: ")[-1] for word in fields.get_all("Classifier", []) if word.startswith("License ::")]
        said = (
            fields.get("License-Expression") or ", ".join(kinds) or (fields.get("License") or "see its folder").splitlines()[0]
        )
        lines.append(f" {fields['Name']} {fields['Version']}: {said}")
    return "\n".join(lines) + "\n"


def lay_control(build: Build) -> None:
    """The DEBIAN folder. Scripts are executable, everything else is for everybody to read."""
    folder = build.tree / "DEBIAN"
    folder.mkdir()
    files = sorted(
        path for path in build.tree.rglob("*") if path.is_file() and not path.is_symlink() and folder not in path.parents
    )
    kib = sum(-(-path.stat().st_size // 1024) for path in files)
    major, minor = sys.version_info[:2]
    fields = {
        "version": build.version,
        "architecture": build.arch.debian,
        "maintainer": maintainer(),
        "installed_kib": str(kib),
        "python": f"{major}.{minor}",
        "next_python": f"{major}.{minor + 1}",
    }
    template = (DEPLOY / "debian/control.in").read_text(encoding="utf-8")
    (folder / "control").write_text(template.format(**fields), encoding="utf-8")
    (folder / "conffiles").write_text("".join(f"{path}\n" for path in CONFFILES), encoding="ascii")
    sums = "".join(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(build.tree)}\n" for path in files)
    (folder / "md5sums").write_text(sums, encoding="utf-8")
    for name in ("preinst", "postinst", "prerm", "postrm"):
        _copy(DEPLOY / "debian" / name, folder / name, 0o755)


def normalise(build: Build) -> None:
    """Modes and times that do not depend on who packed it and when."""
    keep_executable = {build.tree / "usr/bin/openmg-agent", *(build.tree / "DEBIAN").glob("p*")}
    for path in sorted(build.tree.rglob("*"), reverse=True):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path in keep_executable else 0o644)
        os.utime(path, (build.epoch, build.epoch), follow_symlinks=False)
    build.tree.chmod(0o755)
    os.utime(build.tree, (build.epoch, build.epoch))


def lay_tree(build: Build) -> None:
    """Everything that is packed."""
    for lay in (lay_environment, lay_packages, lay_files, lay_control, normalise):
        lay(build)


def pack(build: Build) -> Path:
    """The package; one compressor thread, because more cut the data into other blocks."""
    target = build.output / f"openmg-agent_{build.version}_{build.arch.debian}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z6", "--threads-max=1", "--build", str(build.tree), str(target)]
    build.run(command, "dpkg-deb")
    return target


def maintainer() -> str:
    """$DEBFULLNAME and $DEBEMAIL, as Debian's own tools take them."""
    name, address = os.environ.get("DEBFULLNAME"), os.environ.get("DEBEMAIL")
    return f"{name} <{address}>" if name and address else DEFAULT_MAINTAINER


def source_date() -> int:
    """SOURCE_DATE_EPOCH, else the time of the last commit, else that of pyproject.toml."""
    named = os.environ.get("SOURCE_DATE_EPOCH", "")
    if named.isdecimal():
        return int(named)
    said = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return int(said) if said.isdecimal() else int((ROOT / "pyproject.toml").stat().st_mtime)


def project_version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def make(arch: Arch, version: str, output: Path, require_native: bool, console: Console) -> dict[str, object]:
    """Builds one package and tells about it: path, bytes, sha256, whether the native prover is in it, seconds are shown."""
    work = output / f"deb-{arch.debian}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    build = Build(arch, version, work, output, source_date(), work / "build.log")
    reason = why_no_native(arch)
    if reason is not None and require_native:
        raise BuildError(f"the native prover cannot be built for {arch.debian}: {reason}")
    steps: list[tuple[str, Callable[[Build], None]]] = [("wheels", fetch_wheels), ("this checkout", build_own_wheel)]
    if reason is None:
        steps.append(("native prover", build_native))
    steps.append(("files", lay_tree))
    for number, (title, step) in enumerate(steps, 1):
        with console.step(number, len(steps) + 1, f"{arch.debian}: {title}"):
            step(build)
    with console.step(len(steps) + 1, len(steps) + 1, f"{arch.debian}: package"):
        package = pack(build)
    if reason is not None:
        console.line(f"{arch.debian}: without the native prover: {reason}; the portable prover is used.")
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    return {"package": str(package), "bytes": package.stat().st_size, "sha256": digest, "native": reason is None}


def _copy(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _compress(content: bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(target, "wb", compresslevel=9, mtime=0) as file:
        file.write(content)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Build the agent's Debian package for the Python that runs this file.",
        epilog="example: python scripts/build_deb.py --arch arm64 --json",
    )
    parser.add_argument("--arch", choices=(*ARCHES, "all"), default="all", help="default: all")
    parser.add_argument("--version", default=project_version(), help="default: the version in pyproject.toml")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder of the packages; default: dist")
    parser.add_argument("--require-native", action="store_true", help="fail where the native prover cannot be built")
    parser.add_argument("--json", action="store_true", help="print a list of package, bytes, sha256 and native")
    options = parser.parse_args()
    console = Console(sys.stderr)
    try:
        if not VERSION.fullmatch(options.version):
            raise BuildError(f"version is {options.version!r}; write one like 1.2.3 or 1.2.3-1")
        if shutil.which("dpkg-deb") is None:
            raise BuildError("there is no dpkg-deb on this machine (Debian: sudo apt install dpkg)")
        output = options.output.resolve()
        chosen = ARCHES.values() if options.arch == "all" else (ARCHES[options.arch],)
        made = [make(arch, options.version, output, options.require_native, console) for arch in chosen]
    except BuildError as error:
        print(f"build_deb: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(made))
    for item in () if options.json else made:
        print(f"{item['package']}: {item['bytes']} bytes, sha256 {item['sha256']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
