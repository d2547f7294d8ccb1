"""Bounded memory: every container of a replica against the constant that bounds it.

The table names each container; one that it does not name is a violation too, so that nobody adds a buffer without saying
how large it may grow. The table is checked at every tick of every honest node, and so also in the middle of floods; whether
it names every container, when a replica's life or the run ends. (`vars` gives an object a dictionary of its own, from which
CPython 3.11 reads every attribute several times slower ever after: not while the replica is in use.)
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass

from hub.ppdl.consensus.catchup import MAX_STRANGERS
from hub.ppdl.consensus.certs import SIGNER_CACHE_ENTRIES
from hub.ppdl.consensus.early import EARLY_HEIGHTS
from hub.ppdl.consensus.evidence import WITNESSED_PER_SIGNER
from hub.ppdl.consensus.messages import MAX_SYNC_BLOCKS
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.consensus.votes import VIEW_WINDOW


@dataclass(frozen=True)
class Sizes:
    """What the bounds depend on: members of the sets that a replica knows, and nodes that may connect."""

    validators: int  # of the height in work
    following: int  # of the next
    known: int  # of the last height, this and the next together
    peers: int


Bound = Callable[[Sizes], int]
"""Largest size of a container."""

VOTED_KINDS = 4
"""PRE-PREPARE, PREPARE, COMMIT, VIEW-CHANGE: what one validator says in one view."""
EARLY_KINDS = 5
"""Those and NEW-VIEW: what is kept of the next height, one of each from each validator."""
FAR_KINDS = 3
"""PRE-PREPARE, PREPARE, COMMIT: what may be kept of each height after that."""
WITNESSED_HEIGHTS = 3
"""The last decided height, the one in work and the next."""
PULSE_FIELDS = 5
"""Height, view, whether it is active, votes in either box: by which a replica sees that nothing moved."""

REPLICA_BOUNDS: dict[str, Bound] = {
    "_early": lambda sizes: (EARLY_KINDS + FAR_KINDS * (EARLY_HEIGHTS - 1)) * sizes.following,
    "_helped": lambda sizes: sizes.peers,
    "_last_pulse": lambda sizes: PULSE_FIELDS,
    "_out": lambda sizes: 0,  # taken away after each step
    "_witnesses": lambda sizes: WITNESSED_HEIGHTS,
    "_queue": lambda sizes: MAX_SYNC_BLOCKS,
    "hints": lambda sizes: sizes.known,  # a member of the last set still answers, and its answer counts
    "peer_heights": lambda sizes: min(sizes.peers, sizes.known + MAX_STRANGERS),  # to a newcomer all peers may be strangers
}
HEIGHT_BOUNDS: dict[str, Bound] = {
    "commits": lambda sizes: (2 * VIEW_WINDOW + 1) * sizes.validators,
    "frozen": lambda sizes: sizes.validators,
    "mine": lambda sizes: VOTED_KINDS,
    "prepares": lambda sizes: (2 * VIEW_WINDOW + 1) * sizes.validators,
    "view_changes": lambda sizes: 2 * sizes.validators,  # what each said, and what it claims beside
}
_BOUNDED = bytes | str | ValidatorSet
"""Sized values that are no containers, or that bound themselves when they are made."""


def sizes_of(replica: Replica, peers: int) -> Sizes:
    """The sizes that bound this replica now."""
    this, following, last = replica.tip.validators, replica.tip.next_validators, replica._decided_by
    known = len(this)
    if following is not this or (last is not None and last is not this):
        known = len(this.members | following.members | (frozenset() if last is None else last.members))
    return Sizes(len(this), len(following), known, peers)


def overfull(replica: Replica, peers: int) -> list[str]:
    """Which containers of the table are over their bound. Empty when all is well."""
    sizes = sizes_of(replica, peers)
    faults = _over(replica, REPLICA_BOUNDS, sizes) + _over(replica.state, HEIGHT_BOUNDS, sizes)
    for height, witness in replica._witnesses.items():
        if len(witness) > WITNESSED_PER_SIGNER * len(witness.validators):
            faults.append(f"the witness of height {height} holds {len(witness)} statements")
    if len(replica.domain._signers) > SIGNER_CACHE_ENTRIES:
        faults.append(f"the cache of signers holds more than {SIGNER_CACHE_ENTRIES}")
    return faults


def memory_faults(replica: Replica, peers: int) -> list[str]:
    """Which containers of the replica are over their bound, or have none. Empty when all is well."""
    unnamed = _unnamed(vars(replica), REPLICA_BOUNDS) + _unnamed(vars(replica.state), HEIGHT_BOUNDS)
    return [f"{name} has no named bound in hub/ppdl/sim/bounds.py" for name in unnamed] + overfull(replica, peers)


def _unnamed(fields: dict[str, object], bounds: dict[str, Bound]) -> list[str]:
    return [name for name, value in fields.items() if name not in bounds and _is_container(value)]


def _over(owner: object, bounds: dict[str, Bound], sizes: Sizes) -> list[str]:
    faults = []
    for name, bound in bounds.items():
        value: Sized | None = getattr(owner, name)
        if value and len(value) > bound(sizes):
            faults.append(f"{name} holds {len(value)}, its bound is {bound(sizes)}")
    return faults


def containers(replica: Replica) -> tuple[list[str], list[str]]:
    """Names of the containers of a replica and of its height."""
    both = vars(replica), vars(replica.state)
    of_replica, of_height = (sorted(name for name, value in fields.items() if _is_container(value)) for fields in both)
    return of_replica, of_height


def _is_container(value: object) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, _BOUNDED)
