"""Model check: every behaviour of the consensus core at one height, within stated bounds.

`check(Bounds(...))` explores the states that n validators, one of them Byzantine, can reach on a network that delivers,
repeats, reorders and loses at will. The steps are those of `Replica.step` itself; nothing of the protocol is written
down a second time. See `search.py` for the reductions and why they lose nothing, `forger.py` for what the Byzantine
validator can say, `check.py` for the properties.
"""
