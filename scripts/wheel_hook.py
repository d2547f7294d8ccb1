"""Names the machines in the wheel's file name, so that pip refuses it on a 32-bit one in a sentence (hatchling calls it).

Rules: the wheel holds no machine code and is the same for all of them; without these tags pip would begin to compile the
libraries there, most of which have no 32-bit wheel, and end with the first compiler's words. An editable install is for
whoever works on the sources and gets none. Source: PyPA specifications, platform compatibility tags (compressed sets).
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLATFORMS = ("manylinux2014_x86_64", "manylinux2014_aarch64")
"""With the oldest glibc that the libraries' own wheels are for."""


class MachineTags(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["tag"] = f"py3-none-{'.'.join(PLATFORMS)}"
