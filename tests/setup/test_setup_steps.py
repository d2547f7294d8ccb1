"""The steps after the environment: what is left out, and how it is told; what decides that nothing is due."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from openmg_setup import contracts, keys, main, native, packages, state
from openmg_setup.commands import CommandFailed, clean_environment, proxy_in
from openmg_setup.console import Console
from openmg_setup.model import Checkout, Options, SetupError
from setup_support import ROOT, Copy, write_tool

pytestmark = pytest.mark.slow


def test_cargo_too_old_means_portable_in_one_line(made: Copy, tmp_path: Path) -> None:
    debian = write_tool(tmp_path / "bin", "cargo", "cargo 0.66.0")
    result = made.bootstrap("--only", "environment,native", path=debian)
    assert (result.code, result.err) == (0, "")
    needed = tomllib.loads((ROOT / "native" / "Cargo.toml").read_text(encoding="utf-8"))["package"]["rust-version"]
    assert (
        "Left out: The native prover was not built: cargo 0.66.0 is too old "
        f"(Rust {needed} or newer is needed); the portable prover is used." in result.out
    )
    again = made.bootstrap("--only", "environment,native", path=debian)
    assert "up to date" in again.out and "cargo 0.66.0 is too old" in again.out and "RETRY=1" in again.out
    retried = made.bootstrap("--only", "environment,native", "--retry", path=debian)
    assert "cargo 0.66.0 is too old" in retried.out


def test_no_cargo_means_portable_in_one_line(made: Copy, tmp_path: Path) -> None:
    result = made.bootstrap("--only", "environment,native", path=str(tmp_path))
    assert result.code == 0
    assert "there is no cargo on this machine" in result.out and "portable" in result.out


def test_another_cargo_is_tried_without_being_asked(made: Copy, tmp_path: Path) -> None:
    made.bootstrap("--only", "environment,native", path=write_tool(tmp_path / "old", "cargo", "cargo 0.66.0"))
    newer = made.bootstrap("--only", "environment,native", path=write_tool(tmp_path / "new", "cargo", "cargo 1.99.0"))
    assert "there is no C linker 'cc'" in newer.out


@pytest.mark.parametrize(
    ("text", "version"),
    [("cargo 1.85.0 (abc 2025-01-01)", (1, 85, 0)), ("1.85", (1, 85)), ("cargo 0.66.0", (0, 66, 0)), ("?", ())],
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    assert native.version_of(text) == version


def test_no_node_is_one_line(made: Copy, tmp_path: Path) -> None:
    result = made.bootstrap("--only", "environment,contracts", path=str(tmp_path))
    assert (result.code, result.err) == (0, "")
    assert "Left out: No Node.js here, and the demo's two chains" in result.out


def test_an_old_node_is_one_line(made: Copy, tmp_path: Path) -> None:
    path = write_tool(tmp_path, "node", "v12.22.9")
    write_tool(tmp_path, "npm", "7")
    result = made.bootstrap("--only", "environment,contracts", path=path)
    assert result.code == 0
    assert "Node.js v12.22.9 is too old" in result.out and f"{contracts.MIN_NODE_MAJOR} or newer" in result.out


@pytest.fixture
def npm_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout as npm left it: our lock, a Node.js for arm64, no anvil on PATH. The anvil package is the test's to make."""
    monkeypatch.delenv("OPENMG_ANVIL", raising=False)
    monkeypatch.setenv("PATH", write_tool(tmp_path / "bin", "node", "arm64") + ":/usr/bin:/bin")
    (tmp_path / "contracts").mkdir()
    shutil.copy2(ROOT / "contracts" / "package-lock.json", tmp_path / "contracts")
    return Checkout(tmp_path)


def test_an_anvil_that_npm_passed_over_is_a_failure(npm_done: Checkout, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"npm left out @foundry-rs/anvil-linux-arm64\): check the network"):
        contracts._anvil_in_words(npm_done, clean_environment(), tmp_path / "log")


def test_an_anvil_of_this_machine_is_found_and_made_executable(npm_done: Checkout, tmp_path: Path) -> None:
    folder = npm_done.contracts / "node_modules/@foundry-rs/anvil-linux-arm64/bin"
    write_tool(folder, "anvil", "anvil Version: 1.7.1")
    (folder / "anvil").chmod(0o644)
    assert contracts._anvil_in_words(npm_done, clean_environment(), tmp_path / "log") == "anvil 1.7.1"


def test_an_anvil_that_does_not_run_is_told(npm_done: Checkout, tmp_path: Path) -> None:
    folder = npm_done.contracts / "node_modules/@foundry-rs/anvil-linux-arm64/bin"
    write_tool(folder, "anvil", "")
    (folder / "anvil").write_text("#!/no/such/loader\n", encoding="utf-8")
    said = contracts._anvil_in_words(npm_done, clean_environment(), tmp_path / "log")
    assert said == "but anvil does not run on this system: set OPENMG_ANVIL to one of your own"


def test_a_machine_without_an_anvil_package_is_told(npm_done: Checkout, tmp_path: Path) -> None:
    write_tool(tmp_path / "bin", "node", "riscv64")
    said = contracts._anvil_in_words(npm_done, clean_environment(), tmp_path / "log")
    assert said.startswith("but anvil has no npm package for ")


def test_an_unknown_extra_is_one_sentence(made: Copy) -> None:
    result = made.bootstrap("--only", "environment,packages", "--extras", "hubb")
    assert result.code == 1
    assert result.err.startswith("Set-up stopped. pyproject.toml has no extra 'hubb': choose among agent")
    record = state.load(made.root / ".venv")
    assert record is not None and record.busy is None, "a clean failure is not an interruption"


def test_settings_of_the_tools_do_not_make_packages_due(made: Copy) -> None:
    checkout, options = Checkout(made.root), Options(main.STEPS)
    record = state.load(made.root / ".venv")
    assert record is not None
    before = packages.key(checkout, options, record)
    text = checkout.pyproject.read_text(encoding="utf-8")
    try:
        checkout.pyproject.write_text(text + "\n[tool.another]\nsetting = 1\n", encoding="utf-8")
        assert packages.key(checkout, options, record) == before
        checkout.pyproject.write_text(text.replace("pymodbus==3.16.*", "pymodbus==3.17.*"), encoding="utf-8")
        assert packages.key(checkout, options, record) != before
    finally:
        checkout.pyproject.write_text(text, encoding="utf-8")
    assert packages.key(checkout, Options(main.STEPS, ("agent",)), record) != before


def test_a_broken_pyproject_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n", encoding="utf-8")
    with pytest.raises(SetupError, match=r"pyproject\.toml cannot be read \(.*line 1.*\): restore it\."):
        packages.describe_project(Checkout(tmp_path))


def test_keys_follow_contents_not_places_or_times(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "file").write_bytes(b"same")
    a, b = ([tmp_path / place / "file", tmp_path / place / "absent"] for place in ("a", "b"))
    assert state.hash_files(a, tmp_path / "a") == state.hash_files(b, tmp_path / "b")
    (tmp_path / "b" / "absent").write_bytes(b"")
    assert state.hash_files(a, tmp_path / "a") != state.hash_files(b, tmp_path / "b")


def test_size_counts_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x" * 3_000_000)
    (tmp_path / "folder" / "same").hardlink_to(tmp_path / "folder" / "file")
    assert state.size_on_disk_mb([tmp_path, tmp_path / "absent"]) == 3


def test_tools_see_neither_redirections_nor_proxied_loopback() -> None:
    env = clean_environment({"PYTHONPATH": "x", "PIP_TARGET": "y", "NO_PROXY": "intra.example,localhost", "PATH": "z"})
    assert "PYTHONPATH" not in env and "PIP_TARGET" not in env
    assert env["PATH"] == "z"
    assert env["NO_PROXY"] == "intra.example,localhost,127.0.0.1,::1"
    assert env["no_proxy"] == "127.0.0.1,localhost,::1"


def test_no_proxy_for_anything_stays_so() -> None:
    env = clean_environment({"NO_PROXY": "*", "no_proxy": ""})
    assert (env["NO_PROXY"], env["no_proxy"]) == ("*", "127.0.0.1,localhost,::1")


@pytest.mark.parametrize("given", ["", "*", "intra.example"])
def test_make_exempts_loopback_and_keeps_what_was_named(given: str, tmp_path: Path) -> None:
    shutil.copy2(ROOT / "Makefile", tmp_path)
    (tmp_path / "more.mk").write_text('include Makefile\nshow:\n\t@echo "[$$NO_PROXY]"\n', encoding="utf-8")
    env = {"PATH": os.environ["PATH"], "NO_PROXY": given}
    said = subprocess.check_output(["make", "-s", "-f", "more.mk", "show"], cwd=tmp_path, env=env, encoding="utf-8")
    loopback = "127.0.0.1,localhost,::1"
    assert said.strip() == {"": f"[{loopback}]", "*": "[*]"}.get(given, f"[{given},{loopback}]")


def test_the_proxy_named_in_advice_is_the_one_downloads_use() -> None:
    assert proxy_in({"http_proxy": "http://p:1", "HTTPS_PROXY": "http://q:1"}) == "HTTPS_PROXY"
    assert proxy_in({"HTTPS_PROXY": ""}) is None


def test_this_checkout_is_up_to_date_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """In a checkout that `make` has set up, the next set-up finds nothing to do."""
    checkout = Checkout(ROOT)
    record = state.load(checkout.venv)
    if record is None or record.busy or record.root != str(ROOT):
        pytest.skip("this .venv was not made by scripts/bootstrap.py")
    options = Options(main.STEPS)
    due = [task.name for task in main.tasks(checkout, options) if not main._is_done(task, record, options)]
    optional_without_tools = {"contracts"} if shutil.which("npm") is None else set()
    if set(due) - optional_without_tools:
        pytest.skip(f"files changed since the last set-up (due: {', '.join(due)})")
    main.set_up(checkout, options, Console())
    assert "nothing was contacted" in capsys.readouterr().out or due


def test_a_user_without_a_home_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that is started with a number for its user."""

    def no_entry(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "OPENMG_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    with pytest.raises(SetupError, match="set OPENMG_CACHE to a folder"):
        keys.cache_folder()


@pytest.mark.parametrize(("version", "advice"), [("3.13.9", "check the network"), ("3.14.0", "install Python 3.13")])
def test_packages_without_wheels_are_not_blamed_on_the_network(version: str, advice: str) -> None:
    error = CommandFailed(["pip"], 1, ["ERROR: No matching distribution found for coincurve"], None)
    assert advice in packages._advice(error, {}, state.Record("/r", "/usr/bin/python3", version))


def test_record_survives_a_round_trip(tmp_path: Path) -> None:
    fresh = state.Record("/여기", "/usr/bin/python3", "3.11.2")
    record = fresh.with_done("packages", "k").with_failed("native", "f", "No cargo.")
    state.save(tmp_path, record)
    assert state.load(tmp_path) == record
    assert record.with_done("native", "n").failed == {}
    other = json.loads((tmp_path / state.RECORD_NAME).read_text()) | {"schema": 99}
    (tmp_path / state.RECORD_NAME).write_text(json.dumps(other))
    assert state.load(tmp_path) is None
