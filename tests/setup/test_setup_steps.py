"""The steps after the environment: what is left out, and how it is told; what decides that nothing is due."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from openmg_setup import contracts, main, native, packages, state
from openmg_setup.commands import clean_environment, proxy_in
from openmg_setup.console import Console
from openmg_setup.model import Checkout, Options, SetupError
from setup_support import ROOT, Copy, write_tool


def test_cargo_too_old_means_portable_in_one_line(made: Copy, tmp_path: Path) -> None:
    debian = write_tool(tmp_path / "bin", "cargo", "cargo 0.66.0")
    result = made.bootstrap("--only", "environment,native", path=debian)
    assert (result.code, result.err) == (0, "")
    needed = native.version_of((ROOT / "native" / "Cargo.toml").read_text().split("rust-version")[1])
    assert (
        "Left out: The native prover was not built: cargo 0.66.0 is too old "
        f"(Rust {'.'.join(map(str, needed))} or newer is needed); the portable prover is used." in result.out
    )
    again = made.bootstrap("--only", "environment,native", path=debian)
    assert "up to date" in again.out and "RETRY=1" in again.out
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


def test_record_survives_a_round_trip(tmp_path: Path) -> None:
    record = state.Record("/여기", "/usr/bin/python3", "3.11.2").with_done("packages", "k").with_failed("native", "f")
    state.save(tmp_path, record)
    assert state.load(tmp_path) == record
    assert record.with_done("native", "n").failed == {}
    other = json.loads((tmp_path / state.RECORD_NAME).read_text()) | {"schema": 99}
    (tmp_path / state.RECORD_NAME).write_text(json.dumps(other))
    assert state.load(tmp_path) is None
