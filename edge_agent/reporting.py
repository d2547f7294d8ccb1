"""Reports of closed slots: masked and proved for a home, in clear for a feeder, each slot exactly once.

Rules: a home's slot leaves only under the masks of a roster that its operator signed, that is canonical,
large enough and holds this meter with its own mask key; of several rosters the one with the latest
`from_slot` not after the slot counts. A slot that was closed before its roster arrived is reported
afterwards. The store marks a slot as reported in the same transaction that puts its report into the outbox,
so no slot ever enters two sums, and no mask covers two values. A home's report commits to its energies and carries the
proof that they exist; it is made before that transaction, which would otherwise hold up the metering. Without a proof the
slot stays and is tried again. Calls may come from several threads; one works at a time.
Not here: sending (`publisher`), the prover (`slot_prover`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edge_agent.config import AgentConfig
from edge_agent.slot_prover import SlotProver
from edge_agent.store import SlotRow, Store
from openmg.identity import DeviceKey
from openmg.masking import Masker, make_roster
from openmg.messages import base
from openmg.messages.feeder import FEEDER, FeederReport
from openmg.messages.telemetry import Health, Roster, SlotReport
from openmg.messages.topics import SLOT
from openmg.zk.babyjub import compress
from openmg.zk.meters import meter_id
from openmg.zk.prover import ProverError
from openmg.zk.slot_openings import export_opening, import_opening
from openmg.zk.slot_proof import commit_witness

log = logging.getLogger(__name__)
MAX_ROSTERS = 8
"""Rosters kept; a new one is made when a meter joins or leaves."""
MAX_AT_ONCE = 96
"""Slots that a feeder reports in one go after a long absence: a day."""
PROVED_AT_ONCE = 8
"""Slots that a home proves in one go: half a second with the native backend, six seconds in Python."""
OPEN_SLOTS = 96
"""A day: the hub settles nothing older, so no roster is asked for it."""


class Reporter:
    """Turns closed slots of the store into signed reports in its outbox; `prover` is None for a feeder."""

    def __init__(self, config: AgentConfig, key: DeviceKey, store: Store, prover: SlotProver | None) -> None:
        self._config, self._key, self._store, self._prover = config, key, store, prover
        self._meter_id = meter_id(key.meter_secret)
        self._maskers: dict[int, Masker] = {}
        self._lock = threading.Lock()
        """Of the rosters; held for moments."""
        self._making = threading.Lock()
        """Held while slots are proved and put into the outbox."""
        self._said_unproved = False
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
        """Puts the slots that can be reported now into the outbox, some at a time; returns how many those were."""
        with self._making:
            return self._report_in_clear() if self._prover is None else self._report_masked(self._prover)

    def _report_in_clear(self) -> int:
        due = self._store.unreported(0, MAX_AT_ONCE)
        for row in due:

            def build(seq: int, outbox_rows: int, row: SlotRow = row) -> bytes:
                name = self._config.device.name
                return self._signed(FeederReport(name, seq, row.slot, row.import_wh, row.export_wh, self._health(outbox_rows)))

            self._store.report(row.slot, self.leaf, build)
        return len(due)

    def _report_masked(self, prover: SlotProver) -> int:
        with self._lock:
            maskers = dict(self._maskers)
        due = self._store.unreported(min(maskers), PROVED_AT_ONCE) if maskers else ()
        for done, row in enumerate(due):
            try:
                build = self._proved(row, maskers[max(first for first in maskers if first <= row.slot)], prover)
            except ProverError as error:
                if not self._said_unproved:
                    log.error("slot %d cannot be proved, so no slot is reported until it can: %s", row.slot, error)
                self._said_unproved = True
                return done
            self._said_unproved = False
            self._store.report(row.slot, self.leaf, build)
        return len(due)

    def _proved(self, row: SlotRow, masker: Masker, prover: SlotProver) -> Callable[[int, int], bytes]:
        """Makes the signed report from its seq and the outbox's rows. Raises ProverError."""
        exported = export_opening(self._key, row.slot, row.export_wh)
        imported = import_opening(self._key, row.slot, row.import_wh)
        witness = commit_witness(exported, imported, self._config.hub.chain_id, self._meter_id, row.slot)
        proof = prover.prove(witness)
        masked = masker.mask(row.slot, (row.import_wh, row.export_wh, exported.blinding, imported.blinding))
        commitments = compress(exported.point), compress(imported.point)

        def build(seq: int, outbox_rows: int) -> bytes:
            name, health = self._config.device.name, self._health(outbox_rows)
            return self._signed(SlotReport(name, seq, row.slot, masker.roster_id, masked, commitments, proof, health))

        return build

    def _signed(self, message: SlotReport | FeederReport) -> bytes:
        return base.sign(message, self._config.hub.chain_id, self._key.signing_key)

    def _health(self, outbox_rows: int) -> Health:
        return Health(int(time.monotonic() - self._began), self.polls, self.poll_errors, outbox_rows)

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
