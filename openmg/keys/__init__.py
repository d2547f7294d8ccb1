"""Keys as people and disks hold them: strings, words, and files that may be sealed.

Not here: what keys are (`openmg.identity`, `openmg.zk.notes`, `edge_agent.wallet.keys`).
"""
