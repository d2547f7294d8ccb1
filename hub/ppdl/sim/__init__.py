"""Seeded, deterministic worlds that run the consensus core, unchanged, under faults.

One seed gives one run, on every machine. The world holds the only clock, network and disks; the replicas are those of
`hub.ppdl.consensus`.

    world.py        a run: faults, healing, progress        scenarios*.py    the bugs that others shipped, as scripts
    node.py         one replica and what the driver does    stage.py         the language of scripts
    network.py      loss, doubles, order, partitions        enumeration.py   every script of a set, with a twin
    disk.py         loses what was not synced               campaign.py      many runs, several processes
    faults.py       how a seed chooses what goes wrong      liar.py, forge.py  a hostile validator
    oracles.py, bounds.py   what must hold, always          keys.py, clock.py, ledger.py, trace.py

Three ways to look for a bug, because none finds all: seeds meet what nobody thought of, scenarios hold what is known, and the
enumeration leaves nothing out of a small set. Commands: `openmg ppdl simulate | enumerate | scenarios`.
"""
