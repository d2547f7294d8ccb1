"""The targets by name. A target reads one tape and returns what came of it, by name; it raises when a rule does not hold."""

from __future__ import annotations

from collections.abc import Callable

from workbench.ppdl_fuzz import wires
from workbench.ppdl_fuzz.application import transactions
from workbench.ppdl_fuzz.core import core
from workbench.ppdl_fuzz.tape import Tape
from workbench.ppdl_fuzz.transfer import transfer

Target = Callable[[Tape], set[str]]

TARGETS: dict[str, Target] = {
    "core": core,
    "transactions": transactions,
    "transfer": transfer,
    "bent-message": wires.bend_message,
    "signed-card": wires.signed_card,
    "handshake": wires.handshake,
    "framing": wires.framing,
    **{name: wires.target(name) for name in wires.WIRES},
}


class UnknownTarget(ValueError):
    """No target has this name; the message is one sentence."""


def targets_named(names: list[str]) -> dict[str, Target]:
    """The targets with these names; all of them when none is named. Raises UnknownTarget."""
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        raise UnknownTarget(f"no target is named {unknown[0]!r}: choose from {', '.join(TARGETS)}")
    return {name: TARGETS[name] for name in names or TARGETS}
