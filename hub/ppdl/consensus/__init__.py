"""PBFT as a pure state machine: `Replica.step(event) -> list[Effect]`, no clock, socket, file, float or
randomness.

One height at a time, every vote signed, certificates carried in VIEW-CHANGE and NEW-VIEW (the shape of IBFT
2.0 and QBFT; the names are those of Castro and Liskov, OSDI 1999). See `replica.py` for the rules.
"""
