"""What verifying a transfer proof costs on chain: the verifier contract's gas for a proof that the chain accepted."""

from __future__ import annotations

import secrets

from eth_abi.abi import decode

from hub.chain.client import EvmClient
from hub.chain.deploy import PlasmaContracts

VERIFY_GAS_LIMIT = 1_000_000
_ARGUMENTS = [
    "uint256[8]",
    "uint256",
    "uint256[2]",
    "uint256[2]",
    "uint96",
    "(address,address,uint96,uint64,address,bytes,bytes)",
]


def newest_transfer_verify_gas(client: EvmClient, contracts: PlasmaContracts, last_block: int) -> int | None:
    """Gas of `TransferVerifier.verify` in a transaction of its own, for the newest private transfer; None without one."""
    token, verifier = contracts.confidential, contracts.verifier("transfer")
    selector, looked_at = EvmClient.selector(token, "transact"), set()
    for event in reversed(client.events(token, "NullifierSpent", 0, last_block)):
        if event.tx_hash in looked_at:
            continue
        looked_at.add(event.tx_hash)
        sent = bytes.fromhex(client.rpc("eth_getTransactionByHash", "0x" + event.tx_hash.hex())["input"][2:])
        if sent[:4] != selector:
            continue  # a merge or an order
        proof, root, nullifiers, commitments, public_out, ext = decode(_ARGUMENTS, sent[4:])
        if public_out:
            continue
        bound = int(client.call(token, "transferExt", ext))
        publics = [root, *nullifiers, *commitments, 0, 0, 0, bound]
        if not client.call(verifier, "verify", list(proof), publics):
            return None
        # An estimate would be too low: short of gas the verifier answers false instead of reverting. Gas is free here, so
        # any key can ask in a transaction of its own.
        asker = EvmClient(client.url, secrets.token_bytes(32))
        return asker.transact(verifier, "verify", list(proof), publics, gas=VERIFY_GAS_LIMIT).gas_used
    return None
