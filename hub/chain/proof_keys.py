"""Which proofs the token on the plasma chain takes: a hub works with it only under keys that somebody can be trusted with.

Rules: development keys come from a published seed, so that anybody can forge under them: they are for demonstrations.
Otherwise the verifier on chain must be that of the ceremony whose verifying-key digest the operator wrote down.
Not here: how keys are made (`openmg.zk.ceremony`).
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from hub.chain.client import EvmClient
from hub.chain.deploy import PlasmaContracts
from hub.chain.errors import ChainError, ChainUnreachable

RETRY_SECONDS = 1.0


class UntrustedKeys(Exception):
    """The token's verifier takes proofs that it must not; one sentence says which and what to do."""


def require_trusted_keys(client: EvmClient, contracts: PlasmaContracts, *, demo: bool, verifying_key: bytes) -> None:
    """Ask the chain which keys the token's verifier holds; blocks.

    verifying_key: 32 bytes, the digest that the ceremony printed; not looked at in demo mode.
    Raises UntrustedKeys, and ChainError for a chain that does not answer or has other contracts.
    """
    verifier = contracts.verifier
    used = bytes.fromhex(str(client.call(contracts.confidential, "verifier")).removeprefix("0x"))
    if used != verifier.address:
        raise UntrustedKeys(f"the token asks the verifier 0x{used.hex()}, the deployment file names another; correct the file")
    if demo:
        return
    if client.call(verifier, "DEVELOPMENT_KEYS"):
        raise UntrustedKeys(
            "the token's verifier holds development keys, with which anybody can forge money; deploy the verifier of a "
            "ceremony (openmg zk ceremony), or write zk.demo = true for a demonstration"
        )
    found = bytes(client.call(verifier, "KEY_HASH"))
    if found != verifying_key:
        raise UntrustedKeys(f"the token's verifier holds the key 0x{found.hex()}, not zk.verifying_key; find out who is wrong")


async def guard_keys(
    client: EvmClient, contracts: PlasmaContracts, stop: asyncio.Event, *, demo: bool, verifying_key: bytes
) -> None:
    """Check once the chain answers, then wait for `stop`; UntrustedKeys as `require_trusted_keys`, and for other contracts."""
    ask = partial(require_trusted_keys, client, contracts, demo=demo, verifying_key=verifying_key)
    while not stop.is_set():
        try:
            await asyncio.to_thread(ask)
            await stop.wait()
        except ChainUnreachable:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RETRY_SECONDS)
        except ChainError as error:
            raise UntrustedKeys(f"the keys of the token's verifier cannot be read: {error}") from error
