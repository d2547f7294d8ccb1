"""A seeded world that runs the consensus core, unchanged, under faults: `world.py` (events), `oracles.py`
(truth).

One seed gives one run, on every machine. The world holds the only clock, network and disks; the replicas are
those of `hub.ppdl.consensus`.
"""
