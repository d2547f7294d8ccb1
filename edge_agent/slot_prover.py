"""The proofs that a home's reports carry, made in this process: the circuit `commit` is small, and each slot needs one.

Rules: it takes 0.05 s with the native backend and below a second in Python, so it is called in a worker thread, never in the
loop that reads meter and broker. Not here: what is proved (`openmg.zk.slot_proof`), the proofs of the wallet.
"""

from __future__ import annotations

from edge_agent.config import AgentConfig, SlotProofSection
from edge_agent.memory import give_back
from openmg.config import ConfigError
from openmg.zk.backend import BackendError
from openmg.zk.circuits import commit
from openmg.zk.keys import KeysError
from openmg.zk.prove import prove_now
from openmg.zk.prover import ProofRequest, ProverError


class SlotProver:
    """Proves slots with the key of a configuration."""

    def __init__(self, section: SlotProofSection) -> None:
        self._section = section

    def prove(self, witness: commit.CommitWitness) -> bytes:
        """256 bytes. Raises ProverError whatever the reason."""
        section = self._section
        try:
            request = ProofRequest(
                commit.NAME,
                witness,
                section.prover,
                section.cache_dir,
                threads=1,  # the loop has the other cores, and each thread's memory stays with the agent
                key_file=section.key_file,
                key_sha256=section.key_sha256,
                demo=section.demo,
            )
            return prove_now(request).proof
        except (KeysError, BackendError, OSError, ValueError) as error:
            raise ProverError(str(error)) from error
        finally:
            give_back()


def slot_prover(config: AgentConfig) -> SlotProver | None:
    """The prover of a home; None for a feeder, which reports in clear. Raises ConfigError when no key is configured."""
    if config.home.role == "feeder":
        return None
    section = config.slot_keys
    if section is None:
        raise ConfigError(
            f"home {config.device.name} proves every slot that it reports: add [slot_proof] with key_file and key_sha256 of the"
            " ceremony of commit, or demo = true"
        )
    return SlotProver(section)
