"""A payload of 2 MiB is given back at once, whatever was made meanwhile, so that the next one makes the process no larger."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from pathlib import Path
from hub.ppdl.net.heap import keep_large_payloads_off

def resident_kib():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))

if sys.argv[1] == "told":
    keep_large_payloads_off()
first = bytes(range(256)) * 8192  # after its end an untold library takes what is as large from the heap
del first
before, kept = resident_kib(), []
for _ in range(8):
    payload = bytearray(range(256)) * 8192
    kept.append(b"k" * 2000 + bytes(len(kept)))  # small things, above it
    del payload
    kept.append(b"k" * 2000 + bytes(len(kept)))  # and in its place
print(json.dumps(resident_kib() - before))
"""


def growth_kib(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=60, check=True)
    return int(json.loads(done.stdout))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_large_payloads_leave_no_hole_in_the_heap() -> None:
    assert growth_kib("untold") > 1024  # so there is something to prevent
    assert growth_kib("told") < 512
