"""Installing the packages for real, in an awkward place, and that the second time nothing is contacted at all.

Slow, because packages are downloaded (or taken from pip's cache): `make test-setup`.
"""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from setup_support import Copy, copy_checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
BASE_ONLY = ("--only", "environment,packages", "--extras", "")


class Listener:
    """A port of 127.0.0.1 that takes connections, counts them and closes them at once."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(timeout=5)


@contextmanager
def only_way_out() -> Iterator[tuple[Listener, dict[str, str]]]:
    """A listener, and the variables that lead every download of pip, npm and cargo to it."""
    listener = Listener()
    # pip takes an index named on loopback directly, and any other through the proxy: both lead here.
    variables = {name: f"http://127.0.0.1:{listener.port}" for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
    variables |= {name.lower(): value for name, value in variables.items()}
    variables |= {"PIP_RETRIES": "0", "PIP_TIMEOUT": "2", "PIP_NO_CACHE_DIR": "1"}
    try:
        yield listener, variables
    finally:
        listener.close()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    copy = copy_checkout(tmp_path_factory.mktemp("downloads") / "열린 그리드" / "open mg")
    result = copy.bootstrap(*BASE_ONLY)
    assert result.code == 0, result.err + result.out
    assert "Set-up done in" in result.out and "MB on disk" in result.out
    return copy


def test_the_project_is_imported_from_the_checkout_under_lc_all_c(installed: Copy) -> None:
    answer = subprocess.run(
        [installed.python, "-c", "import cbor2, coincurve, openmg; print(ascii(openmg.__file__))"],
        env={key: value for key, value in installed.env.items() if key != "PYTHONUTF8"},
        cwd="/",
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == ascii(str(installed.root / "openmg" / "__init__.py"))


def test_commands_are_installed_and_find_their_python(installed: Copy) -> None:
    for name in ("openmg", "openmg-agent", "openmg-sim", "openmg-hub"):
        script = installed.root / ".venv" / "bin" / name
        assert str(installed.python) in script.read_text(encoding="utf-8")


def test_no_third_party_was_built_from_source(installed: Copy) -> None:
    log = (installed.root / ".venv" / "setup-logs" / "packages.log").read_text(encoding="utf-8")
    assert ".tar.gz" not in log
    assert set(re.findall(r"Building (?:wheel|editable) for (\S+)", log)) == {"openmg"}


def test_the_second_run_contacts_nothing(installed: Copy) -> None:
    with only_way_out() as (listener, variables):
        result = installed.bootstrap(*BASE_ONLY, **variables)
        assert (result.code, result.err) == (0, "")
        assert "nothing was contacted" in result.out
        assert listener.connections == 0


def test_a_download_that_is_due_goes_through_the_proxy_and_its_failure_names_it(installed: Copy) -> None:
    """The twin of the test above: the listener does see what is contacted."""
    constraints = installed.root / "scripts" / "constraints.txt"
    text = constraints.read_text(encoding="utf-8")
    constraints.write_text(text.replace("cbor2==6.3.0", "cbor2==6.2.0"), encoding="utf-8")
    assert constraints.read_text(encoding="utf-8") != text
    try:
        with only_way_out() as (listener, variables):
            result = installed.bootstrap(*BASE_ONLY, **variables)
            assert listener.connections > 0
    finally:
        constraints.write_text(text, encoding="utf-8")
    assert result.code == 1
    assert "check the network and the proxy in HTTPS_PROXY" in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert "[1/1] Python packages: failed" in result.out
    assert installed.bootstrap(*BASE_ONLY).code == 0, "the next run repairs it"


def test_a_moved_checkout_is_set_up_again(installed: Copy, tmp_path: Path) -> None:
    moved = Copy(tmp_path / "moved", installed.env)
    installed.root.rename(moved.root)
    try:
        result = moved.bootstrap(*BASE_ONLY)
        assert result.code == 0, result.err
        assert ".venv is made anew: it was made for another path" in result.out
        answer = subprocess.run(
            [moved.python, "-c", "import openmg; print(openmg.__file__)"],
            cwd="/", env=dict(moved.env), capture_output=True, encoding="utf-8", check=True,
        )  # fmt: skip
        assert answer.stdout.strip() == str(moved.root / "openmg" / "__init__.py")
    finally:
        moved.root.rename(installed.root)
