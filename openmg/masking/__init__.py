"""Masked slots: the hub opens the sum of a group's values once, or nothing; never a single home's.

Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", section 4, with double masks and
its defence against a hub that lies, made cheap enough for one message more in a slot of 15 minutes:
  rosters     who is summed together, and how many of them it takes
  masks       what a member adds to its values, and the shares it deals with its report
  survivors   the set that a slot is opened with
  member      what a member answers, and what it must remember first
  opening     what the hub makes of the answers
  sums        the opened sums, and what every replica checks of them
Parts shared with the private rounds of learning (`openmg.learning.secure`): `openmg.pairwise`, `openmg.shamir`,
`openmg.survivors`. Not here: the range proofs; storage, MQTT and deadlines (`edge_agent.masking`, `hub.ingest`).
"""

from openmg.masking.masks import MaskedSlot, Masker
from openmg.masking.rosters import DEFAULT_GROUP, MAX_GROUP, MIN_GROUP, is_mask_key, make_roster, roster_id, threshold
from openmg.masking.sums import Commitments, SlotSums, require_committed, require_plausible

__all__ = [
    "DEFAULT_GROUP",
    "MAX_GROUP",
    "MIN_GROUP",
    "Commitments",
    "MaskedSlot",
    "Masker",
    "SlotSums",
    "is_mask_key",
    "make_roster",
    "require_committed",
    "require_plausible",
    "roster_id",
    "threshold",
]
