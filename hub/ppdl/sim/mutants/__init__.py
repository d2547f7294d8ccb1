"""Planted protocol bugs, and for each the check that must notice it.

A green run says little unless the same run turns red when the protocol is wrong. `catalogue.MUTANTS` lists bugs that other
engines shipped or the literature warns of; `plant.py` builds them into the core for a while, `killers.py` and
`scenarios.py` hold the checks, `hunt.py` runs every check on the unchanged core and then every bug against its check.
"""
