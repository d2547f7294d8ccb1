"""A fresh Debian 12 that really boots, in a container whose first process is systemd; the network is this machine's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from edge_kit import wait_for
from fresh_root import FreshRoot

CONFINES = re.compile(r"(User|Protect|Private|Restrict|Memory|System|Capab|NoNew|Lock|Device|State|Inaccess)\w*=")


class Booted:
    """A container whose first process is systemd."""

    def __init__(self, root: FreshRoot) -> None:
        command = ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "-D", str(root.path), "--boot"]
        nothing = subprocess.DEVNULL
        self.root = root
        self._process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
        try:
            wait_for(self._leader, 60)
            wait_for(lambda: self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"), 120)
        except BaseException:
            self.end()
            raise

    def _leader(self) -> str:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        assert self._process.poll() is None, "systemd-nspawn ended"
        return children.read_text().split(" ")[0]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        line = ["nsenter", "-t", self._leader(), "-m", "-u", "-i", "-n", "-p", "-C", "env", "-i", path, *command]
        return subprocess.run(line, capture_output=True, text=True, timeout=200)

    def must(self, *command: str) -> str:
        """What the command prints; fails with its words, and the journal's, when it does not end well."""
        result = self.run(*command)
        journal = "" if result.returncode == 0 else self.journal("openmg-agent") + self.journal("openmg-agent-page")
        assert result.returncode == 0, f"{' '.join(command)}: {result.stdout}{result.stderr}{journal[-4000:]}"
        return result.stdout

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "-u", unit, "--no-pager", "-o", "cat").stdout

    def shows(self, name: str, unit: str = "openmg-agent") -> str:
        return self.run("systemctl", "show", unit, "--property", name, "--value").stdout.strip()

    def sandbox(self, unit: str) -> list[str]:
        """The lines of the unit that limit what the service may do, as words for systemd-run."""
        lines = [line for line in self.must("systemctl", "cat", unit).splitlines() if CONFINES.match(line)]
        assert len(lines) > 20
        return [word for line in lines for word in ("-p", line)]

    def end(self) -> None:
        if self._process.poll() is None:
            self.run("systemctl", "poweroff")
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
