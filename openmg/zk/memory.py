"""How much memory this process has needed at most; measured where a proof is made."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

BYTES_PER_MB = 1_000_000
BYTES_PER_KIB = 1024
MAXRSS_UNIT = 1 if sys.platform == "darwin" else BYTES_PER_KIB
"""Bytes in the unit of ru_maxrss."""

STATUS = Path("/proc/self/status")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def peak_rss_mb() -> float:
    """The largest resident set of this program so far, in MB of 10^6 bytes.

    Linux starts a child's ru_maxrss with the size of the process that started it, so VmHWM, which belongs to the
    program that runs now, is taken where there is one.
    """
    try:
        found = _PEAK.search(STATUS.read_text(encoding="ascii", errors="replace"))
    except OSError:
        found = None
    if found is not None:
        size = int(found[1]) * BYTES_PER_KIB
    else:
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT
    return round(size / BYTES_PER_MB, 1)
