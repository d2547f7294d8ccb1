"""The console's own files (page, styles, modules, icon), read once at start and served from memory.

Content types are fixed here, not taken from the machine: with `nosniff`, one wrong entry in a system's table
would keep every module from loading. Nothing outside `static/` can be named: a request path is a key of a
dict.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
MAX_ASSET_BYTES = 1_000_000  # all files together; they are about 150 kB


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    content_type: str
    etag: str


def load_assets() -> dict[str, Asset]:
    """Read every served file; keys are paths below `static/`, such as 'js/app.js'."""
    assets: dict[str, Asset] = {}
    _collect(resources.files("hub.console") / "static", "", assets)
    if "index.html" not in assets:
        raise FileNotFoundError("console: hub/console/static/index.html is missing; install openmg again")
    size = sum(len(asset.body) for asset in assets.values())
    if size > MAX_ASSET_BYTES:
        raise ValueError(f"console: {size} bytes of static files, at most {MAX_ASSET_BYTES}")
    return assets


def _collect(folder: Traversable, prefix: str, assets: dict[str, Asset]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{prefix}{entry.name}/", assets)
            continue
        kind = CONTENT_TYPES.get(entry.name[entry.name.rfind(".") :])
        if kind is not None:
            body = entry.read_bytes()
            assets[prefix + entry.name] = Asset(body, kind, f'"{hashlib.sha256(body).hexdigest()[:24]}"')
