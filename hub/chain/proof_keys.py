"""Which proofs the token on the plasma chain takes: a hub works with it only under keys that somebody can be trusted with.

Rules: the verifiers that count are those of the set that the token asks; each must be the deployment's, and outside demo
mode hold its ceremony's key. The set may change while a hub runs: the guard asks again, so that a verifier which the
operator did not write down ends the hub rather than being told to meters.
Not here: the comparison of keys (`hub.chain.verifiers`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from functools import partial

from hub.chain.client import EvmClient
from hub.chain.deploy import PlasmaContracts
from hub.chain.errors import ChainError, ChainUnreachable
from hub.chain.verifiers import CIRCUITS, UntrustedKeys, require_ceremony_keys

__all__ = ["UntrustedKeys", "guard_keys", "require_trusted_keys"]

RETRY_SECONDS = 1.0
CHECK_SECONDS = 60.0
"""How often the set is looked at again; a new verifier counts after days."""


def require_trusted_keys(
    client: EvmClient, contracts: PlasmaContracts, *, demo: bool, verifying_keys: Mapping[str, bytes]
) -> None:
    """Ask the chain which verifiers the token asks and which keys they hold; blocks.

    verifying_keys: by circuit the 32-byte digest that its ceremony printed; not looked at in demo mode.
    Raises UntrustedKeys, and ChainError for a chain that does not answer or has other contracts.
    """
    used = _address(client.call(contracts.confidential, "verifierSet"))
    if used != contracts.verifier_set.address:
        raise UntrustedKeys(f"the token asks the set 0x{used.hex()}, the deployment file names another; correct the file")
    for number, (circuit, verifier) in enumerate(zip(CIRCUITS, contracts.verifiers, strict=True)):
        counts = _address(client.call(contracts.verifier_set, "verifierOf", number))
        if counts != verifier.address:
            raise UntrustedKeys(
                f"the verifier of {circuit} is 0x{counts.hex()}, the deployment file names another; correct the file when the "
                "change was announced"
            )
    if not demo:
        require_ceremony_keys(client, contracts.verifiers, verifying_keys)


async def guard_keys(
    client: EvmClient, contracts: PlasmaContracts, stop: asyncio.Event, *, demo: bool, verifying_keys: Mapping[str, bytes]
) -> None:
    """Check once the chain answers and every CHECK_SECONDS, until `stop` is set; UntrustedKeys as
    `require_trusted_keys`, and for other contracts.
    """
    ask = partial(require_trusted_keys, client, contracts, demo=demo, verifying_keys=verifying_keys)
    while not stop.is_set():
        pause = CHECK_SECONDS
        try:
            await asyncio.to_thread(ask)
        except ChainUnreachable:
            pause = RETRY_SECONDS
        except ChainError as error:
            raise UntrustedKeys(f"the keys of the token's verifiers cannot be read: {error}") from error
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)


def _address(text: object) -> bytes:
    return bytes.fromhex(str(text).removeprefix("0x"))
