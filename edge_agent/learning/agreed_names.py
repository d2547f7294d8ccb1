"""Where the agreed models lie in the state folder, for who must not load what reads them (numpy).

Not here: their content (`agreed_file`).
"""

from __future__ import annotations

FILES = "learning-*.agreed"


def file_name(model: bytes) -> str:
    """Of a model's short name."""
    return FILES.replace("*", model.hex())
