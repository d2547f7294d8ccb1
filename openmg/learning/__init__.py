"""Federated learning as meters and replicas agree on it: the plan, the wire form of an update, the aggregate.

Rules: `quantise` is where float ends; `aggregate` and `plan` hold integers only, so that every replica computes the
same model from the same updates, whatever its processor and whatever order they arrived in.
`secure` opens only sums of updates, with noise where the plan asks for it, and `budget` counts the privacy that costs.
Not here: training itself (`openmg.forecast`), rounds and their transactions (`hub.ppdl.app.learning_rounds`).
"""
