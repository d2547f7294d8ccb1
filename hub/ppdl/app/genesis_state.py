"""The application's part of the genesis: registered devices, the feeders' past, the learning plan, the verifying key.

Rules: canonical CBOR, checked in full when it is read; devices ascend by address, feeders by microgrid. The past of a
feeder is the hourly net energy (import minus export, Wh) of its 35 days before the chain; the feeder meter is read in
clear. The verifying key of the circuit `commit` stands here because the replicas must agree on which slot proofs hold; it
is that of a ceremony, or in a demo the development key, with which anybody can forge.
Not here: validators and chain id (`hub.ppdl.genesis`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openmg import codec
from openmg.forecast.fixedpoint import MAX_ENERGY_WH
from openmg.forecast.spec import HOURS_PER_WEEK, NET_ENERGY
from openmg.learning.blobs import MAX_RESULT_BYTES
from openmg.learning.plan import MAX_DEVICES, LearningPlan
from openmg.messages.topics import DEVICE_NAME
from openmg.units import ADDRESS_BYTES
from openmg.zk.circuits.commit import PUBLIC_INPUTS
from openmg.zk.field import R
from openmg.zk.proof import UnsafeKeyError, VerifyingKey

MASK_KEY_BYTES = 32
MAX_MICROGRIDS = 256
VOUCHED = NET_ENERGY
"""The chain records hours, and its answers are the next 24 of them."""
MIN_HISTORY_HOURS = HOURS_PER_WEEK
"""A forecast needs a week."""
HISTORY_HOURS = 5 * HOURS_PER_WEEK
"""Hours of a feeder's past that are kept: four weeks for the profiles and one more for the latest."""
MAX_STATE_BYTES = 16 * 1024 * 1024


class AppStateError(ValueError):
    """The genesis application state is malformed; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Device:
    """A registered meter: 20-byte address, X25519 mask key, its microgrid, its name in topics, and its mid in circuits."""

    address: bytes
    mask_public: bytes
    microgrid: int
    name: str
    meter_id: int

    def __post_init__(self) -> None:
        if len(self.address) != ADDRESS_BYTES or len(self.mask_public) != MASK_KEY_BYTES:
            raise AppStateError(f"app state: device {self.name!r} has an address or mask key of the wrong length")
        if not 0 <= self.microgrid < 2**32 or not DEVICE_NAME.fullmatch(self.name):
            raise AppStateError(f"app state: device {self.name!r} has an unusable name or microgrid number")
        if not 0 < self.meter_id < R:
            raise AppStateError(f"app state: device {self.name!r} has a meter id outside 1 to r - 1")


@dataclass(frozen=True, slots=True)
class Feeder:
    """Hourly net energy of a microgrid's feeder from `start_hour` (hours since 1970, UTC) on, without gaps."""

    microgrid: int
    start_hour: int
    net_wh: tuple[int, ...]

    def __post_init__(self) -> None:
        if not MIN_HISTORY_HOURS <= len(self.net_wh) <= HISTORY_HOURS:
            raise AppStateError(
                f"app state: the feeder of microgrid {self.microgrid} has {len(self.net_wh)} hours of past; give"
                f" {MIN_HISTORY_HOURS} to {HISTORY_HOURS}"
            )
        if not 0 <= self.start_hour < 2**32 or any(abs(value) > MAX_ENERGY_WH for value in self.net_wh):
            raise AppStateError(f"app state: the feeder of microgrid {self.microgrid} has an impossible hour or energy")


@dataclass(frozen=True, slots=True)
class AppGenesis:
    """What a chain starts with; raises AppStateError when the parts do not fit together.

    commit_key: the verifying key of the circuit `commit` (`VerifyingKey.to_bytes`).
    """

    devices: tuple[Device, ...]
    feeders: tuple[Feeder, ...]
    plan: LearningPlan
    commit_key: bytes

    def __post_init__(self) -> None:
        addresses = [device.address for device in self.devices]
        grids = [feeder.microgrid for feeder in self.feeders]
        if not 1 <= len(addresses) <= MAX_DEVICES or addresses != sorted(set(addresses)):
            raise AppStateError(f"app state: give 1 to {MAX_DEVICES} devices in ascending order of distinct addresses")
        if not 1 <= len(grids) <= MAX_MICROGRIDS or grids != sorted(set(grids)):
            raise AppStateError(f"app state: give 1 to {MAX_MICROGRIDS} feeders in ascending order of microgrids")
        if len({device.meter_id for device in self.devices}) != len(addresses):
            raise AppStateError("app state: two devices have one meter id; each meter has its own")
        missing = {device.microgrid for device in self.devices} - set(grids)
        if missing:
            raise AppStateError(f"app state: microgrid {min(missing)} has devices but no feeder history")
        if 2 * self.plan.spec.master_bytes > MAX_RESULT_BYTES:
            raise AppStateError(
                f"app state: master and momentum of {self.plan.spec.model_id} have more than {MAX_RESULT_BYTES} bytes; a chain"
                " agrees on smaller models only"
            )
        if self.plan.spec != VOUCHED:
            raise AppStateError(f"app state: the plan's forecaster must be {VOUCHED.model_id}, for which answers are vouched")
        if self.plan.privacy != "none":
            raise AppStateError(
                f"app state: the rounds of a chain show updates and cannot keep {self.plan.privacy} yet; use none"
            )
        if self.plan.min_participants + self.plan.committee_size > len(addresses):
            raise AppStateError(
                f"app state: a round needs {self.plan.min_participants} devices and a committee of {self.plan.committee_size}"
                f" others but {len(addresses)} are registered"
            )
        try:
            inputs = VerifyingKey.from_bytes(self.commit_key).n_public
        except UnsafeKeyError as error:
            raise AppStateError(f"app state: commit_key: {error}") from error
        if inputs != PUBLIC_INPUTS:
            raise AppStateError(f"app state: commit_key is of a circuit with {inputs} public inputs; give that of commit")

    def encode(self) -> bytes:
        """Canonical bytes for `Genesis.app_state`."""
        return codec.encode(
            {
                "devices": [[d.address, d.mask_public, d.microgrid, d.name, d.meter_id] for d in self.devices],
                "feeders": [[f.microgrid, f.start_hour, list(f.net_wh)] for f in self.feeders],
                "plan": self.plan.encode(),
                "commit_key": self.commit_key,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> AppGenesis:
        """Inverse of `encode`. Raises AppStateError."""
        try:
            value: Any = codec.decode(data, max_bytes=MAX_STATE_BYTES, max_items=MAX_STATE_BYTES)
            if not isinstance(value, dict) or value.keys() != {"commit_key", "devices", "feeders", "plan"}:
                raise AppStateError("app state: it must have exactly devices, feeders, plan and commit_key")
            return cls(
                tuple(_device(item) for item in _items(value["devices"])),
                tuple(_feeder(item) for item in _items(value["feeders"])),
                LearningPlan.decode(value["plan"]),
                _bytes(value["commit_key"]),
            )
        except AppStateError:
            raise
        except (ValueError, TypeError) as error:
            raise AppStateError(f"app state: {error}; make the genesis again") from error


def make_app_genesis(devices: list[Device], feeders: list[Feeder], plan: LearningPlan, commit_key: bytes) -> AppGenesis:
    """An AppGenesis from parts in any order. Raises AppStateError."""
    return AppGenesis(
        tuple(sorted(devices, key=lambda device: device.address)),
        tuple(sorted(feeders, key=lambda feeder: feeder.microgrid)),
        plan,
        commit_key,
    )


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise AppStateError("app state: a list is missing")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise AppStateError("app state: commit_key is not bytes")
    return value


def _fields(value: Any, *types: type) -> list[Any]:
    if not isinstance(value, list) or [type(item) for item in value] != list(types):
        raise AppStateError("app state: an entry does not have the fields it must have")
    return value


def _device(value: Any) -> Device:
    return Device(*_fields(value, bytes, bytes, int, str, int))


def _feeder(value: Any) -> Feeder:
    microgrid, start_hour, net_wh = _fields(value, int, int, list)
    if not all(type(item) is int for item in net_wh):
        raise AppStateError("app state: an hourly energy is not a whole number")
    return Feeder(microgrid, start_hour, tuple(net_wh))
