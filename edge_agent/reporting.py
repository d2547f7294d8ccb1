"""Reports of closed slots: masked for a home, in clear for a feeder, each slot exactly once.

Rules: a home's slot leaves only under the masks of a roster that its operator signed, that is canonical,
large enough and holds this meter with its own mask key; of several rosters the one with the latest
`from_slot` not after the slot counts. A slot that was closed before its roster arrived is reported
afterwards. The store marks a slot as reported in the same transaction that puts its report into the outbox,
so no slot ever enters two sums. Calls may come from several threads; one works at a time.
Not here: sending (`publisher`).
"""

from __future__ import annotations

import logging
import threading
import time

from edge_agent.config import AgentConfig
from edge_agent.store import SlotRow, Store
from openmg.identity import DeviceKey
from openmg.masking import Masker, make_roster
from openmg.messages import base
from openmg.messages.feeder import FEEDER, FeederReport
from openmg.messages.telemetry import Health, Roster, SlotReport
from openmg.messages.topics import SLOT

log = logging.getLogger(__name__)
MAX_ROSTERS = 8
"""Rosters kept; a new one is made when a meter joins or leaves."""
MAX_AT_ONCE = 96
"""Slots reported in one go after a long absence: a day."""
OPEN_SLOTS = 96
"""A day: the hub settles nothing older, so no roster is asked for it."""


class Reporter:
    """Turns closed slots of the store into signed reports in its outbox."""

    def __init__(self, config: AgentConfig, key: DeviceKey, store: Store) -> None:
        self._config, self._key, self._store = config, key, store
        self._maskers: dict[int, Masker] = {}
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.polls = self.poll_errors = 0

    @property
    def leaf(self) -> str:
        """The topic leaf of this meter's reports."""
        return FEEDER if self._config.home.role == "feeder" else SLOT

    def accept_roster(self, payload: bytes) -> bool:
        """Takes a roster; False when it is known. Raises InvalidMessage when it must not be used."""
        signed = base.open_signed(Roster, payload, self._config.hub.chain_id)
        roster = signed.message
        if signed.signer != self._config.hub.address:
            raise base.InvalidMessage(f"roster is signed by 0x{signed.signer.hex()}, not by the operator")
        if roster.microgrid != self._config.home.microgrid:
            raise base.InvalidMessage(f"roster is for microgrid {roster.microgrid}")
        try:
            if make_roster(roster.microgrid, roster.from_slot, roster.members) != roster:
                raise base.InvalidMessage("roster is not in canonical order")
            mine = [member for member in roster.members if member.address == self._key.address]
            if [member.mask_public for member in mine] != [self._key.mask_public]:
                raise base.InvalidMessage("roster does not hold this meter with its own mask key")
            masker = Masker(self._key, roster)
        except ValueError as error:
            raise base.InvalidMessage(f"roster: {error}") from error
        with self._lock:
            known = self._maskers.get(roster.from_slot)
            if known is not None and known.roster_id == masker.roster_id:
                return False
            self._maskers[roster.from_slot] = masker
            while len(self._maskers) > MAX_ROSTERS:
                del self._maskers[min(self._maskers)]
        log.info("roster of microgrid %d: %d members from slot %d", roster.microgrid, len(roster.members), roster.from_slot)
        return True

    def report_due(self) -> int:
        """Puts the slots that can be reported now into the outbox, MAX_AT_ONCE at most; returns how many those were."""
        feeder = self._config.home.role == "feeder"
        with self._lock:
            if not feeder and not self._maskers:
                return 0
            due = self._store.unreported(0 if feeder else min(self._maskers), MAX_AT_ONCE)
            for row in due:
                self._store.report(row.slot, self.leaf, lambda seq, rows, row=row: self._report(row, seq, rows))  # type: ignore[misc]
            return len(due)

    @property
    def has_roster(self) -> bool:
        """Whether the slots from now on can be reported."""
        return self._config.home.role == "feeder" or bool(self._maskers)

    def lacks_roster(self) -> bool:
        """Whether a roster is missing: any, or the one of a slot of the last day."""
        if not self.has_roster:
            return True
        if self._config.home.role == "feeder":
            return False
        with self._lock:
            first = min(self._maskers)
        oldest = self._store.unreported(self._store.present_slot() - OPEN_SLOTS, 1)
        return bool(oldest) and oldest[0].slot < first

    def _report(self, row: SlotRow, seq: int, outbox_rows: int) -> bytes:
        name = self._config.device.name
        health = Health(int(time.monotonic() - self._began), self.polls, self.poll_errors, outbox_rows)
        message: FeederReport | SlotReport
        if self._config.home.role == "feeder":
            message = FeederReport(name, seq, row.slot, row.import_wh, row.export_wh, health)
        else:
            masker = self._maskers[max(first for first in self._maskers if first <= row.slot)]
            masked = masker.mask(row.slot, (row.import_wh, row.export_wh))
            message = SlotReport(name, seq, row.slot, masker.roster_id, masked, health)
        return base.sign(message, self._config.hub.chain_id, self._key.signing_key)
