"""Bounded memory: every container of a replica against the constant that bounds it.

The table names each container; one that it does not name is a violation too, so that nobody adds a buffer without saying
how large it may grow. Checked at every tick of every honest node, and so also in the middle of floods.
"""

from __future__ import annotations

from collections.abc import Callable, Sized

from hub.ppdl.consensus.certs import SIGNER_CACHE_ENTRIES
from hub.ppdl.consensus.core import HeightState
from hub.ppdl.consensus.early import EARLY_HEIGHTS
from hub.ppdl.consensus.evidence import WITNESSED_PER_SIGNER
from hub.ppdl.consensus.messages import MAX_SYNC_BLOCKS, Kind
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.consensus.votes import VIEW_WINDOW

Bound = Callable[[int, int], int]
"""Largest size by (validators of this height and the next together, nodes that may connect)."""

VOTED_KINDS = 4
"""PRE-PREPARE, PREPARE, COMMIT, VIEW-CHANGE: what one validator says in one view."""
EARLY_KINDS = 5
"""Those and NEW-VIEW: what is kept of the next height, one of each from each validator."""
FAR_KINDS = 3
"""PRE-PREPARE, PREPARE, COMMIT: what may be kept of each height after that."""

WITNESSED_HEIGHTS = 3
"""The last decided height, the one in work and the next."""

REPLICA_BOUNDS: dict[str, Bound] = {
    "_early": lambda members, peers: (EARLY_KINDS + FAR_KINDS * (EARLY_HEIGHTS - 1)) * members,
    "_helped": lambda members, peers: peers,
    "_last_pulse": lambda members, peers: len(Kind),
    "_out": lambda members, peers: 0,  # taken away after each step
    "_witnesses": lambda members, peers: WITNESSED_HEIGHTS,
    "_queue": lambda members, peers: MAX_SYNC_BLOCKS,
    "hints": lambda members, peers: members,
    "peer_heights": lambda members, peers: members,
}
HEIGHT_BOUNDS: dict[str, Bound] = {
    "commits": lambda members, peers: (2 * VIEW_WINDOW + 1) * members,
    "frozen": lambda members, peers: members,
    "mine": lambda members, peers: VOTED_KINDS,
    "prepares": lambda members, peers: (2 * VIEW_WINDOW + 1) * members,
    "view_changes": lambda members, peers: members,
}
_BOUNDED = bytes | str | ValidatorSet
"""Sized values that are no containers, or that bound themselves when they are made."""


def memory_faults(replica: Replica, peers: int) -> list[str]:
    """Which containers of the replica are over their bound, or have none. Empty when all is well."""
    tip = replica.tip
    members = len(tip.validators.addresses)
    if tip.next_validators is not tip.validators:
        members = len({*tip.validators.addresses, *tip.next_validators.addresses})
    faults = _over(vars(replica), REPLICA_BOUNDS, members, peers) + _over(vars(replica.state), HEIGHT_BOUNDS, members, peers)
    for height, witness in replica._witnesses.items():
        if len(witness) > WITNESSED_PER_SIGNER * len(witness.validators):
            faults.append(f"the witness of height {height} holds {len(witness)} statements")
    if len(replica.domain._signers) > SIGNER_CACHE_ENTRIES:
        faults.append(f"the cache of signers holds more than {SIGNER_CACHE_ENTRIES}")
    return faults


def _over(fields: dict[str, object], bounds: dict[str, Bound], members: int, peers: int) -> list[str]:
    faults = []
    for name, value in fields.items():
        if isinstance(value, Sized) and not isinstance(value, _BOUNDED):
            bound = bounds.get(name)
            if bound is None:
                faults.append(f"{name} has no named bound in hub/ppdl/sim/bounds.py")
            elif len(value) > bound(members, peers):
                faults.append(f"{name} holds {len(value)}, its bound is {bound(members, peers)}")
    return faults


def containers(replica: Replica) -> tuple[list[str], list[str]]:
    """Names of the containers of a replica and of its height, for whoever checks the table."""
    state: HeightState = replica.state
    return sorted(_sized(vars(replica))), sorted(_sized(vars(state)))


def _sized(fields: dict[str, object]) -> list[str]:
    return [name for name, value in fields.items() if isinstance(value, Sized) and not isinstance(value, _BOUNDED)]
