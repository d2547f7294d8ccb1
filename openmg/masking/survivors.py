"""Which survivor set of a slot a member may sign, and what signing it binds.

Rules:
- a set has at least `rosters.threshold` members of the roster, and a roster at least MIN_GROUP;
- where the feeder is read in clear, a set leaves out nobody or at least MIN_GROUP members: the feeder's energy less the sum
  would otherwise tell that of the few;
- the signature binds roster, slot, members and the very reports (by their self commitments), so that a meter which
  reported twice is opened once.
Not here: the signatures (`openmg.survivors`), a member's memory (`member`).
"""

from __future__ import annotations

from collections.abc import Sequence

from openmg.hashing import keccak256
from openmg.masking.rosters import MIN_GROUP, threshold
from openmg.messages.secure import SurvivorSet
from openmg.messages.slot_opening import OpeningNotice
from openmg.messages.telemetry import Roster


class RefusedSet(ValueError):
    """A survivor set that must not be signed; `kind` is one word for counters."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def survivor_set(roster: bytes, slot: int, survivors: Sequence[bytes], commitments: Sequence[bytes]) -> SurvivorSet:
    """What survivors sign: the set, under a name that says for which slot and of which reports. ValueError when malformed."""
    name = keccak256(b"openmg.slot.opening" + roster + slot.to_bytes(8, "big") + b"".join(commitments))
    return SurvivorSet(name, tuple(survivors))


def set_of(notice: OpeningNotice) -> SurvivorSet:
    return survivor_set(notice.roster_id, notice.slot, notice.survivors, notice.commitments)


def is_whole(roster: Roster, survivors: Sequence[bytes]) -> bool:
    """Whether nobody is left out."""
    return len(survivors) == len(roster.members)


def require_set(roster: Roster, survivors: Sequence[bytes]) -> None:
    """RefusedSet unless such a set may be opened at all."""
    members = {member.address for member in roster.members}
    enough, left = threshold(len(members)), len(members) - len(survivors)
    if not members >= set(survivors):
        raise RefusedSet("stranger", "the set holds somebody who is not in the roster")
    if len(survivors) < enough:
        raise RefusedSet("small", f"the set has {len(survivors)} of {len(members)} members; {enough} are needed")
    if roster.clear_feeder and 0 < left < MIN_GROUP:
        raise RefusedSet("feeder", f"the set leaves out {left}, whose energy would be the clear feeder's less the sum")
