"""The first part of a backup: whose it is, from when, which files with which digests, and what was left out on purpose.

Not here: making one (`making`), what a restore makes of it (`restoring`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_agent.config import AgentConfig

FORMAT = 2
READ = (1, 2)
"""Of format 1, which knew no DLMS counter, it is not known how far that was."""
MAX_BYTES = 64 * 1024
MANIFEST, STORE, DEVICE_KEY, OWNER_SEED = "manifest.json", "store.sqlite", "device.key", "owner.seed"
TLS_NAMES = ("tls/ca.pem", "tls/certificate.pem", "tls/key.pem")
NAMES = (STORE, DEVICE_KEY, OWNER_SEED, *TLS_NAMES)
PRIVATE_GLOB = "learning-*.private"
LEFT_OUT = (
    ("masking.sqlite", "what this meter promised of masked slots: an older copy knows less, and could be led to answer twice"),
    ("wallet.sqlite", "notes, payments and orders: the chain tells them to whoever has the seed, an older copy would be wrong"),
    ("learning-*.pending", "an update promised for one round, which is over or is sat out"),
    (PRIVATE_GLOB, "private rounds: an older copy could be led to answer twice; no private round is joined after a restore"),
    ("agent.toml", "the configuration, which holds no secret: keep a copy of it yourself"),
)
"""Files that are never in a backup, and why (docs/STORE.md)."""


class BackupError(Exception):
    """A backup cannot be made or restored; one sentence that says why and what to do."""


@dataclass(frozen=True)
class FileEntry:
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Device, chain and place of the meter; next_seq: the next number of its store; made: wall second.

    dlms_counter: the next number of a protected DLMS meter's requests, 0 when none was ever made; None when it is not known.
    """

    made: int
    device: str
    address: str
    chain_id: int
    microgrid: int
    role: str
    next_seq: int
    files: tuple[FileEntry, ...]
    private_models: tuple[str, ...]
    """Names of files of private rounds that stood there."""
    dlms_counter: int | None = None

    def encode(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2).encode("utf-8")

    def differs(self, config: AgentConfig) -> str | None:
        """What makes it another device's or another chain's than the configuration's; None when nothing does."""
        for what, ours, theirs in (
            ("device", config.device.name, self.device),
            ("chain", config.hub.chain_id, self.chain_id),
            ("microgrid", config.home.microgrid, self.microgrid),
            ("role", config.home.role, self.role),
        ):
            if ours != theirs:
                return f"it is of {what} {theirs}, and the configuration of {what} {ours}"
        return None


def key_paths(config: AgentConfig) -> dict[str, Path]:
    """Where the configuration has the files that are in a backup beside the store, by their names there."""
    paths = {DEVICE_KEY: config.device.key_file}
    if config.wallet is not None:
        paths[OWNER_SEED] = config.wallet.seed_file
    tls = config.mqtt.tls
    if tls is not None:
        paths.update(zip(TLS_NAMES, (tls.ca, tls.certificate, tls.key), strict=True))
    return paths


def decode(content: bytes) -> Manifest:
    """The manifest; BackupError when it is none of this version."""
    try:
        table: dict[str, Any] = json.loads(content)
        if table.pop("format") not in READ:
            raise BackupError("the backup was made by a newer version; update this program")
        files = tuple(FileEntry(str(e["name"]), int(e["bytes"]), str(e["sha256"])) for e in table.pop("files"))
        models = tuple(map(str, table.pop("private_models")))
        counter = table.pop("dlms_counter", None)
        return Manifest(**table, files=files, private_models=models, dlms_counter=None if counter is None else int(counter))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupError(f"the backup's manifest cannot be read ({error}); make a new backup") from error
