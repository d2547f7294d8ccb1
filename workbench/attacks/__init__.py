"""Attacks on federated learning, for tests and for offline training with some of the devices hostile.

One class per attack behind `attack.Attack`; `catalogue.ATTACKS` names them. A class docstring says where the attack is
from and what a defence must achieve against it. Beside them stand a curious hub's attacks, which change nothing and are in
no catalogue: from what a round `revealed` to a home's readings (`inversion`) or to who took part (`presence`).
Rules: numpy only; chance comes from the view's generator alone, so a seed fixes all bytes; an attack sees the network
through the public wire form (`openmg.learning.quantise`) and never touches the rules it is up against.
Not here: training (the caller trains on what `corrupt_data` gives), signatures, and any measure of damage but the
backdoor's and what a curious hub finds out (`inversion.Recovery`, `roc`).
"""
