"""The serial ports of this machine that a meter may hang on.

Rules: pyserial's list, USB adapters first, because that is what most meters are wired to; a port on which the kernel or a
login shows its console is left out, since whatever is asked there is typed into it. Nothing is opened.
Not here: asking who answers on them (`detect`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CONSOLES = Path("/sys/class/tty/console/active")
"""The console's devices by name, of which serial ones may be some (Linux: Documentation/admin-guide/serial-console)."""
USB = ("ttyUSB", "ttyACM", "ttyXRUSB")


def serial_ports() -> tuple[str, ...]:
    """Device files in the order to try them; none where the machine has none."""
    from serial.tools.list_ports import comports

    return in_order((port.device for port in comports()), _consoles())


def in_order(devices: Iterable[str], consoles: frozenset[str]) -> tuple[str, ...]:
    """USB adapters by number, then the others; consoles are left out."""
    named = {Path(device).name: device for device in devices}
    return tuple(named[name] for name in sorted(named, key=_rank) if name not in consoles)


def _rank(name: str) -> tuple[bool, str, int]:
    kind = name.rstrip("0123456789")
    return kind not in USB, kind, int(name.removeprefix(kind) or 0)


def _consoles() -> frozenset[str]:
    try:
        return frozenset(CONSOLES.read_text(encoding="ascii").split())
    except OSError:
        return frozenset()
