"""The application's part of the genesis: registered devices, the feeders' past, the learning plans, the verifying key, prices.

Rules: canonical CBOR, checked in full when it is read; devices ascend by address, feeders by microgrid. The past of a
feeder is the hourly net energy (import minus export, Wh) of its 35 days before the chain; the feeder meter is read in
clear. Each plan is one model of the chain, with rounds of its own; the first is the one by which answers are vouched. A
model is learnt by the devices that meter its quantity, which the genesis says of each device. The verifying key of the
circuit `commit` stands here because the replicas must agree on which slot proofs hold; it is that of a ceremony, or in a
demo the development key, with which anybody can forge.
Not here: validators and chain id (`hub.ppdl.genesis`), who learns prices and from what (`genesis_prices`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hub.ppdl.app.genesis_prices import PriceRecord, Trainer, check_price_spec, check_records, check_trainers
from openmg import codec
from openmg.forecast.fixedpoint import MAX_ENERGY_WH
from openmg.forecast.quantities import METERED
from openmg.forecast.spec import HOURS_PER_WEEK, MINUTES_PER_HOUR, NET_ENERGY, PRICE
from openmg.learning.blobs import MAX_RESULT_BYTES
from openmg.learning.plan import MAX_DEVICES, MAX_MODELS, LearningPlan
from openmg.learning.secure.chain_round import MAX_CHAIN_MEMBERS, may_open
from openmg.masking import is_mask_key
from openmg.messages.topics import DEVICE_NAME
from openmg.units import ADDRESS_BYTES, SLOTS_PER_HOUR
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
MINUTES_PER_SLOT = MINUTES_PER_HOUR // SLOTS_PER_HOUR
MAX_STATE_BYTES = 16 * 1024 * 1024


PARTS = frozenset({"commit_key", "devices", "feeders", "plans", "prices", "trainers"})


class AppStateError(ValueError):
    """The genesis application state is malformed; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Device:
    """A registered meter: 20-byte address, X25519 mask key, its microgrid, its name in topics, and its mid in circuits.

    quantities: those of METERED that it learns from, ascending. Every meter has its net energy; one that never feeds in has
    no exported energy to learn from.
    """

    address: bytes
    mask_public: bytes
    microgrid: int
    name: str
    meter_id: int
    quantities: tuple[str, ...] = (NET_ENERGY.quantity,)

    def __post_init__(self) -> None:
        if len(self.address) != ADDRESS_BYTES or len(self.mask_public) != MASK_KEY_BYTES:
            raise AppStateError(f"app state: device {self.name!r} has an address or mask key of the wrong length")
        if not 0 <= self.microgrid < 2**32 or not DEVICE_NAME.fullmatch(self.name):
            raise AppStateError(f"app state: device {self.name!r} has an unusable name or microgrid number")
        if not 0 < self.meter_id < R:
            raise AppStateError(f"app state: device {self.name!r} has a meter id outside 1 to r - 1")
        known = self.quantities == tuple(sorted(set(self.quantities) & set(METERED)))
        if not known or VOUCHED.quantity not in self.quantities:
            raise AppStateError(
                f"app state: device {self.name!r} must have {VOUCHED.quantity} and others of {', '.join(METERED)}, ascending"
            )


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

    plans: one for each model; the first one's answers are vouched. commit_key: the verifying key of the circuit `commit`
    (`VerifyingKey.to_bytes`). trainers, prices: the hubs that learn prices and the record of them; none without such a plan.
    """

    devices: tuple[Device, ...]
    feeders: tuple[Feeder, ...]
    plans: tuple[LearningPlan, ...]
    commit_key: bytes
    trainers: tuple[Trainer, ...] = ()
    prices: tuple[PriceRecord, ...] = ()

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
        self._check_prices(addresses)
        names = [plan.spec.short_name for plan in self.plans]
        if not 1 <= len(names) <= MAX_MODELS or len(set(names)) != len(names):
            raise AppStateError(f"app state: give 1 to {MAX_MODELS} plans of different forecasters")
        for plan in self.plans:
            self._check_plan(plan)
        if self.plans[0].spec != VOUCHED:
            raise AppStateError(
                f"app state: the first plan's forecaster must be {VOUCHED.model_id}, for which answers are vouched"
            )
        if len({plan.privacy == "none" for plan in self.plans if plan.spec.quantity in METERED}) > 1:
            raise AppStateError("app state: some plans hide updates and some show them; a meter that hides one shows none")
        try:
            inputs = VerifyingKey.from_bytes(self.commit_key).n_public
        except UnsafeKeyError as error:
            raise AppStateError(f"app state: commit_key: {error}") from error
        if inputs != PUBLIC_INPUTS:
            raise AppStateError(f"app state: commit_key is of a circuit with {inputs} public inputs; give that of commit")

    def _check_prices(self, devices: list[bytes]) -> None:
        past = {feeder.microgrid: range(feeder.start_hour, feeder.start_hour + len(feeder.net_wh)) for feeder in self.feeders}
        try:
            check_trainers(self.trainers, devices)
            check_records(self.plans, self.trainers, self.prices, past)
        except ValueError as error:
            raise AppStateError(f"app state: {error}") from error

    def _check_plan(self, plan: LearningPlan) -> None:
        """AppStateError for a plan that the registered devices cannot follow, or the chain cannot agree on."""
        spec = plan.spec
        if 2 * spec.master_bytes > MAX_RESULT_BYTES:
            raise AppStateError(
                f"app state: master and momentum of {spec.model_id} have more than {MAX_RESULT_BYTES} bytes; a chain"
                " agrees on smaller models only"
            )
        if spec.quantity == PRICE.quantity:
            try:
                check_price_spec(spec)
            except ValueError as error:
                raise AppStateError(f"app state: {error}") from error
        elif spec.quantity not in METERED or spec.channels or spec.resolution_minutes % MINUTES_PER_SLOT:
            raise AppStateError(
                f"app state: no meter can learn {spec.model_id}; use {', '.join(METERED)} without channels, in whole slots"
            )
        registered = len(self.learners(plan))
        if plan.min_participants + plan.committee_size > registered:
            raise AppStateError(
                f"app state: a round of {spec.quantity} needs {plan.min_participants} devices and a committee of"
                f" {plan.committee_size} others but {registered} are registered"
            )
        if plan.privacy != "none":
            _check_private(plan, self.metered_by(plan))

    def learners(self, plan: LearningPlan) -> tuple[Device | Trainer, ...]:
        """Who learns a plan's model, ascending by address: hubs learn prices, meters what they meter."""
        return self.trainers if plan.spec.quantity == PRICE.quantity else self.metered_by(plan)

    def metered_by(self, plan: LearningPlan) -> tuple[Device, ...]:
        """The devices that meter a plan's quantity, ascending by address."""
        return tuple(device for device in self.devices if plan.spec.quantity in device.quantities)

    def encode(self) -> bytes:
        """Canonical bytes for `Genesis.app_state`."""
        return codec.encode(
            {
                "devices": [
                    [d.address, d.mask_public, d.microgrid, d.name, d.meter_id, list(d.quantities)] for d in self.devices
                ],
                "feeders": [[f.microgrid, f.start_hour, list(f.net_wh)] for f in self.feeders],
                "plans": [plan.encode() for plan in self.plans],
                "commit_key": self.commit_key,
                "trainers": [[t.address, t.name] for t in self.trainers],
                "prices": [[p.microgrid, p.start_slot, list(p.wei_per_wh)] for p in self.prices],
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> AppGenesis:
        """Inverse of `encode`. Raises AppStateError."""
        try:
            value: Any = codec.decode(data, max_bytes=MAX_STATE_BYTES, max_items=MAX_STATE_BYTES)
            if not isinstance(value, dict) or value.keys() != PARTS:
                raise AppStateError(f"app state: it must have exactly {', '.join(sorted(PARTS))}")
            return cls(
                tuple(_device(item) for item in _items(value["devices"])),
                tuple(_feeder(item) for item in _items(value["feeders"])),
                tuple(LearningPlan.decode(_bytes(item, "a plan")) for item in _items(value["plans"])),
                _bytes(value["commit_key"], "commit_key"),
                tuple(Trainer(*_fields(item, bytes, str)) for item in _items(value["trainers"])),
                tuple(_record(item) for item in _items(value["prices"])),
            )
        except AppStateError:
            raise
        except (ValueError, TypeError) as error:
            raise AppStateError(f"app state: {error}; make the genesis again") from error


def _check_private(plan: LearningPlan, devices: tuple[Device, ...]) -> None:
    """Raises AppStateError unless these devices, which learn the plan's model, can hold its private rounds."""
    most = MAX_CHAIN_MEMBERS + plan.committee_size
    if len(devices) > most:
        raise AppStateError(
            f"app state: {len(devices)} devices are registered, but a private round of a chain has at most"
            f" {MAX_CHAIN_MEMBERS} members beside its committee of {plan.committee_size}; register at most {most}, or use none"
        )
    if not may_open(plan, 0):
        raise AppStateError("app state: the plan's privacy budget does not cover one round; raise epsilon_budget_micro")
    for device in devices:
        if not is_mask_key(device.mask_public):
            raise AppStateError(f"app state: nobody can agree a secret with the mask key of {device.name!r}; make it again")


def make_app_genesis(
    devices: list[Device],
    feeders: list[Feeder],
    plans: tuple[LearningPlan, ...],
    commit_key: bytes,
    trainers: Sequence[Trainer] = (),
    prices: Sequence[PriceRecord] = (),
) -> AppGenesis:
    """An AppGenesis from its parts in any order; that of the plans counts. Raises AppStateError."""
    return AppGenesis(
        tuple(sorted(devices, key=lambda device: device.address)),
        tuple(sorted(feeders, key=lambda feeder: feeder.microgrid)),
        plans,
        commit_key,
        tuple(sorted(trainers, key=lambda trainer: trainer.address)),
        tuple(sorted(prices, key=lambda record: record.microgrid)),
    )


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise AppStateError("app state: a list is missing")
    return value


def _bytes(value: Any, what: str) -> bytes:
    if not isinstance(value, bytes):
        raise AppStateError(f"app state: {what} is not bytes")
    return value


def _fields(value: Any, *types: type) -> list[Any]:
    if not isinstance(value, list) or [type(item) for item in value] != list(types):
        raise AppStateError("app state: an entry does not have the fields it must have")
    return value


def _device(value: Any) -> Device:
    address, mask_public, microgrid, name, meter_id, quantities = _fields(value, bytes, bytes, int, str, int, list)
    if not all(type(item) is str for item in quantities):
        raise AppStateError("app state: a quantity is not text")
    return Device(address, mask_public, microgrid, name, meter_id, tuple(quantities))


def _feeder(value: Any) -> Feeder:
    microgrid, start_hour, net_wh = _fields(value, int, int, list)
    if not all(type(item) is int for item in net_wh):
        raise AppStateError("app state: an hourly energy is not a whole number")
    return Feeder(microgrid, start_hour, tuple(net_wh))


def _record(value: Any) -> PriceRecord:
    microgrid, start_slot, wei_per_wh = _fields(value, int, int, list)
    if not all(type(item) is int for item in wei_per_wh):
        raise AppStateError("app state: a price is not a whole number")
    return PriceRecord(microgrid, start_slot, tuple(wei_per_wh))
