"""Traces for people: one sentence for each deed on the way to a violation."""

from __future__ import annotations

from hub.ppdl.sim.model.local import Deed, Instance, Soup


def explain(soup: Soup, instance: Instance, deed: Deed) -> str:
    """What happened to one replica."""
    who = f"validator {instance.number}" if instance.is_honest else f"{instance.label.rstrip('v').rstrip('-')}"
    if deed.kind == "timeout":
        return f"{who}: its view timer runs out"
    if deed.kind == "restart":
        return f"{who}: it crashes and restarts from its disk"
    heard = "; ".join(f"{soup.names.say(token)} from {sender}" for sender, token in deed.heard)
    return f"{who}: it hears {heard}"
