"""What verifying a transfer proof costs on chain: the verifier contract's gas for a proof that the chain accepted."""

from __future__ import annotations

import secrets

from eth_abi.abi import decode

from edge_agent.wallet.notes import ext_hash
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
    spent = client.events(contracts.confidential, "NullifierSpent", 0, last_block)
    if not spent:
        return None
    sent = client.rpc("eth_getTransactionByHash", "0x" + spent[-1].tx_hash.hex())
    proof, root, nullifiers, commitments, public_out, ext = decode(_ARGUMENTS, bytes.fromhex(sent["input"][10:]))
    if public_out:
        return None
    valid_until, ciphertexts = ext[3], (ext[5], ext[6])
    bound = ext_hash(contracts.chain_id, contracts.confidential.address, valid_until, ciphertexts)
    publics = [root, *nullifiers, *commitments, 0, 0, 0, bound]
    if not client.call(contracts.verifier, "verify", list(proof), publics):
        return None
    # An estimate would be too low: short of gas the verifier answers false instead of reverting. Gas is free here, so
    # any key can ask in a transaction of its own.
    asker = EvmClient(client.url, secrets.token_bytes(32))
    return asker.transact(contracts.verifier, "verify", list(proof), publics, gas=VERIFY_GAS_LIMIT).gas_used
