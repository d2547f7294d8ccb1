"""Runs `python -m edge_agent` with what its databases did not sync noted down, so that a power cut can take it away.

`faults_lossy.py run --config agent.toml`; afterwards `workbench.ppdl_soak.disk.lose_unsynced` on the killed agent's folder.
OPENMG_FAULTS_SYNC=OFF makes the stores sync nothing, for the test that such an agent is found out.
"""

from __future__ import annotations

import os
import runpy
import sqlite3

from workbench.ppdl_soak.disk import LossyDisk


class Careless(sqlite3.Connection):
    """A connection that takes no order to sync."""

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        return super().execute(sql.replace("PRAGMA synchronous=FULL", "PRAGMA synchronous=OFF"), *values)


if __name__ == "__main__":
    LossyDisk().install()
    if os.environ.get("OPENMG_FAULTS_SYNC") == "OFF":
        connect = sqlite3.connect
        sqlite3.connect = lambda *place, **how: connect(*place, factory=Careless, **how)  # type: ignore[assignment]
    runpy.run_module("edge_agent", run_name="__main__", alter_sys=True)
