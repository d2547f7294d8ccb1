"""From a replica that has proof of equivocation to the chain that records it: an ordinary transaction.

The engine does not know what transactions look like; an application that wants the proof says how it is written.
Another one only has it counted. Nothing is kept here: every honest hub that saw both statements submits the same
bytes, and the mempool holds them until a block does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from hub.ppdl.application import Application
from hub.ppdl.consensus.evidence import Evidence
from hub.ppdl.mempool import TxRefused

log = logging.getLogger(__name__)


@runtime_checkable
class RecordsEvidence(Protocol):
    """An application that records equivocation on its chain."""

    def evidence_tx(self, evidence: bytes) -> bytes:
        """The transaction that carries encoded `consensus.evidence.Evidence`."""
        ...


async def submit_evidence(app: Application, evidence: Evidence, submit: Callable[[bytes], Awaitable[bytes]]) -> None:
    """Submit the proof where the application records it; a refusal, mostly because another hub was faster, is noted."""
    if not isinstance(app, RecordsEvidence):
        return
    try:
        await submit(app.evidence_tx(evidence.encoded))
    except TxRefused as refused:
        log.info("PPDL evidence does not wait here: %s", refused)
