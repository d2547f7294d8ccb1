"""The MQTT topic tree. It needs MQTT 3.1.1 only: QoS 1, retained messages, last will.

A meter writes under `grid/v1/<device>/`, a hub under `hub/v1/`; a broker's access list is two patterns. `<device>` is
the meter's name: lower-case letters, digits and dashes.
"""

from __future__ import annotations

import re

DEVICE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

_GRID = "grid/v1"
_HUB = "hub/v1"

ALL_FROM_METERS = f"{_GRID}/+/+"

# Leaves of a meter's branch.
BIRTH = "birth"  # retained, signed Birth
STATE = "state"  # retained, b"online" or (last will) b"offline"
SLOT = "slot"  # SlotDelivery, with a signed SlotReport
OPENING = "opening"  # signed SlotOpening
COMMIT = "commit"  # signed UpdateCommit
REVEAL = "reveal"  # UpdateReveal, which its commitment proves
BALLOT = "ballot"  # signed Ballot
EVALUATION = "evaluation"  # signed Evaluation
DEALING = "dealing"  # signed ShareDealing of a private round
MASK = "mask"  # signed MaskCommit
SURVIVORS = "survivors"  # signed SurvivorSet
UNMASKING = "unmasking"  # signed Unmasking
ENVELOPE = "envelope"  # Envelope, sealed to a relay

# What a hub tells everybody (retained).
CHAIN = f"{_HUB}/chain"
REGISTRY = f"{_HUB}/registry"


def from_meter(device: str, leaf: str) -> str:
    return f"{_GRID}/{device}/{leaf}"


def roster(microgrid: int, place: int) -> str:
    """The roster of one of the microgrid's groups, which are counted from 0."""
    return f"{_HUB}/roster/{microgrid}/{place}"


def rosters_of(microgrid: int) -> str:
    """A subscription to the rosters of all groups of one microgrid."""
    return f"{_HUB}/roster/{microgrid}/+"


def opening(microgrid: int) -> str:
    """The survivor sets of the microgrid's slots, as signed OpeningNotices."""
    return f"{_HUB}/opening/{microgrid}"


def market(microgrid: int) -> str:
    return f"{_HUB}/market/{microgrid}"


def model(name: bytes) -> str:
    """The open round of one model, by its short name (`ForecastSpec.short_name`)."""
    return f"{_HUB}/model/{name.hex()}"


def private(name: bytes) -> str:
    """The step of one model's private round, by its short name."""
    return f"{_HUB}/private/{name.hex()}"


def notes(batch: int) -> str:
    return f"{_HUB}/notes/{batch}"


def nullifiers(batch: int) -> str:
    return f"{_HUB}/nullifiers/{batch}"


def slot_leaves(microgrid: int, slot: int) -> str:
    return f"{_HUB}/slots/{microgrid}/{slot}"


def slot_leaves_of(microgrid: int) -> str:
    """A subscription to every slot of one microgrid."""
    return f"{_HUB}/slots/{microgrid}/+"


def pool(microgrid: int) -> str:
    return f"{_HUB}/pools/{microgrid}"


ALL_MODELS = f"{_HUB}/model/+"
ALL_PRIVATE = f"{_HUB}/private/+"
ALL_NOTES = f"{_HUB}/notes/+"
ALL_NULLIFIERS = f"{_HUB}/nullifiers/+"
ALL_POOLS = f"{_HUB}/pools/+"
ALL_MARKETS = f"{_HUB}/market/+"
ALL_ROSTERS = f"{_HUB}/roster/+/+"
ALL_SLOT_LEAVES = f"{_HUB}/slots/+/+"
ALL_FROM_HUBS = f"{_HUB}/#"
"""What a hub may write."""
TOLD_TO_ALL = (f"{_HUB}/+", f"{_HUB}/+/+", ALL_ROSTERS, ALL_SLOT_LEAVES)
"""What hubs tell everybody; what is for one device alone lies deeper, in its own branch (`to_device`)."""


def is_model(topic: str) -> bool:
    return topic.startswith(f"{_HUB}/model/")


def is_private(topic: str) -> bool:
    return topic.startswith(f"{_HUB}/private/")


def is_notes(topic: str) -> bool:
    return topic.startswith(f"{_HUB}/notes/")


def is_nullifiers(topic: str) -> bool:
    return topic.startswith(f"{_HUB}/nullifiers/")


def is_slot_leaves(topic: str) -> bool:
    return topic.startswith(f"{_HUB}/slots/")


def is_pool(topic: str) -> bool:
    return topic.startswith(f"{_HUB}/pools/")


def is_market(topic: str) -> bool:
    return topic.startswith(f"{_HUB}/market/")


def is_roster(topic: str) -> bool:
    return topic.startswith(f"{_HUB}/roster/")


def is_roster_of(topic: str, microgrid: int) -> bool:
    return topic.startswith(f"{_HUB}/roster/{microgrid}/")


def ack(device: str) -> str:
    """What the hub says to the device's reports: signed Acks and Refusals."""
    return f"{_HUB}/device/{device}/ack"


def receipt(device: str) -> str:
    return f"{_HUB}/device/{device}/receipt"


def parse_from_meter(topic: str) -> tuple[str, str] | None:
    """(device, leaf) of a meter's topic; None when it is not one or the name is malformed."""
    parts = topic.split("/")
    if len(parts) != 4 or "/".join(parts[:2]) != _GRID or not DEVICE_NAME.fullmatch(parts[2]):
        return None
    return parts[2], parts[3]


def account(device: str) -> str:
    return f"{_HUB}/device/{device}/account"


def to_device(device: str) -> str:
    """A subscription to all that hubs tell one device alone."""
    return f"{_HUB}/device/{device}/+"
