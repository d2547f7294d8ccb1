"""The units every part of the project counts in.

Rules: energy is an integer number of Wh, power of W, chain money of wei; a name carries its unit
(`energy_wh`, `power_w`, `amount_wei`). Nothing that is hashed, signed or settled is a float.
Not here: conversion to what a person reads (the console and the command line do that).
"""

SLOT_SECONDS = 900
"""Length of one market slot in seconds of the virtual clock (15 minutes)."""

SLOTS_PER_HOUR = 3600 // SLOT_SECONDS
SLOTS_PER_DAY = 86_400 // SLOT_SECONDS

WH_PER_KWH = 1000
LOT_WH = 100
"""What one lot of an order on the private market is."""
WEI_PER_ETH = 10**18

MAX_NOTE_AMOUNT = 2**96 - 1
"""Largest amount a shielded note can hold (96 bits, see the transfer circuit)."""

MAX_SLOT_WH = 2**32 - 1
"""Largest energy one meter can report for one slot."""

ADDRESS_BYTES = 20
HASH_BYTES = 32
MODEL_BYTES = 8
"""Of a model's short name in messages and topics (`ForecastSpec.short_name`)."""
