"""One slot of one group from its survivor set to its sums.

Rules: pure; the set is fixed when the opening is made and never changes: members answer one set only, so the caller stores it
before it is shown. The first answer of a member counts; keys that come later complete one that had none. When members are left
out, the notice carries the survivors' signatures as soon as there are enough; before that they give no keys.
Not here: when the set is fixed (`groups`), masks (`openmg.masking.opening`), storage and MQTT (`service`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from openmg.masking import Commitments, SlotSums, require_committed, threshold
from openmg.masking.opening import MaskedReport, NotYet, open_sums
from openmg.masking.survivors import is_whole, set_of
from openmg.messages.slot_opening import OpeningNotice, SlotOpening
from openmg.messages.telemetry import Roster
from openmg.survivors import is_signed


class RefusedOpening(ValueError):
    """The answer belongs to no opening, or is not valid; the text says why."""


@dataclass(frozen=True)
class HeldReport:
    """A verified report: what opening needs of it, its proved commitments, and the signed message."""

    masked: MaskedReport
    commitments: Commitments
    raw: bytes


class Opening:
    """The answers to one survivor set. `reports`: those of the survivors, by address."""

    def __init__(self, roster: Roster, notice: OpeningNotice, reports: Mapping[bytes, HeldReport], chain_id: int) -> None:
        self.roster, self.slot, self.reports = roster, notice.slot, reports
        self._notice, self._chain_id, self._set = notice, chain_id, set_of(notice)
        self._signatures: dict[bytes, bytes] = {}
        self._keys: dict[bytes, bytes] = {}

    @property
    def whole(self) -> bool:
        """Whether nobody is left out."""
        return is_whole(self.roster, self._notice.survivors)

    @property
    def _enough(self) -> int:
        return threshold(len(self.roster.members))

    @property
    def signatures(self) -> dict[bytes, bytes]:
        """The survivors' signatures under the set, ascending by address; empty for a whole group, which needs none."""
        return {} if self.whole else {signer: self._signatures[signer] for signer in sorted(self._signatures)}

    @property
    def notice(self) -> OpeningNotice:
        """What is to be shown to the members now."""
        if self.whole or len(self._signatures) < self._enough:
            return self._notice
        return replace(self._notice, signers=tuple(self.signatures), signatures=tuple(self.signatures.values()))

    @property
    def silent(self) -> tuple[str, ...]:
        """Names of the survivors that gave no keys yet."""
        alive = set(self._notice.survivors) - self._keys.keys()
        return tuple(member.device for member in self.roster.members if member.address in alive)

    def take(self, sender: bytes, message: SlotOpening) -> bool:
        """Takes a survivor's answer; whether the members are to be shown the notice anew. Raises RefusedOpening."""
        if not is_signed(self._set, self._chain_id, sender, message.signature):
            raise RefusedOpening("the answer is not a survivor's, or is under another set than the one shown")
        before = len(self._signatures)
        self._signatures.setdefault(sender, message.signature)
        if message.keys:
            self._keys.setdefault(sender, message.keys)
        return not self.whole and before < self._enough <= len(self._signatures)

    def sums(self) -> SlotSums:
        """The sums, to which the commitments open. Raises NotYet while answers are missing, ValueError when they do not fit."""
        if len(self._keys) < (self._enough if self.whole else len(self.reports)):
            raise NotYet(f"{len(self._keys)} of {len(self.reports)} members have answered")
        sums = open_sums(self.roster, self.slot, {a: report.masked for a, report in self.reports.items()}, self._keys)
        require_committed(sums, (report.commitments for report in self.reports.values()))
        return sums
