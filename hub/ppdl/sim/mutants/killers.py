"""Bounded model checks as killers: each explores a part small enough for seconds, and tells what fails there."""

from __future__ import annotations

from collections.abc import Callable

from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.model.check import Bounds, check

Killer = Callable[[type[Replica]], str | None]


def _explored(bounds: Bounds, replica_class: type[Replica]) -> str | None:
    report = check(bounds, replica_class)
    if report.violations:
        return str(report.violations[0]["property"])
    return None if report.exhaustive else "the search was cut short"


def model_equivocating_proposer(replica_class: type[Replica]) -> str | None:
    """Every behaviour of four validators in view 0, its proposer Byzantine."""
    return _explored(Bounds(views=0, byzantine=1), replica_class)


def model_equivocating_proposer_of_five(replica_class: type[Replica]) -> str | None:
    """The same with five validators, which tolerate one fault and need four votes."""
    return _explored(Bounds(validators=5, views=0, byzantine=1, completions=50), replica_class)


def model_equivocation_and_restarts(replica_class: type[Replica]) -> str | None:
    """The same with four, and honest replicas that may restart at any time."""
    return _explored(Bounds(views=0, byzantine=1, restarts=True, completions=50), replica_class)


def model_view_change(replica_class: type[Replica]) -> str | None:
    """Every behaviour of three honest validators in views 0 and 1; the fourth, who leads neither, is silent."""
    return _explored(Bounds(views=1, byzantine=0, adversary="none"), replica_class)


def model_view_change_and_restarts(replica_class: type[Replica]) -> str | None:
    """The same with restarts at any time."""
    return _explored(Bounds(views=1, byzantine=0, adversary="none", restarts=True, completions=50), replica_class)


def model_byzantine_new_view(replica_class: type[Replica]) -> str | None:
    """Every behaviour in views 0 and 1, the proposer of view 1 Byzantine."""
    return _explored(Bounds(views=1, byzantine=2, completions=50), replica_class)
