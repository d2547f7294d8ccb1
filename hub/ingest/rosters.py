"""Which meters are summed together from which slot on.

Rules: pure; a roster is made from signed births when every registered home of the microgrid announced itself,
or when the caller says to wait no longer and there are enough. Replacing a roster takes effect in the slot
after the next boundary, so that every member can hear of it first; the very first one may begin earlier,
since nothing was summed before.
Not here: time, MQTT, signatures.
"""

from __future__ import annotations

from hub.ingest.registry import Device, Registry
from openmg.masking import MAX_GROUP, MIN_GROUP, make_roster
from openmg.messages.telemetry import Birth, Roster, RosterMember

MAX_ROSTERS = 16
"""Kept of each microgrid."""


class RosterBook:
    """Births and rosters of one hub."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._births: dict[str, Birth] = {}
        self._rosters: dict[int, tuple[Roster, ...]] = {}

    def known(self, microgrid: int) -> tuple[Roster, ...]:
        """The rosters of a microgrid, oldest first."""
        return self._rosters.get(microgrid, ())

    def since(self, microgrid: int, first_slot: int) -> tuple[Roster, ...]:
        """The rosters that cover `first_slot` or a later slot, newest first."""
        known = self.known(microgrid)
        ended = sum(following.from_slot <= first_slot for following in known[1:])
        return known[ended:][::-1]

    def record(self, roster: Roster) -> None:
        """Takes a roster as published; one that would have begun then or later is replaced by it."""
        earlier = tuple(item for item in self.known(roster.microgrid) if item.from_slot < roster.from_slot)
        self._rosters[roster.microgrid] = (*earlier, roster)[-MAX_ROSTERS:]

    def birth(self, device: Device, birth: Birth) -> bool:
        """Notes a verified birth; False when nothing changed."""
        if self._births.get(device.name) == birth:
            return False
        self._births[device.name] = birth
        return True

    def born(self, name: str) -> Birth | None:
        return self._births.get(name)

    def propose(self, microgrid: int, current_slot: int, first_slot: int, patient: bool) -> Roster | None:
        """The roster to publish and `record` now; None when the present one is right or more births are to come.

        current_slot: the slot that is running. first_slot: where a microgrid's very first roster begins.
        patient: wait for every registered home.
        """
        homes = self._registry.homes(microgrid)
        present = [device for device in homes if device.name in self._births][:MAX_GROUP]
        if len(present) < MIN_GROUP or (patient and len(present) < min(len(homes), MAX_GROUP)):
            return None
        known = self.known(microgrid)
        start, clear_feeder = current_slot + 1 if known else first_slot, self._registry.has_feeder(microgrid)
        roster = make_roster(microgrid, start, map(self._member, present), clear_feeder)
        return None if known and known[-1].members == roster.members else roster

    def too_small(self, microgrid: int) -> int | None:
        """How many homes announced themselves when these are too few for a group, so that nothing is published; else None."""
        homes = self._registry.homes(microgrid)
        born = sum(device.name in self._births for device in homes)
        return born if homes and born < MIN_GROUP and not self.known(microgrid) else None

    def _member(self, device: Device) -> RosterMember:
        birth = self._births[device.name]
        return RosterMember(
            device.name, device.address, birth.mask_public, birth.payment_key, birth.payment_box, device.approval
        )
