"""What the adapter keeps of a CometBFT chain in one SQLite file: headers with their commits, and validator sets.

Headers are copied from CometBFT after each block, so that a relay reads them without asking the node. Sets are written
before CometBFT learns of a change (synchronous=FULL), because an update names only who comes or goes: the file belongs
to the node's home and is not made anew beside a chain that exists.
Not here: blocks and votes, which CometBFT keeps.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hub.ppdl.genesis import ADDRESS_BYTES
from hub.ppdl.store import BUSY_TIMEOUT_S, MAX_HEADERS_PER_READ, SignedHeader, StoreError
from openmg import codec

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS headers (height INTEGER PRIMARY KEY, header BLOB NOT NULL, view INTEGER NOT NULL,
                                    seals BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sets (height INTEGER PRIMARY KEY, addresses BLOB NOT NULL);
"""


class ChainFile:
    """Headers and sets of one chain; made when `create` is set. Writes come from two threads, each call a transaction of
    its own, over a connection of its own. Raises StoreError.
    """

    def __init__(self, path: Path, genesis_hash: bytes, create: bool = False) -> None:
        self.path = path
        if not create and not path.exists():
            raise StoreError(f"{path} is missing: set the node up again in an empty home, the others serve it the chain")
        try:
            self._headers = self._connect("NORMAL")  # copies: CometBFT still has what a power cut takes
            self._sets = self._connect("FULL")
            self._sets.executescript(_SCHEMA)
            self._sets.execute("INSERT OR IGNORE INTO meta VALUES ('genesis', ?)", (genesis_hash,))
            (found,) = self._sets.execute("SELECT value FROM meta WHERE name='genesis'").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"cannot open {path} ({error}): check the file and its directory") from error
        if bytes(found) != genesis_hash:
            self.close()
            raise StoreError(f"{path} belongs to another chain: give the home of this genesis")

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        return connection

    def close(self) -> None:
        """Close the file."""
        self._headers.close()
        self._sets.close()

    def last_header(self) -> int:
        """Height of the last header, 0 before the first."""
        return int(self._headers.execute("SELECT max(height) FROM headers").fetchone()[0] or 0)

    def save_header(self, height: int, signed: SignedHeader) -> None:
        """Append one; a height that is there keeps its header (another commit of it proves no more)."""
        seals = codec.encode(list(signed.seals))
        row = height, signed.header_bytes, signed.view, seals
        self._headers.execute("INSERT OR IGNORE INTO headers VALUES (?, ?, ?, ?)", row)

    def headers_after(self, height: int, limit: int) -> list[SignedHeader]:
        """At most `limit` (and MAX_HEADERS_PER_READ) headers above `height`, ascending, without gaps."""
        rows = self._headers.execute(
            "SELECT header, view, seals FROM headers WHERE height>? ORDER BY height LIMIT ?",
            (height, min(limit, MAX_HEADERS_PER_READ)),
        )
        return [SignedHeader(bytes(header), view, tuple(codec.decode(bytes(seals)))) for header, view, seals in rows]

    def set_before(self, height: int) -> tuple[bytes, ...] | None:
        """Addresses of the set that the blocks below `height` led to; None while it is that of the genesis."""
        row = self._sets.execute("SELECT addresses FROM sets WHERE height<? ORDER BY height DESC LIMIT 1", (height,)).fetchone()
        if row is None:
            return None
        packed = bytes(row[0])
        return tuple(packed[i : i + ADDRESS_BYTES] for i in range(0, len(packed), ADDRESS_BYTES))

    def save_set(self, height: int, addresses: tuple[bytes, ...] | None) -> None:
        """Durably note the set that block `height` leads to, None when it changes nothing.

        A block is finalised again with the same outcome, so an equal row may be there.
        """
        if addresses is not None:
            self._sets.execute("INSERT OR REPLACE INTO sets VALUES (?, ?)", (height, b"".join(addresses)))
