"""Domain tags of the circuit hash: every use of Poseidon has its own, so no digest can pose as another's.

Rule: a tag is the big-endian integer of the ASCII text "openmg.zk." + name; it stands in the capacity element of
the permutation. Tag 0 is never used here: it is the untagged hash that published vectors check.
Not here: the tags of later statements; each is added with the circuit that needs it.
"""

from __future__ import annotations

from openmg.zk.field import R
from openmg.zk.poseidon import poseidon

PREFIX = "openmg.zk."
MAX_TAG_BYTES = 31
"""One byte less than the field's width, so that distinct texts are distinct elements."""

TAG_NAMES = ("cm", "own", "pk", "nk", "nf", "nod", "root", "mid", "per", "reg", "slt", "mnt", "buy", "brn")
"""cm note, own partial, pk owner, nk nullifier key, nf nullifier, nod tree node, root tree number with its root;
mid meter, per period key, reg registry leaf, slt slot leaf, mnt mint nullifier, buy purchase nullifier, brn burn tag."""


def _tag(name: str) -> int:
    text = (PREFIX + name).encode("ascii")
    value = int.from_bytes(text, "big")
    if len(text) > MAX_TAG_BYTES or value >= R:
        raise ValueError(f"tag {name!r} is longer than {MAX_TAG_BYTES} bytes with its prefix; choose a shorter name")
    return value


TAGS = {name: _tag(name) for name in TAG_NAMES}


def tag(name: str) -> int:
    """The tag's field element; KeyError for a name that no statement uses."""
    return TAGS[name]


def H(name: str, *inputs: int) -> int:  # noqa: N802 - the statements call it H
    """Poseidon of one to seven field elements under the tag of that name."""
    return poseidon(inputs, TAGS[name])
