"""Proofs for the wallet and the market: one at a time, in a child process, tried again while there is time.

Rules: a child needs up to 300 MB, so a second proof waits for the first, also when it is another wallet's of this process.
Not here: the child (`openmg.zk.prover`), what is proved.
"""

from __future__ import annotations

import asyncio
import logging
import time

from edge_agent.config import WalletSection
from openmg.zk.prover import ProofRequest, ProofResult, ProverError, prove_in_child

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 2.0
"""Before a proof that failed is tried again (the child may have been short of memory); doubled each time."""


class Prover:
    """The proofs of one wallet, with the keys of its configuration."""

    def __init__(self, section: WalletSection, one_at_a_time: asyncio.Lock) -> None:
        self._section, self._one = section, one_at_a_time

    async def prove(self, circuit: str, witness: object, valid_until: int) -> ProofResult | None:
        """A proof of the circuit; None when there was not enough time until `valid_until` (Unix seconds)."""
        request, pause = self._request(circuit, witness), FIRST_PAUSE_SECONDS
        while True:
            try:
                async with self._one:
                    return await prove_in_child(request, timeout_seconds=max(1.0, valid_until - time.time()))
            except ProverError as error:
                if time.time() + pause >= valid_until:
                    log.warning("no proof of %s was made in time, it begins anew later: %s", circuit, error)
                    return None
                log.warning("no proof of %s was made, trying again in %.0f s: %s", circuit, pause, error)
            await asyncio.sleep(pause)
            pause *= 2

    def _request(self, circuit: str, witness: object) -> ProofRequest:
        section, key = self._section, self._section.proving_key(circuit)
        return ProofRequest(
            circuit,
            witness,
            section.prover,
            section.cache_dir,
            key_file=None if key is None else key.file,
            key_sha256="" if key is None else key.sha256,
            demo=section.demo,
        )
