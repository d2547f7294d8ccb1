"""A home's answers to its hub's wish to open a slot, each promised durably before it leaves.

Rules: only the operator's questions count. A question that must not be answered is refused, counted (`Promises.refusals`) and
said at the first and every hundredth time; a question that leaves this meter out is counted alike, since it may be a feigned
drop-out. What other groups are asked is not this meter's to answer. Nothing of it ends or delays the metering.
Not here: what may be answered (`openmg.masking.member`), MQTT (`edge_agent.agent`).
"""

from __future__ import annotations

import logging

from edge_agent.config import AgentConfig
from edge_agent.masking.promises import Promises
from edge_agent.masking.rosters import open_roster
from openmg.identity import DeviceKey
from openmg.masking import Masker
from openmg.masking.member import answer
from openmg.masking.survivors import RefusedSet
from openmg.messages import base
from openmg.messages.slot_opening import OpeningNotice

log = logging.getLogger(__name__)
MAX_MASKERS = 8
"""Rosters whose pairwise secrets are held for answers."""


class Openings:
    """Answers notices with what `promises` allows."""

    def __init__(self, config: AgentConfig, key: DeviceKey, promises: Promises) -> None:
        self._config, self._key, self._promises = config, key, promises
        self._maskers: dict[bytes, Masker] = {}

    def answer(self, payload: bytes) -> bytes | None:
        """The signed answer to a notice, the same again for the same notice; None when there is none to give.

        Raises InvalidMessage for what is no question of the operator, StoreError when the promise cannot be kept.
        """
        signed = base.open_signed(OpeningNotice, payload, self._config.hub.chain_id)
        if signed.signer != self._config.hub.address:
            raise base.InvalidMessage(f"survivor set is signed by 0x{signed.signer.hex()}, not by the operator")
        notice = signed.message
        promise = self._promises.of(notice.slot)
        try:
            if self._key.address not in notice.survivors and (promise is None or promise.roster_id != notice.roster_id):
                return None  # of another group, or of a slot that this meter did not report
            if promise is None:
                raise RefusedSet("unreported", f"slot {notice.slot} was not reported, or is no longer remembered")
            masker = self._masker(promise.roster_id)
            promised, opening = answer(masker, promise, notice, self._config.hub.chain_id, self._key.signing_key)
            if not self._promises.answer(promised):  # asked twice at once
                raise RefusedSet("second", f"another set of slot {notice.slot} was answered")
        except RefusedSet as error:
            self._refuse(error)
            return None
        return base.sign(opening, self._config.hub.chain_id, self._key.signing_key)

    def _masker(self, roster_id: bytes) -> Masker:
        if roster_id not in self._maskers:
            payload = self._promises.roster(roster_id)
            if payload is None:
                raise RefusedSet("roster", "the roster of the slot is no longer remembered")
            self._maskers[roster_id] = open_roster(payload, self._config, self._key)
            while len(self._maskers) > MAX_MASKERS:
                del self._maskers[next(iter(self._maskers))]
        return self._maskers[roster_id]

    def _refuse(self, error: RefusedSet) -> None:
        self._promises.refuse(error.kind)
        count = self._promises.refusals()[error.kind]
        if count % 100 == 1:
            log.warning("the hub's question is not answered: %s (%s, %d so far)", error, error.kind, count)
