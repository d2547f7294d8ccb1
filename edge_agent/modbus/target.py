"""Where a bus is: a serial line, or the host and port of a meter or gateway.

Rules: pure; two targets with the same `where` are the same bus, and one bus has one owner. Silent times follow the bit
rate. Source: Modbus over Serial Line V1.02 sections 2.5.1 (silence between frames) and 2.5.2.1 (11 bits a character).
Not here: opening it (`connection`).
"""

from __future__ import annotations

from dataclasses import dataclass

PARITIES = ("N", "E", "O")
BITS_PER_CHARACTER = 11
CHARACTERS_BETWEEN_FRAMES = 3.5
LEAST_GAP_S = 0.00175
"""The gap above 19200 bit/s, where 3.5 characters would be shorter than a computer can time."""


@dataclass(frozen=True)
class BusTarget:
    """A bus, how frames travel on it, how long an answer may take and the silence after a missing one (s)."""

    host: str = ""
    port: int = 502
    transport: str = "tcp"
    timeout_s: float = 1.0
    drain_s: float = 0.4
    serial: str = ""
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1

    @property
    def where(self) -> str:
        """The port's name: a device file, or host and port."""
        return self.serial if self.transport == "rtu" else f"{self.host}:{self.port}"

    @property
    def gap_s(self) -> float:
        """Silence between an answer and the next request; only a serial line needs it."""
        if self.transport != "rtu":
            return 0.0
        return max(LEAST_GAP_S, CHARACTERS_BETWEEN_FRAMES * BITS_PER_CHARACTER / self.baud)

    def __str__(self) -> str:
        return self.where
