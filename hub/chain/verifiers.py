"""The seven verifier contracts: which circuit each is for, and whether it holds the keys that it must.

Rules: development keys come from a published seed, so that anybody can forge under them: they are for demonstrations.
Otherwise each verifier must hold the key whose digest the ceremony printed for its circuit. The order of CIRCUITS is the
numbering of `VerifierSet.sol`. Not here: how keys are made (`openmg.zk.ceremony`), when the hub asks (`hub.chain.proof_keys`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from openmg.hashing import keccak256, words

if TYPE_CHECKING:  # a configuration is read without what speaks to a chain
    from hub.chain.client import Contract, EvmClient

CIRCUITS = ("transfer", "merge", "append", "mint", "buy", "burn", "exit")


class UntrustedKeys(Exception):
    """A verifier takes proofs that it must not; one sentence says which and what to do."""


def contract_name(circuit: str) -> str:
    """Name of a circuit's verifier contract."""
    return f"{circuit.capitalize()}Verifier"


def circuit_set_of(verifiers: Sequence[Contract]) -> bytes:
    """What `VerifierSet.circuitSet` is for these verifiers, in the order of CIRCUITS."""
    return keccak256(words(*[verifier.address for verifier in verifiers]))


def require_ceremony_keys(client: EvmClient, verifiers: Sequence[Contract], expected: Mapping[str, bytes]) -> None:
    """Ask every verifier, in the order of CIRCUITS, which key it holds; blocks.

    expected: by circuit the 32-byte verifying-key digest that its ceremony printed. Raises UntrustedKeys, ChainError.
    """
    for circuit, verifier in zip(CIRCUITS, verifiers, strict=True):
        if client.call(verifier, "DEVELOPMENT_KEYS"):
            raise UntrustedKeys(
                f"the verifier of {circuit} holds development keys, with which anybody can forge money; deploy the verifier "
                "of a ceremony (openmg zk ceremony), or write zk.demo = true for a demonstration"
            )
        if circuit not in expected:
            raise UntrustedKeys(f"no key is written down for {circuit}; add what its ceremony printed to zk.verifying_keys")
        found = bytes(client.call(verifier, "KEY_HASH"))
        if found != expected[circuit]:
            raise UntrustedKeys(
                f"the verifier of {circuit} holds the key 0x{found.hex()}, not the one of zk.verifying_keys; find out who is "
                "wrong"
            )
