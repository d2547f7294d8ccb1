"""What the agents of one process share: buses, the training thread, and the turns of those that prove.

Rules: one port has one owner, so agents whose meters are on one port read through one link, which waits as long as the most
patient of their profiles says. Training and proofs take memory for a moment, so one model is trained, one slot proved and one
child of a wallet alive at a time, whatever the number of agents; who waits for its turn holds nothing but its wish. Polls of
the agents are spread over MOMENTS of their rhythm; those of one moment wake the process once, which costs a third less than
as many wakes do.
Not here: who the agents are and when they start (`gateway`).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.target import BusTarget
from openmg.config import ConfigError

if TYPE_CHECKING:
    from edge_agent.dlms.line import Line

MOMENTS = 10
"""Of a rhythm, in which agents poll: meters that share a moment and a bus wait for each other, so few share one. Ten agents
share none."""
STEP = 3
"""From one agent's moment to the next one's; it has no factor in common with MOMENTS, so every moment is in use before one is
shared, and few agents do not poll in neighbouring ones."""


MANY_AGENTS = 10
"""From so many on raw readings are committed more seldom: each commit writes some 20 kB for each meter."""
FLUSH_SECONDS, FLUSH_SECONDS_OF_MANY = 10.0, 30.0
"""Wall time between commits of raw readings, which is what a power cut can take of them, and never energy. Ten seconds are a
sixth of the flash writes of one commit a second."""


class Shared:
    """Made once a process, for so many agents; an agent that is alone has one of its own."""

    def __init__(self, agents: int = 1) -> None:
        self.flush_seconds = FLUSH_SECONDS if agents < MANY_AGENTS else FLUSH_SECONDS_OF_MANY
        self._buses: WeakValueDictionary[str, ModbusLink] = WeakValueDictionary()
        """A link lives while an agent has it."""
        self._lines: WeakValueDictionary[str, Line] = WeakValueDictionary()
        self._moment = 0
        self.training = ThreadPoolExecutor(max_workers=1, thread_name_prefix="learning")
        """Its queue holds one wish of each agent at the most."""
        self.one_start = asyncio.Lock()
        self.one_slot_proof = asyncio.Lock()
        self.one_wallet_proof = asyncio.Lock()

    def close(self) -> None:
        """Ends the training thread, after the agents."""
        self.training.shutdown(wait=True, cancel_futures=True)

    def bus(self, target: BusTarget) -> ModbusLink:
        """The link of the target's port; ConfigError when another agent has told other settings for that line."""
        self._require_no_other(target, self._lines)
        link = self._buses.setdefault(target.where, ModbusLink(target))
        known = link.target
        both = replace(known, timeout_s=max(known.timeout_s, target.timeout_s), drain_s=max(known.drain_s, target.drain_s))
        if replace(target, timeout_s=both.timeout_s, drain_s=both.drain_s) != both:
            raise _told_twice(target)
        link.target = both
        return link

    def line(self, target: BusTarget) -> Line:
        """The HDLC line of the target's port; ConfigError as for `bus`."""
        from edge_agent.dlms.line import Line

        self._require_no_other(target, self._buses)
        line = self._lines.setdefault(target.where, Line(target))
        if replace(target, timeout_s=line.target.timeout_s) != line.target:
            raise _told_twice(target)
        return line

    def _require_no_other(self, target: BusTarget, others: WeakValueDictionary[str, Any]) -> None:
        if target.where in others:
            raise ConfigError(f"meter: {target.where} is read over Modbus and over DLMS; one line has one protocol")

    def next_phase(self) -> float:
        """Where in its rhythm the next agent polls, 0 to less than 1."""
        moment, self._moment = self._moment, (self._moment + STEP) % MOMENTS
        return moment / MOMENTS


def _told_twice(target: BusTarget) -> ConfigError:
    return ConfigError(
        f"meter: {target.where} is one line, and another file gives it another transport, baud, parity or stop_bits;"
        " write the same into both"
    )
