"""What meters send for others than ingest: checked, and handed on to the hub.

Rules: a message counts when its device signed it and it speaks for no other, or when it proves itself later (reveals,
envelopes). Raises InvalidMessage for any other. Not here: reports, births, states and openings (`service`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from hub.ingest.events import IngestEvents
from hub.ingest.registry import FEEDER as FEEDER_ROLE
from hub.ingest.registry import Device
from hub.ingest.reports import M
from openmg.envelope import Envelope
from openmg.messages import base, topics
from openmg.messages.feeder import FEEDER_LIVE, FeederLive
from openmg.messages.learning import Ballot, Evaluation, UpdateCommit, UpdateReveal
from openmg.messages.private import STEP_MESSAGES


class OpenFrom(Protocol):
    """The message, signed by the device and speaking for no other. Raises InvalidMessage."""

    def __call__(self, cls: type[M], device: Device, payload: bytes) -> base.Signed[M]: ...


class Handed:
    """Handlers by leaf of a meter's topic; `heard_from` is told of each device that signed something."""

    def __init__(self, events: IngestEvents, open_from: OpenFrom, heard_from: Callable[[Device], None]) -> None:
        self._events, self._open, self._heard_from = events, open_from, heard_from
        self.handlers: dict[str, Callable[[Device, bytes], None]] = {
            topics.COMMIT: self._on_commit,
            topics.REVEAL: self._on_reveal,
            topics.BALLOT: self._on_ballot,
            **{leaf: partial(self._on_step, leaf) for leaf in STEP_MESSAGES},
            topics.EVALUATION: self._on_evaluation,
            topics.ENVELOPE: self._on_envelope,
            FEEDER_LIVE: self._on_feeder_live,
        }

    def _on_commit(self, device: Device, payload: bytes) -> None:
        signed = self._open(UpdateCommit, device, payload)
        self._heard_from(device)
        self._events.on_commit(device, signed, payload)

    def _on_reveal(self, device: Device, payload: bytes) -> None:
        self._events.on_reveal(device, base.decode(UpdateReveal, payload))

    def _on_ballot(self, device: Device, payload: bytes) -> None:
        signed = self._open(Ballot, device, payload)
        self._heard_from(device)
        self._events.on_ballot(device, signed, payload)

    def _on_evaluation(self, device: Device, payload: bytes) -> None:
        signed = self._open(Evaluation, device, payload)
        self._heard_from(device)
        self._events.on_evaluation(device, signed, payload)

    def _on_step(self, leaf: str, device: Device, payload: bytes) -> None:
        self._open(STEP_MESSAGES[leaf], device, payload)
        self._heard_from(device)
        self._events.on_private_step(device, leaf, payload)

    def _on_envelope(self, device: Device, payload: bytes) -> None:
        self._events.on_envelope(device, base.decode(Envelope, payload))

    def _on_feeder_live(self, device: Device, payload: bytes) -> None:
        if device.role != FEEDER_ROLE:
            raise base.InvalidMessage(f"{device.name} is not a feeder")
        live = self._open(FeederLive, device, payload).message
        self._heard_from(device)
        self._events.on_feeder_live(device, live)
