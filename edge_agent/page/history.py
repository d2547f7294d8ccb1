"""The agent's store for whoever only reads: the store's own questions over a connection that cannot write.

Rules: everything that `Store` answers is answered here in the same way; what it would change raises StoreError. A damaged file
is left where it is: to set it aside is the agent's business. Not here: what the page makes of it (`energy`).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from edge_agent.page.readonly import open_readonly
from edge_agent.store import Store, StoreError
from edge_agent.store_file import SCHEMA_VERSION


class History(Store):
    """The store of a path, read-only; a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError when it is missing, damaged, or of another version."""
        super().__init__(path)

    def _open(self, first_seq: int | None) -> sqlite3.Connection:
        db = open_readonly(self.path)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            db.close()
            raise StoreError(f"store {self.path} has version {version} and this program reads {SCHEMA_VERSION}; update it")
        return db

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
