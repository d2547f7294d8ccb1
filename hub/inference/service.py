"""Witnesses inference requests: reads `Requested` events of the plasma chain and submits each to the PPDL chain, signed.

Rules: a request is submitted again until the PPDL chain has its answer, because a mempool may lose it; replicas answer a
request once, so repeating is harmless. Bounds: MAX_OPEN requests are kept, the oldest is given up (its fee returns to the
requester by the contract's deadline). Not here: the forecast (`hub.ppdl.app.inference`) and the delivery of the answer
(`hub.market.courier`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hub.chain.client import EvmClient
from hub.chain.deploy import PlasmaContracts
from hub.chain.errors import ChainError
from hub.ppdl.app.transactions import InferenceRequest, inference_tx
from hub.ppdl.application import QueryResult

log = logging.getLogger(__name__)

STEP_SECONDS = 1.0
RESUBMIT_STEPS = 10
MAX_OPEN = 256
MAX_BLOCKS_PER_STEP = 1000


class InferenceService:
    """Runs the inference role until `stop` is set."""

    def __init__(
        self,
        client: EvmClient,
        contracts: PlasmaContracts,
        ppdl_chain_id: int,
        validator_key: bytes,
        submit: Callable[[bytes], Awaitable[object]],
        query: Callable[[str], QueryResult],
    ) -> None:
        self._client = client
        self._contracts = contracts
        self._ppdl_chain_id = ppdl_chain_id
        self._validator_key = validator_key
        self._submit = submit
        self._query = query
        self._next_block = 0
        self._open: dict[int, int] = {}
        """Request id to microgrid."""
        self.seen = 0

    async def run(self, stop: asyncio.Event) -> None:
        """One step after the other; returns when `stop` is set."""
        steps, complained = 0, False
        while not stop.is_set():
            try:
                fresh = await asyncio.to_thread(self._scan)
                complained = False
            except ChainError as error:
                if not complained:
                    log.warning("inference: %s; trying again", error)
                fresh, complained = [], True
            again = list(self._open) if steps % RESUBMIT_STEPS == 0 else []
            for request_id in dict.fromkeys([*fresh, *again]):
                await self._witness(request_id)
            steps += 1
            try:
                async with asyncio.timeout(STEP_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue

    def _scan(self) -> list[int]:
        """Ids of requests in the blocks since the last step."""
        newest = self._client.block_number()
        last = min(newest, self._next_block + MAX_BLOCKS_PER_STEP - 1)
        if last < self._next_block:
            return []
        fresh = []
        for event in self._client.events(self._contracts.inference, "Requested", self._next_block, last):
            request_id = int(event.args["id"])
            self._open[request_id] = int(event.args["microgrid"])
            fresh.append(request_id)
        self.seen += len(fresh)
        self._next_block = last + 1
        for request_id in [item for item in fresh if self._answered(item)]:
            del self._open[request_id]
        while len(self._open) > MAX_OPEN:
            log.warning("inference: request %d is given up, too many are open", next(iter(self._open)))
            del self._open[next(iter(self._open))]
        return [item for item in fresh if item in self._open]

    def _answered(self, request_id: int) -> bool:
        """Whether the PPDL chain has answered this contract's request."""
        contract = self._contracts.inference.address.hex()
        return self._query(f"inference/{request_id}/{self._contracts.chain_id}/0x{contract}").ok

    async def _witness(self, request_id: int) -> None:
        """Submit the request unless the PPDL chain has answered it."""
        microgrid = self._open[request_id]
        if self._answered(request_id):
            del self._open[request_id]
            return
        request = InferenceRequest(self._contracts.chain_id, self._contracts.inference.address, request_id, microgrid)
        try:
            await self._submit(inference_tx(request, self._ppdl_chain_id, self._validator_key))
        except ValueError as error:
            log.info("inference: request %d was not taken now: %s", request_id, error)
