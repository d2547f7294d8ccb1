"""The PPDL chain: a PBFT ledger that agrees on learning rounds and on the slot sums of meter groups.

`application.py` is the border between the engine and what is agreed on; `engine.py` is the PBFT engine;
`consensus/` its pure core; `net/` its transport; `store.py` its disk; `sim/` a seeded world that runs the
same core; `app/` the PPDL application.
"""
