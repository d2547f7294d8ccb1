"""What carries APDUs to a meter and back, whatever is below: the TCP wrapper, or HDLC. Not here: the carriers themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_agent.dlms_section import DlmsSection

MAX_APDU_BYTES = 2048
"""No answer of a register comes near; what is longer is no answer."""


class NoAnswer(Exception):
    """The meter cannot be reached or says nothing; one half of a sentence."""


@dataclass(frozen=True)
class DlmsTarget:
    """Where the meter is, how long it may take to answer (s), and how it is spoken to. serial: in place of host and port."""

    host: str
    port: int
    timeout_s: float
    section: DlmsSection
    serial: str = ""

    @property
    def where(self) -> str:
        """The serial port, or host and port."""
        return self.serial or f"{self.host}:{self.port}"


class Carrier(Protocol):
    """Made for one connection; use after `open`, until the first failure (then `abandon`) or `close`."""

    async def open(self) -> None:
        """Connects; NoAnswer, Denied or Garbled."""

    async def exchange(self, apdu: bytes) -> bytes:
        """The answer to an APDU; NoAnswer or Garbled."""

    def abandon(self) -> None:
        """Ends the connection at once, without a word."""

    async def close(self) -> None:
        """Ends the connection as the meter expects, or after one time-out."""
