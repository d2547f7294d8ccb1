"""A confidential token alone on a chain, notes for its queue, and an appender's proofs made in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from evm_world import ETHER, Chain
from pool_world import deploy_pool, partial, prove

from hub.chain.client import Contract, EvmClient
from hub.plasma.appender import Appender
from openmg.zk.circuits import append
from openmg.zk.circuits.append import AppendWitness
from openmg.zk.prover import ProofResult

EPOCH_SECONDS = 60


def proof_result(words: tuple[int, ...], publics: list[int], seconds: float) -> ProofResult:
    proof = b"".join(word.to_bytes(32, "big") for word in words)
    return ProofResult(proof, tuple(publics), round(seconds, 3), 0.0, 0.0, 0.0, "native", 1)


async def prove_here(witness: AppendWitness) -> ProofResult:
    started = time.perf_counter()
    words, publics = prove(append, witness)
    return proof_result(words, publics.as_list(), time.perf_counter() - started)


@dataclass
class NotesWorld:
    """`queue` shields notes one block each; `next_epoch` makes them ripe."""

    chain: Chain
    token: Contract
    client: EvmClient
    made: int = 0
    asked: list[AppendWitness] = field(default_factory=list)
    """Every statement that an appender of this world wanted proved."""

    @classmethod
    def deploy(cls, chain: Chain) -> NotesWorld:
        client = chain.client("guardian")
        chain.give(client.address, 1_000 * ETHER)
        token, _ = deploy_pool(client, client.address, EPOCH_SECONDS)
        return cls(chain, token, client)

    def queue(self, count: int) -> None:
        for _ in range(count):
            self.made += 1
            self.client.transact(
                self.token, "shield", bytes(20), self.made, partial(blinding=self.made), bytes([self.made % 256]) * 114,
                value=self.made,
            )  # fmt: skip

    def begin_epoch(self) -> None:
        """Go on to the first second of an epoch, so that what is queued next is all of one."""
        self.client.rpc(
            "evm_setNextBlockTimestamp", (self.client.block("latest").timestamp // EPOCH_SECONDS + 1) * EPOCH_SECONDS
        )
        self.client.rpc("evm_mine")

    def next_epoch(self) -> None:
        self.chain.skip(EPOCH_SECONDS)

    def appender(self, name: str = "appender", poll_seconds: float = 0.02) -> Appender:
        async def prove(witness: AppendWitness) -> ProofResult:
            self.asked.append(witness)
            return await prove_here(witness)

        return Appender(self.chain.client(name), self.token, prove, poll_seconds=poll_seconds)

    def number(self, function: str) -> int:
        return int(self.client.call(self.token, function))
