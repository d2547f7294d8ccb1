"""What ingest tells the rest of the hub. Override what is of interest; every call comes in the hub's loop.

Rules: everything handed on is verified: the sender is registered, its signature is right and the message is
its own. `on_slot` is called again after a failure or a restart until it returned once, so its receiver must
take repetition.
"""

from __future__ import annotations

from hub.ingest.groups import Gap, GroupSum
from hub.ingest.joining import OpenedSlot
from hub.ingest.registry import Device
from hub.ingest.rosters import Grouping
from openmg.envelope import Envelope
from openmg.messages.base import Signed
from openmg.messages.feeder import FeederLive, FeederReport
from openmg.messages.learning import Ballot, Evaluation, UpdateCommit, UpdateReveal
from openmg.messages.telemetry import Birth


class IngestEvents:
    """Hears nothing; the hub overrides what it wants."""

    async def on_slot(self, slot: OpenedSlot) -> None:
        """A slot's sums: of all its groups, or of those that are open when the others have waited long enough."""

    def on_group(self, group: GroupSum) -> None:
        """A group was opened; its slot follows. Told again after a restart."""

    def on_gap(self, gap: Gap) -> None:
        """A group that stays closed, and why."""

    def on_small_group(self, microgrid: int, present: int, needed: int) -> None:
        """A microgrid publishes nothing, because fewer homes than a group takes announced themselves; told when it changes."""

    def on_grouping(self, grouping: Grouping) -> None:
        """A microgrid's rosters were published."""

    def on_birth(self, device: Device, birth: Birth) -> None:
        """A meter announced itself, or changed what it announced."""

    def on_state(self, device: Device, online: bool) -> None:
        """The broker saw a meter come or go."""

    def on_feeder(self, device: Device, report: FeederReport) -> None:
        """Energy of a slot through a feeder, stored."""

    def on_feeder_live(self, device: Device, live: FeederLive) -> None:
        """Power through a feeder now."""

    def on_commit(self, device: Device, signed: Signed[UpdateCommit], raw: bytes) -> None:
        """A commitment to an update of the open learning round; `raw` is the signed message."""

    def on_reveal(self, device: Device, reveal: UpdateReveal) -> None:
        """The blob behind a commitment; it is not signed, the commitment on the chain proves it or not."""

    def on_ballot(self, device: Device, signed: Signed[Ballot], raw: bytes) -> None:
        """A committee member's word on a candidate; `raw` is the signed message."""

    def on_evaluation(self, device: Device, signed: Signed[Evaluation], raw: bytes) -> None:
        """A meter's loss of the agreed model; `raw` is the signed message."""

    def on_private_step(self, device: Device, leaf: str, raw: bytes) -> None:
        """A device's step in a private round: the signed message of its topic's leaf."""

    def on_envelope(self, device: Device, envelope: Envelope) -> None:
        """An envelope to carry to a relay; it is not signed, its sender is only known to the broker."""
