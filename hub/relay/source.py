"""Decided headers and validator sets, read from a validator's chain file while that validator runs.

Rules: opened read-only for every question, so that it never holds the file up and survives its replacement; what is read
is believed by nobody, because the contract checks every header, seal and set. Trouble is a SourceError of one sentence.
Not here: who writes the file, and its tables (`hub.ppdl.store`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from hub.ppdl.genesis import ADDRESS_BYTES, Genesis
from hub.ppdl.rows import SignedHeader, split_seals
from hub.relay.relayer import SourceError

BUSY_SECONDS = 5.0
MAX_HEADERS = 512
"""Headers of one answer, whatever is asked for."""


class StoredChain:
    """The chain in `path` of the given genesis."""

    def __init__(self, path: Path, genesis: Genesis) -> None:
        self._path = path
        self._genesis = genesis

    def headers_after(self, height: int, limit: int) -> Sequence[SignedHeader]:
        """Up to `limit` consecutive headers, the first at `height + 1`; empty when there is none.

        SourceError when that one is not in the file any more, because the validator began after a snapshot.
        """
        rows = self._ask(
            "SELECT height, header, view, seals FROM blocks WHERE height>? ORDER BY height LIMIT ?",
            (height, min(limit, MAX_HEADERS)),
        )
        if rows and rows[0][0] != height + 1:
            raise SourceError(
                f"{self._path} begins after a snapshot, at block {rows[0][0]}, and block {height + 1} is to be relayed; "
                "relay from another validator's file"
            )
        try:
            return [SignedHeader(bytes(header), view, split_seals(bytes(seals))) for _, header, view, seals in rows]
        except (TypeError, ValueError) as error:
            raise SourceError(f"{self._path} has a header that cannot be read ({error}); check the disk") from error

    def validators_at(self, height: int) -> Sequence[bytes]:
        """Addresses of the set that seals `height`, ascending."""
        rows = self._ask("SELECT opened FROM sets WHERE height<? ORDER BY height DESC LIMIT 1", (height,))
        if not rows:
            return self._genesis.validators
        opened = bytes(rows[0][0])
        return [opened[i : i + ADDRESS_BYTES] for i in range(0, len(opened), ADDRESS_BYTES)]

    def _ask(self, question: str, values: tuple[int, ...]) -> list[tuple[int, bytes, int, bytes]]:
        address = f"{self._path.resolve().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
                found = connection.execute("SELECT value FROM meta WHERE name='genesis'").fetchone()
                if found is None or bytes(found[0]) != self._genesis.hash:
                    raise SourceError(f"{self._path} belongs to another chain; name the file of this genesis")
                return connection.execute(question, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise SourceError(f"{self._path} cannot be read ({error}); is it a validator's chain file?") from error
