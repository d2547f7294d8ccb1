"""Who may write and read which topic at the broker: lines of a mosquitto access list, one section for each device.

Rules: everything is denied that is not listed. A device writes below its own branch and reads what hubs tell everybody and what
they tell it. The list names each device, and uses no pattern for all: a device that is taken out of it has no topic any more at
the broker's next reload, also while its old connection lasts. Pure.
Not here: which topics there are (`openmg.messages.topics`).
"""

from __future__ import annotations

from collections.abc import Iterable

from openmg.enrolment.certificates import HUB_PREFIX
from openmg.messages import topics


def writable(device: str) -> tuple[str, ...]:
    """Filters that a device may publish under."""
    return (topics.from_meter(device, "+"),)


def readable(device: str) -> tuple[str, ...]:
    """Filters that a device may read."""
    return (topics.to_device(device), *topics.TOLD_TO_ALL)


def access_list(devices: Iterable[str], hub: str) -> str:
    """The file's text for these devices and the operator's hub."""
    sections = [_section(HUB_PREFIX + hub, (topics.ALL_FROM_HUBS,), (topics.ALL_FROM_METERS,))]
    sections += [_section(device, writable(device), readable(device)) for device in sorted(devices)]
    head = "# Written by openmg-hub devices; changes by hand are lost. Reload the broker (SIGHUP) after each change.\n"
    return head + "\n".join(sections)


def _section(user: str, writes: tuple[str, ...], reads: tuple[str, ...]) -> str:
    lines = [f"user {user}", *(f"topic write {item}" for item in writes), *(f"topic read {item}" for item in reads)]
    return "\n".join(lines) + "\n"
