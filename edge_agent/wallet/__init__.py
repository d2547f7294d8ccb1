"""The owner's money on the meter: keys, shielded notes, orders, and the envelopes that carry them to the chain."""
