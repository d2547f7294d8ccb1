"""Reports of closed slots: masked and proved for a home, in clear for a feeder, each slot exactly once.

Rules: a home's slot leaves only under the masks of a roster that may be used (`masking.rosters`). A slot that was closed before
its roster arrived is reported afterwards. Roster and self mask of a slot are promised durably (`masking.promises`), then the
store marks it as reported in the same transaction that puts its report into the outbox, so no slot ever enters two sums, and a
restart between the two repeats the report under the same roster. A home's report commits to its energies and carries the
proof that they exist; it is made before that transaction, which would otherwise hold up the metering. Without a proof the
slot stays and is tried again. Calls may come from several threads; one works at a time.
Not here: sending (`publisher`), the prover (`slot_prover`), the opening of reported slots (`masking.openings`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edge_agent.config import AgentConfig
from edge_agent.masking.openings import Openings
from edge_agent.masking.promises import Promises
from edge_agent.masking.rosters import Rosters, open_roster
from edge_agent.slot_prover import SlotProver
from edge_agent.store import SlotRow, Store
from openmg.hashing import keccak256
from openmg.identity import DeviceKey
from openmg.masking import MaskedSlot, Masker
from openmg.masking.member import Promise
from openmg.messages import base
from openmg.messages.feeder import FEEDER, FeederReport
from openmg.messages.slot_opening import SlotDelivery
from openmg.messages.telemetry import Health, SlotReport
from openmg.messages.topics import SLOT
from openmg.zk.babyjub import compress
from openmg.zk.meters import meter_id
from openmg.zk.prover import ProverError
from openmg.zk.slot_openings import export_opening, import_opening
from openmg.zk.slot_proof import commit_witness

log = logging.getLogger(__name__)
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
        self.promises = None if prover is None else Promises(config.promises_path)
        """None for a feeder, which masks nothing and so has nothing to remember or to answer."""
        self.rosters = Rosters(config, key)
        self.openings = None if self.promises is None else Openings(config, key, self.promises)
        self._making = threading.Lock()
        """Held while slots are proved and put into the outbox."""
        self.unproved = False
        """Whether the last slot that was to be proved could not be."""
        self._began = time.monotonic()
        self.polls = self.poll_errors = 0

    def close(self) -> None:
        if self.promises is not None:
            self.promises.close()

    @property
    def leaf(self) -> str:
        """The topic leaf of this meter's reports."""
        return FEEDER if self._config.home.role == "feeder" else SLOT

    def accept_roster(self, payload: bytes) -> bool:
        """Takes a roster; False when it is known. Raises InvalidMessage when it must not be used."""
        return self.rosters.accept(payload)

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
        first = self.rosters.first_slot
        due = () if first is None else self._store.unreported(first, PROVED_AT_ONCE)
        for done, row in enumerate(due):
            try:
                build = self._proved(row, prover)
            except ProverError as error:
                if not self.unproved:
                    log.error("slot %d cannot be proved, so no slot is reported until it can: %s", row.slot, error)
                self.unproved = True
                return done
            self.unproved = False
            self._store.report(row.slot, self.leaf, build)
        return len(due)

    def _proved(self, row: SlotRow, prover: SlotProver) -> Callable[[int, int], bytes]:
        """Makes what is delivered from the report's seq and the outbox's rows; the promise is kept then. Raises ProverError."""
        exported = export_opening(self._key, row.slot, row.export_wh)
        imported = import_opening(self._key, row.slot, row.import_wh)
        witness = commit_witness(exported, imported, self._config.hub.chain_id, self._meter_id, row.slot)
        proof = prover.prove(witness)
        values = row.import_wh, row.export_wh, exported.blinding, imported.blinding
        masker, masked = self._masked(row.slot, values)
        bound = masked.self_commitment, keccak256(masked.shares)
        commitments = compress(exported.point), compress(imported.point)

        def build(seq: int, outbox_rows: int) -> bytes:
            name, health = self._config.device.name, self._health(outbox_rows)
            report = SlotReport(name, seq, row.slot, masker.roster_id, masked.masked, *bound, commitments, proof, health)
            return base.encode(SlotDelivery(self._signed(report), masked.shares))

        return build

    def _masked(self, slot: int, values: tuple[int, int, int, int]) -> tuple[Masker, MaskedSlot]:
        """The slot's values under masks that are promised from now on: those of its first promise when there is one."""
        promises = self.promises
        assert promises is not None  # only a home masks
        before = promises.of(slot)
        payload = None if before is None else promises.roster(before.roster_id)
        if payload is None:
            masker, payload = self.rosters.for_slot(slot)
        else:
            masker = open_roster(payload, self._config, self._key)
        masked = masker.mask(slot, values)
        promises.report(Promise(slot, masker.roster_id, masked.self_commitment), payload)
        return masker, masked

    def _signed(self, message: SlotReport | FeederReport) -> bytes:
        return base.sign(message, self._config.hub.chain_id, self._key.signing_key)

    def _health(self, outbox_rows: int) -> Health:
        return Health(int(time.monotonic() - self._began), self.polls, self.poll_errors, outbox_rows)

    @property
    def has_roster(self) -> bool:
        """Whether the slots from now on can be reported."""
        return self._config.home.role == "feeder" or self.rosters.first_slot is not None

    def lacks_roster(self) -> bool:
        """Whether a roster is missing: any, or the one of a slot of the last day."""
        if not self.has_roster:
            return True
        if self._config.home.role == "feeder":
            return False
        first = self.rosters.first_slot
        oldest = self._store.unreported(self._store.present_slot() - OPEN_SLOTS, 1)
        return first is not None and bool(oldest) and oldest[0].slot < first
