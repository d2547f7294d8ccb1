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


class RosterBook:
    """Births and rosters of one hub."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._births: dict[str, Birth] = {}
        self._rosters: dict[int, list[Roster]] = {}

    def known(self, microgrid: int) -> tuple[Roster, ...]:
        """The rosters of a microgrid, oldest first."""
        return tuple(self._rosters.get(microgrid, ()))

    def restore(self, roster: Roster) -> None:
        """Takes back a roster that was published before."""
        rosters = self._rosters.setdefault(roster.microgrid, [])
        rosters.append(roster)
        rosters.sort(key=lambda item: item.from_slot)

    def birth(self, device: Device, birth: Birth) -> bool:
        """Notes a verified birth; False when nothing changed."""
        if self._births.get(device.name) == birth:
            return False
        self._births[device.name] = birth
        return True

    def born(self, name: str) -> Birth | None:
        return self._births.get(name)

    def propose(self, microgrid: int, current_slot: int, first_slot: int, patient: bool) -> Roster | None:
        """The roster to publish now, recorded; None when the present one is right or more births are to come.

        current_slot: the slot that is running. first_slot: where a microgrid's very first roster begins.
        patient: wait for every registered home.
        """
        homes = self._registry.homes(microgrid)
        present = [device for device in homes if device.name in self._births][:MAX_GROUP]
        if len(present) < MIN_GROUP or (patient and len(present) < min(len(homes), MAX_GROUP)):
            return None
        rosters = self._rosters.setdefault(microgrid, [])
        roster = make_roster(microgrid, current_slot + 1 if rosters else first_slot, map(self._member, present))
        if rosters:
            if rosters[-1].members == roster.members:
                return None
            if rosters[-1].from_slot >= roster.from_slot:
                rosters.pop()  # replaced before it took effect
        rosters.append(roster)
        return roster

    def _member(self, device: Device) -> RosterMember:
        birth = self._births[device.name]
        return RosterMember(device.name, device.address, birth.mask_public, birth.payment_key, birth.payment_box)
