"""Relays: PPDL headers to the plasma chain, and sealed envelopes of homes to the plasma chain."""
