"""What all tests may use: paths, free ports, and the list of what was skipped and why at the end of a run.

Rules: nothing here acts on a test that does not ask for it; loopback is exempt from proxies for the whole run,
because the tests talk to servers on 127.0.0.1 only.

Not here: fixtures of one package (tests/<package>/conftest.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from openmg.zk.keys import default_cache_dir
from workbench.ports import PortReservation

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA_VARIABLE = "OPENMG_SHARED_DATA"
SKIP_REPORT_VARIABLE = "OPENMG_SKIP_REPORT"  # set by scripts/check.py
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
MAX_TESTS_NAMED = 3
NOT_ASKED_FOR = "not part of this run (marked slow or bench, or deselected)"


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the measured data sets: $OPENMG_SHARED_DATA, else ../shared/data beside the checkout."""
    named = os.environ.get(SHARED_DATA_VARIABLE)
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no measured data: set {SHARED_DATA_VARIABLE} to a folder that has it")
    return folder


@pytest.fixture(scope="session")
def key_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the run's own for development keys, which begins with those that set-up or an earlier run has made.

    `ensure_keys` trusts each by its written-down digest alone, and makes what is missing or another.
    """
    folder = tmp_path_factory.mktemp("key-cache")
    (folder / "zk").mkdir()
    for made in (default_cache_dir() / "zk").glob("*.pk"):
        (folder / "zk" / made.name).symlink_to(made)
    return folder


@pytest.fixture(scope="session")
def free_port() -> Iterator[Callable[[], int]]:
    """A function that gives a TCP port of 127.0.0.1 on which nobody listens, each time another one.

    Ports stay reserved until the end of the run: no client is given one as its own while its server is down.
    """
    reserved: list[PortReservation] = []

    def find() -> int:
        reserved.append(PortReservation(1))
        return reserved[-1].ports[0]

    yield find
    for item in reserved:
        item.close()


class SkipList:
    """Collects the tests that did not run, by reason.

    Where pytest-xdist shares tests out, the workers alone see what was deselected, all of them the same.
    """

    def __init__(self) -> None:
        self.by_reason: dict[str, list[str]] = {}

    def pytest_testnodedown(self, node: Any) -> None:
        self.by_reason[NOT_ASKED_FOR] = getattr(node, "workeroutput", {}).get(NOT_ASKED_FOR, [])

    def add(self, reason: str, test: str) -> None:
        self.by_reason.setdefault(reason, []).append(test)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        for item in items:
            self.add(NOT_ASKED_FOR, item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            self.add(str(report.longrepr[2]).removeprefix("Skipped: "), report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            self.add(str(report.longrepr[2]).removeprefix("Skipped: "), report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.by_reason or SKIP_REPORT_VARIABLE in os.environ:  # scripts/check.py tells them at its very end
            return
        terminalreporter.section("Skipped and why")
        for reason, tests in sorted(self.by_reason.items()):
            more = f" and {len(tests) - MAX_TESTS_NAMED} more" if len(tests) > MAX_TESTS_NAMED else ""
            terminalreporter.write_line(f"{len(tests)}: {reason}: {', '.join(tests[:MAX_TESTS_NAMED])}{more}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        handed_over = getattr(session.config, "workeroutput", None)
        if handed_over is not None:
            handed_over[NOT_ASKED_FOR] = self.by_reason.get(NOT_ASKED_FOR, [])
        elif SKIP_REPORT_VARIABLE in os.environ:
            self._write(Path(os.environ[SKIP_REPORT_VARIABLE]))

    def _write(self, target: Path) -> None:
        """Beside what an earlier run of the same check left there."""
        groups = json.loads(target.read_text(encoding="utf-8")) if target.exists() else []
        groups += [{"reason": reason, "tests": tests} for reason, tests in sorted(self.by_reason.items()) if tests]
        target.write_text(json.dumps(groups), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SkipList(), "openmg-skip-list")
    for key in ("NO_PROXY", "no_proxy"):
        named = [host for host in os.environ.get(key, "").split(",") if host]
        if named == ["*"]:  # no proxy for anything: means that only while it stands alone
            continue
        os.environ[key] = ",".join(named + [host for host in LOOPBACK_HOSTS if host not in named])
