"""The inference role. On chain, requests become transactions of the PPDL chain, whose replicas answer them (`service`).
Over HTTP, the hub's own forecasts of public sums, and those of prices with the chain's model, are served to holders of a key
(`api`, `forecast_role`).
"""

from __future__ import annotations


class InferenceError(Exception):
    """The inference role cannot run; one sentence says why and what to do."""
