"""Private rounds of a chain: what a hub tells meters of the phases in which they deal, mask, sign and unmask.

What meters answer is in `openmg.messages.secure`; a masked update is shown with `openmg.messages.learning.UpdateReveal`.
Rules: a notice is not signed. Secrecy does not rest on it: dealings and signatures in it are the devices' own, and a meter
holds it to the plan and the registered devices that it heard first (`edge_agent.learning.private_rounds`).
Not here: the phases' rules (`hub.ppdl.app.private_rounds`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from openmg.hashing import keccak256
from openmg.learning.secure.graph import FULL_GRAPH_MEMBERS
from openmg.messages import topics
from openmg.messages.base import encode
from openmg.messages.learning import PHASE_REVEAL, names_round
from openmg.messages.secure import PUBLIC_BYTES, MaskCommit, ShareDealing, SurvivorSet, Unmasking
from openmg.units import ADDRESS_BYTES, HASH_BYTES

PHASE_DEAL, PHASE_MASK, PHASE_SIGN, PHASE_UNMASK = "deal", "mask", "sign", "unmask"
STEP_PHASES = (PHASE_DEAL, PHASE_MASK, PHASE_SIGN, PHASE_UNMASK)
"""Phases that rounds in clear do not have; with the reveal phase those in which meters act on a PrivateNotice."""
STEP_MESSAGES: dict[str, type[Any]] = {
    topics.DEALING: ShareDealing,
    topics.MASK: MaskCommit,
    topics.SURVIVORS: SurvivorSet,
    topics.UNMASKING: Unmasking,
}
"""What a meter signs in a private round, by the leaf of its topic."""


@dataclass(frozen=True)
class Registered:
    """A device of the genesis: its address and its X25519 mask key."""

    address: bytes
    mask_public: bytes

    def __post_init__(self) -> None:
        if len(self.address) != ADDRESS_BYTES or len(self.mask_public) != PUBLIC_BYTES:
            raise ValueError("a registered device has a 20-byte address and a 32-byte mask key")


@dataclass(frozen=True)
class Registry:
    """All devices of a chain's genesis, ascending by address."""

    PURPOSE: ClassVar[str] = "private-registry"
    chain_id: int
    registered: tuple[Registered, ...]


@dataclass(frozen=True)
class PrivateNotice:
    """The open round in a phase of STEP_PHASES or of the reveal (retained).

    `members` committed to the model with `base_hash`, ascending. `dealings`: signed ShareDealings, in the mask phase.
    `survivors`: ascending, from the sign phase on; `signers` signed their set, `signatures` in the same order, while unmasking.
    """

    PURPOSE: ClassVar[str] = "private-round"
    model: bytes
    round: int
    phase: str
    height: int
    phase_end_height: int
    base_hash: bytes
    seed: bytes
    members: tuple[bytes, ...]
    dealings: tuple[bytes, ...]
    survivors: tuple[bytes, ...]
    signers: tuple[bytes, ...]
    signatures: tuple[bytes, ...]
    registered: tuple[Registered, ...]
    plan: bytes

    def __post_init__(self) -> None:
        if not names_round(self.model, self.round) or len(self.base_hash) != HASH_BYTES or len(self.seed) != HASH_BYTES:
            raise ValueError("a private notice has a model and round, a base hash and a seed of 32 bytes")
        if self.phase not in (*STEP_PHASES, PHASE_REVEAL):
            raise ValueError(f"a private notice has one of the phases {', '.join((*STEP_PHASES, PHASE_REVEAL))}")
        lists = self.members, self.survivors, self.signers
        if any(len(item) > FULL_GRAPH_MEMBERS or list(item) != sorted(set(item)) for item in lists):
            raise ValueError(f"a private notice lists at most {FULL_GRAPH_MEMBERS} devices, ascending, each once")
        if any(len(address) != ADDRESS_BYTES for item in lists for address in item):
            raise ValueError("a private notice names devices by 20-byte addresses")
        if len(self.dealings) > FULL_GRAPH_MEMBERS or len(self.signers) != len(self.signatures):
            raise ValueError(f"a private notice has at most {FULL_GRAPH_MEMBERS} dealings, and a signature for each signer")
        addresses = [item.address for item in self.registered]
        if addresses != sorted(set(addresses)):
            raise ValueError("registered devices stand in ascending order, each once")

    def registry(self, chain_id: int) -> bytes:
        """The hash of the registered devices, the same in the notices of all models."""
        return keccak256(encode(Registry(chain_id, self.registered)))
