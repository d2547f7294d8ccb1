"""What `openmg-agent doctor` looks at on the board itself: the state folder, the disk and the clock.

Rules: a trial file is written and removed, nothing else is changed. Not here: meter (`doctor_meter`), broker and hub
(`doctor`).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from pathlib import Path

from edge_agent.config import AgentConfig, ClockSection
from edge_agent.doctor_finding import CheckFailed
from edge_agent.retention import NEAR_PERCENT
from edge_agent.state_folder import folder_bytes, free_bytes
from edge_agent.store import Store

MIN_FREE_BYTES = 50 * 1024 * 1024
TRIAL_BYTES = 64 * 1024
"""More than a commit of the store writes at once."""
FIRST_CREDIBLE_TIME = 1_577_836_800
"""1 January 2020: a board without battery wakes up in 1970."""
STA_UNSYNC, TIME_ERROR = 0x40, 5
"""`adjtimex` of Linux: the kernel's clock is not synchronised (include/uapi/linux/timex.h)."""


async def folder(config: AgentConfig) -> str:
    """The state folder is ours and closed to others."""
    path = config.device.state_dir
    try:
        if not path.exists():
            return f"{path} is made at the first start"
    except PermissionError as error:
        raise CheckFailed(f"{path} cannot be looked at by this user; run the doctor as the agent's user") from error
    if not path.is_dir():
        raise CheckFailed(f"{path} is no folder; move it away, or correct state_dir")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise CheckFailed(f"{path} belongs to {_owner(path)} and may not be written by this user; {_chown(path)}")
    for file in path.iterdir():
        if file.name.startswith("store.sqlite") and file.is_file() and not os.access(file, os.R_OK | os.W_OK):
            raise CheckFailed(f"{file} belongs to {_owner(file)} and may not be written by this user; {_chown(path)}")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CheckFailed(f"{path} holds what this home consumes and is open to others; run `chmod 700 {path}`")
    return f"{path} is this user's alone"


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def _chown(path: Path) -> str:
    return f"run the doctor as the agent's user, or `chown -R` the folder {path} to it"


async def store(config: AgentConfig) -> str:
    opened = Store(config.store_path)
    try:
        totals = opened.totals()
    finally:
        opened.close()
    if totals.refused_rows:
        raise CheckFailed(
            f"the hub refused {totals.refused_rows} reports, which are set aside; bring this program and the hub to the same"
            f" version, then `openmg-agent store retry` (why: `openmg-agent store info`)"
        )
    dropped = totals.dropped_readings + totals.dropped_slots
    text = f"{totals.slots} slots, {totals.outbox_rows} reports waiting, {totals.lost} lost"
    return f"{text}, {totals.thinned} readings thinned, {dropped} readings and slots dropped"


async def disk(config: AgentConfig) -> str:
    """There is room, and the disk takes what is written."""
    path = config.device.state_dir
    free, used, budget = free_bytes(path), folder_bytes(path), config.store.budget_bytes
    space = os.statvfs(path)
    if free < MIN_FREE_BYTES:
        raise CheckFailed(f"only {free // 2**20} MiB free in {path}; make room")
    if space.f_files and not space.f_favail:
        raise CheckFailed(f"no file can be made in {path} any more (no inodes left); remove files")
    trial = path / f"doctor-{os.getpid()}.trial"
    try:
        with trial.open("wb") as file:
            file.write(os.urandom(TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckFailed(f"the disk of {path} takes no {TRIAL_BYTES // 1024} KiB ({error.strerror}); make room") from error
    finally:
        trial.unlink(missing_ok=True)
    if budget - used > free:
        raise CheckFailed(
            f"{path} may still grow by {(budget - used) // 10**6} MB and only {free // 10**6} MB are free; make room, or set a"
            " smaller disk_budget_mb in [store]"
        )
    if used * 100 > budget * NEAR_PERCENT:
        raise CheckFailed(
            f"{path} takes {used // 10**6} of {budget // 10**6} MB, so old readings are thinned and dropped; raise"
            " disk_budget_mb in [store], or move away what is not the agent's"
        )
    return f"{path} takes {used // 10**6} of {budget // 10**6} MB, {free // 10**6} MB free"


async def clock(config: AgentConfig) -> str:
    """The clock shows a credible time and, when it is the real one, something keeps it right."""
    virtual = config.clock.clock()
    if virtual.now() < FIRST_CREDIBLE_TIME:
        raise CheckFailed("the clock stands before 2020; set the time (chrony, timedatectl) or correct [clock]")
    text = f"slot {virtual.slot()}, {virtual.slot_wall_seconds():g} s each"
    if config.clock != ClockSection():
        return f"{text}, on the clock of a simulation"
    if not is_synchronised():
        raise CheckFailed(
            "the clock is not synchronised, so slots drift from the neighbours'; run `timedatectl set-ntp true`, or install"
            " chrony"
        )
    return f"{text}, synchronised"


def is_synchronised() -> bool:
    """Whether the kernel says that something (NTP, PTP) keeps its clock; True where it cannot be asked."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "adjtimex"):
        return True
    buffer = ctypes.create_string_buffer(512)  # struct timex is 208 bytes on 64-bit Linux; modes = 0 changes nothing
    state = library.adjtimex(buffer)
    (status,) = struct.unpack_from("@i", buffer.raw, struct.calcsize("@Illll"))
    return not (state == TIME_ERROR or status & STA_UNSYNC)
