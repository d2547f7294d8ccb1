"""The key ceremony: keys of a circuit that are sound as long as one of its parties was honest and forgot its secrets.

Phase 1 makes powers of an unknown tau (a public `.ptau` file, or our own contributions); phase 2 makes them keys of one
circuit and multiplies delta by a secret of each party (Bowe, Gabizon, Miers, eprint 2017/1050; Kohlweiss et al., eprint
2021/219). Everything is in one transcript file that anybody can check against the circuit alone. docs/CEREMONY.md tells
how to hold one. Not here: development keys (`openmg.zk.keys`), the command (`workbench.ceremony_cli`).
"""
