"""Which meter a line of the log is about, where several agents share a process: the device's name goes before the text.

Rules: the name travels with the tasks and the threads that an agent starts (`contextvars`), so no part of an agent knows of
it; what belongs to all, as a bus does, has the name of whoever started it or none. Not here: what is said.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

DEVICE: ContextVar[str] = ContextVar("device", default="")
"""The device on whose behalf this code runs; "" where an agent is alone."""


class WithDevice(logging.Filter):
    """Puts the device's name before each record's text; for the handlers of the root logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        name = DEVICE.get()
        if name and not str(record.msg).startswith("["):
            record.msg = f"[{name}] {record.msg}"
        return True


def name_devices() -> None:
    """From now on; handlers that are added later do not."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(WithDevice())
