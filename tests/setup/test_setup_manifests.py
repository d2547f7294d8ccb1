"""The manifests: what each extra holds on which machine, no download addresses, a front door old Pythons can open."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from openmg_setup import contracts
from packaging.requirements import Requirement
from setup_support import ROOT, write_tool

MANIFESTS = (
    "pyproject.toml",
    "scripts/constraints.txt",
    "contracts/package.json",
    "contracts/.npmrc",
    "native/Cargo.toml",
    "native/pyproject.toml",
)
MACHINES = [
    (python, system, machine)
    for python in ("3.11", "3.12", "3.13")
    for system, machine in (
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        ("linux", "armv7l"),
        ("darwin", "arm64"),
    )
]


def needs(extra: str, python: str, system: str, machine: str) -> dict[str, Requirement]:
    """The direct requirements of openmg[extra] on such a machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    marks = {"python_version": python, "sys_platform": system, "platform_machine": machine}
    listed = [*project["dependencies"], *project["optional-dependencies"].get(extra, [])]
    found = [Requirement(text) for text in listed]
    return {r.name: r for r in found if r.marker is None or r.marker.evaluate({"extra": "", **marks})}


@pytest.mark.parametrize(("python", "system", "machine"), MACHINES)
def test_an_agent_gets_one_training_engine_with_a_numpy_that_fits(python: str, system: str, machine: str) -> None:
    agent = needs("agent", python, system, machine)
    engines = {"tflite-runtime", "ai-edge-litert"} & set(agent)
    if machine == "armv7l" and python != "3.11":
        assert engines == set(), "neither has a wheel: the numpy trainer is used"
    else:
        assert len(engines) == 1
    assert agent["numpy"].specifier.contains("1.26.4")
    assert agent["numpy"].specifier.contains("2.5.0") == ("tflite-runtime" not in engines)


@pytest.mark.parametrize(("python", "system", "machine"), MACHINES)
def test_a_hub_gets_numpy_but_no_training_engine(python: str, system: str, machine: str) -> None:
    hub = needs("hub", python, system, machine)
    assert "numpy" in hub
    assert not {"tflite-runtime", "ai-edge-litert"} & set(hub)


def test_an_agent_never_gets_the_heavy_chain_libraries() -> None:
    assert not {"web3", "py_ecc", "fastapi", "pandas"} & set(needs("agent", "3.11", "linux", "x86_64"))


@pytest.mark.parametrize(
    ("package", "extras"),
    [("openmg", ("agent", "hub")), ("edge_agent", ("agent", "dlms")), ("firmware_sim", ("sim",)), ("hub", ("hub",))],
)
def test_what_a_package_imports_is_in_its_extra(package: str, extras: tuple[str, ...]) -> None:
    allowed = {canonical(name) for extra in extras for name in needs(extra, "3.11", "linux", "x86_64")}
    provided_by = importlib.metadata.packages_distributions()
    missing = {
        module
        for module in imported_modules(ROOT / package)
        if provided_by.get(module) and not {canonical(name) for name in provided_by[module]} & allowed
    }
    # Optional parts that are found at run time: the Rust prover, and the other training engine.
    assert missing - {"openmg", "openmg_native", "ai_edge_litert"} == set()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_modules(package: Path) -> set[str]:
    """The top-level names of all modules that the files of `package` import, anywhere in them."""
    found = set()
    for file in package.rglob("*.py"):
        if file.name == "build_asset.py":  # needs TensorFlow, and is run by hand
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found


def test_every_requirement_is_bound_by_the_constraints() -> None:
    text = (ROOT / "scripts" / "constraints.txt").read_text(encoding="utf-8")
    bound = {Requirement(line).name.lower().replace("_", "-") for line in text.splitlines() if line[:1] not in "#"}
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = [*whole["project"]["dependencies"], *whole["build-system"]["requires"]]
    for extra in whole["project"]["optional-dependencies"].values():
        listed += extra
    wanted = {Requirement(text).name.lower().replace("_", "-") for text in listed} - {"openmg"}
    assert wanted - bound == set()


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_hold_no_download_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"\b(https?|git|ssh|file)://", text)


def test_package_lock_holds_no_download_address() -> None:
    """npm's field for it is `resolved`; what is left of addresses are the authors' own (`funding`)."""
    packages = json.loads((ROOT / "contracts" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for package in packages.values():
        package.pop("funding", None)
        assert "resolved" not in package
        assert "://" not in json.dumps(package)


def test_package_lock_has_an_anvil_for_each_machine_that_asks_for_no_node() -> None:
    """npm leaves out an optional package that asks for a newer Node.js than Debian's; `npm install` writes `engines` again."""
    packages = json.loads((ROOT / "contracts" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    anvils = [package for name, package in packages.items() if name.startswith(contracts.ANVIL_PREFIX)]
    assert sorted(cpu for package in anvils for cpu in package["cpu"]) == ["arm64", "x64"]
    assert {package["version"] for package in anvils} == {"1.7.1"}
    assert not [package for package in anvils if "engines" in package], "remove `engines` from the anvil packages in the lock"


def test_package_lock_names_exact_contents() -> None:
    lock = (ROOT / "contracts" / "package-lock.json").read_text(encoding="utf-8")
    assert lock.count('"integrity"') == lock.count('"node_modules/')


def front_door() -> ModuleType:
    spec = importlib.util.spec_from_file_location("front_door", ROOT / "scripts" / "bootstrap.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_front_door_can_be_read_by_old_pythons() -> None:
    ast.parse((ROOT / "scripts" / "bootstrap.py").read_text(encoding="utf-8"), feature_version=(3, 4))


def test_the_front_door_passes_by_a_shim_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "shims"
    write_tool(shim, "python3.11", "not installed")
    (shim / "python3.11").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "python3.11").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{shim}:{tmp_path / 'real'}")
    assert front_door().find_newer() == str(tmp_path / "real" / "python3.11")
    monkeypatch.setenv("PATH", str(shim))
    assert front_door().find_newer() is None


def test_make_without_python_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "-C", str(ROOT), "setup", "PYTHON=no-such-python"], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode != 0
    assert "There is no no-such-python on this machine: install Python 3.11" in done.stderr


def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert re.search(r"^make test$", script.read_text(encoding="utf-8"), re.MULTILINE)
