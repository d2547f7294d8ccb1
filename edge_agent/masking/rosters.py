"""The rosters that a home masks under.

Rules: a roster counts when the operator signed it, it is canonical, large enough, holds this meter with its own mask key and,
where the configuration names a utility, the utility approved every member: so an operator cannot surround a home with meters of
its own making. Of several rosters the one with the latest `from_slot` not after a slot counts for it. What is refused is
counted and said by the caller. Rosters of the microgrid's other groups, which do not hold this meter, are of no concern.
Not here: which slots were reported under which (`promises`).
"""

from __future__ import annotations

import logging
import threading

from edge_agent.config import AgentConfig
from openmg.identity import DeviceKey
from openmg.masking import Masker, make_roster
from openmg.masking.rosters import require_approved
from openmg.messages import base
from openmg.messages.telemetry import Roster

log = logging.getLogger(__name__)
MAX_ROSTERS = 8
"""Rosters kept; a new one is made when a meter joins or leaves."""


def open_roster(payload: bytes, config: AgentConfig, key: DeviceKey) -> Masker:
    """The masks under a roster that may be used. Raises InvalidMessage for any other."""
    return _masker(_of_operator(payload, config), config, key)


def _of_operator(payload: bytes, config: AgentConfig) -> Roster:
    signed = base.open_signed(Roster, payload, config.hub.chain_id)
    if signed.signer != config.hub.address:
        raise base.InvalidMessage(f"roster is signed by 0x{signed.signer.hex()}, not by the operator")
    return signed.message


def _masker(roster: Roster, config: AgentConfig, key: DeviceKey) -> Masker:
    if roster.microgrid != config.home.microgrid:
        raise base.InvalidMessage(f"roster is for microgrid {roster.microgrid}")
    try:
        said = roster.microgrid, roster.from_slot, roster.members, roster.clear_feeder, roster.operator
        if make_roster(*said) != roster:
            raise base.InvalidMessage("roster is not in canonical order")
        mine = [member for member in roster.members if member.address == key.address]
        if [member.mask_public for member in mine] != [key.mask_public]:
            raise base.InvalidMessage("roster does not hold this meter with its own mask key")
        if config.hub.utility_address is not None:
            require_approved(roster, config.hub.chain_id, config.hub.utility_address)
        return Masker(key, roster)
    except ValueError as error:
        raise base.InvalidMessage(f"roster: {error}") from error


class Rosters:
    """The rosters heard since the start, by the slot they begin in; calls may come from several threads."""

    def __init__(self, config: AgentConfig, key: DeviceKey) -> None:
        self._config, self._key = config, key
        self._known: dict[int, tuple[Masker, bytes]] = {}
        self._lock = threading.Lock()

    def accept(self, payload: bytes) -> bool:
        """Takes a roster; False when it is known, or another group's. Raises InvalidMessage when it must not be used."""
        roster = _of_operator(payload, self._config)
        if self._key.address not in {member.address for member in roster.members}:
            return False
        masker = _masker(roster, self._config, self._key)
        with self._lock:
            known = self._known.get(roster.from_slot)
            if known is not None and known[0].roster_id == masker.roster_id:
                return False
            self._known[roster.from_slot] = masker, payload
            while len(self._known) > MAX_ROSTERS:
                del self._known[min(self._known)]
        log.info("roster of microgrid %d: %d members from slot %d", roster.microgrid, len(roster.members), roster.from_slot)
        if self._config.hub.utility_address is None:
            log.warning("no utility is configured, so this roster's members are the operator's word alone; set hub.utility")
        return True

    @property
    def first_slot(self) -> int | None:
        """The first slot that a roster covers; None without any."""
        with self._lock:
            return min(self._known) if self._known else None

    def for_slot(self, slot: int) -> tuple[Masker, bytes]:
        """The masks of a covered slot, and the signed roster."""
        with self._lock:
            return self._known[max(first for first in self._known if first <= slot)]
