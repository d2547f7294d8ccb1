"""What a hub tells its operator at the start about the validator set: whether it is in it, and whose card it lacks.

Nothing here keeps a hub from starting: a candidate reads along until it is voted in, a removed validator serves its blocks,
and a quorum may do without the rest.
"""

from __future__ import annotations

from collections.abc import Collection

from hub.ppdl.app.membership import ValidatorsAnswer


def set_warnings(own: bytes, genesis: Collection[bytes], known: ValidatorsAnswer, carded: Collection[bytes]) -> tuple[str, ...]:
    """Sentences for the log. own: this hub's validator. carded: the others of whom a card that holds is there."""
    latest = known.sets[-1].addresses
    warnings = [_own_standing(own, genesis, known)] if own not in latest else []
    for address in latest:
        if address != own and address not in carded:
            warnings.append(
                f"no card of 0x{address.hex()} is held, a validator as of height {known.height}, so it will not be heard; ask"
                " its operator for the card, and run openmg-hub peers add (with --candidate if it was voted in)"
            )
    return tuple(warnings)


def _own_standing(own: bytes, genesis: Collection[bytes], known: ValidatorsAnswer) -> str:
    was = own in genesis or any(own in span.addresses for span in known.sets)
    if was:
        return (
            f"this hub's validator 0x{own.hex()} is no longer in the set as of height {known.height}; it serves blocks and does"
            " not vote"
        )
    return (
        f"this hub's validator 0x{own.hex()} is neither in the genesis nor in the set as of height {known.height}; it reads"
        " along, and votes once it has been voted in (openmg-hub validators propose), unless hub.key_file is wrong"
    )
