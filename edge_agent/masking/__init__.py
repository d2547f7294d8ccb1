"""A home's side of masked slots: the rosters it masks under, what it promised of each slot, and its answers to the hub."""
