"""What the replicas agree on, as immutable sections, and the hash over them.

Rules: a section is a frozen value; a rule that changes one puts a new value in its place (`dataclasses.replace`), so
an abandoned execution leaves nothing behind and an untouched section keeps its identity, hence its cached hash. Lists
inside are sorted by their key, so equal states have equal bytes. Every list has a bound.
state_hash = keccak(TAG | genesis state hash | keccak(section 1) | ... ) in the order of `section_names`: the sections of each
model, then the others. The app hash joins it with the block's events and the first model's hash, so that the EVM can check an
event without seeing the state; it is by the first model that vouched answers are made, and their events name it.
Not here: how a section changes (`learning_rounds`, `slots`, `inference`, `governance`, `offences`), the sections of a model
(`round_state`, `private_state`), the first state (`first_state`), where it is stored (`storage`).
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hub.ppdl.app.genesis_state import AppGenesis, Device
from hub.ppdl.app.learning_env import LearningEnv, learning_envs
from hub.ppdl.app.round_state import Learning
from openmg import codec
from openmg.hashing import keccak256, merkle_root
from openmg.masking import Commitments
from openmg.messages.telemetry import SlotReport

APP_TAG = keccak256(b"openmg.ppdl.app.v1")
STATE_TAG = keccak256(b"openmg.ppdl.state.v1")
RECORDED_SLOTS = 192
"""Two days: the window in which a slot may still be recorded, twice what a meter has to mint."""
MAX_ANSWERS = 512
FOUR = 4
"""The smallest set that tolerates a faulty validator."""
MAX_SECTION_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """The agreed sum of one slot: how many meters, their import and export energy in Wh, and the root of their leaves.

    closed: how many more meters are in groups of the microgrid that stayed closed, so that the sum is not the microgrid's.
    """

    slot: int
    members: int
    import_wh: int
    export_wh: int
    root: int
    closed: int


@dataclass(frozen=True, slots=True)
class Grid:
    """A microgrid: its hourly net energy from `start_hour` on, and its agreed slots in ascending order."""

    microgrid: int
    start_hour: int
    net_wh: tuple[int, ...]
    slots: tuple[SlotRecord, ...]

    @property
    def end_hour(self) -> int:
        """The first hour that is not in the history yet."""
        return self.start_hour + len(self.net_wh)


@dataclass(frozen=True, slots=True)
class Answer:
    """A vouched forecast: the request it answers and 24 hourly net energies in Wh from the hour after `as_of_slot`."""

    plasma_chain_id: int
    contract: bytes
    request_id: int
    microgrid: int
    as_of_slot: int
    model_hash: bytes
    answer_wh: tuple[int, ...]
    height: int


@dataclass(frozen=True, slots=True)
class SetSpan:
    """Validator set `number`, ascending addresses: it agrees on blocks from `from_height` until the next span's.

    reached_four: it or one before it had four members.
    """

    number: int
    from_height: int
    addresses: tuple[bytes, ...]
    reached_four: bool


class WithSets(Protocol):
    """Whatever holds the chain's validator sets: the state, and the view that a model's rules have of it."""

    @property
    def sets(self) -> tuple[SetSpan, ...]: ...


@dataclass(frozen=True, slots=True)
class OpenProposal:
    """A change of the validator set that is voted on (`set_change.SetChange`), with its votes in ascending order."""

    proposal_hash: bytes
    proposer: bytes
    add: bytes
    remove: bytes
    below_four: bool
    opened_height: int
    expires_height: int
    votes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Offence:
    """One proven equivocation: who signed two digests of one kind (`consensus.messages.Kind`) at (height, view)."""

    offender: bytes
    height: int
    view: int
    kind: int
    digest_a: bytes
    digest_b: bytes
    recorded_height: int


@dataclass(frozen=True, slots=True)
class Offences:
    """All that were ever recorded, in number, and those that are still kept, in the order of their recording."""

    total: int
    kept: tuple[Offence, ...]


@dataclass(frozen=True, slots=True)
class State:
    """All sections: those of each model, in the order of the genesis' plans, and what the chain has once."""

    models: tuple[Learning, ...]
    grids: tuple[Grid, ...]
    answers: tuple[Answer, ...]
    sets: tuple[SetSpan, ...]
    proposals: tuple[OpenProposal, ...]
    offences: Offences


LEARNING_SECTIONS = tuple(field.name for field in dataclasses.fields(Learning))
CHAIN_SECTIONS = tuple(field.name for field in dataclasses.fields(State) if field.name != "models")
_HINTS = typing.get_type_hints(Learning) | typing.get_type_hints(State)


@dataclass(frozen=True)
class Env:
    """What never changes while a chain lives: its id, its genesis hash and state, and how slot proofs are verified.

    chain: keccak of the whole genesis, the chain's identity. genesis_hash: keccak of its application state only.
    commitments: the proved points of a report of the meter with this mid; raises SlotProofError. The same for every replica
    (`openmg.zk.slot_proof`), so it is a part of the rules although it comes from outside.
    """

    chain_id: int
    chain: bytes
    genesis: AppGenesis
    genesis_hash: bytes
    commitments: Callable[[SlotReport, int], Commitments]

    @functools.cached_property
    def learning(self) -> tuple[LearningEnv, ...]:
        """Of each model, in the order of the plans."""
        return learning_envs(self.genesis, self.chain_id, self.chain)

    @functools.cached_property
    def devices(self) -> dict[bytes, Device]:
        return {device.address: device for device in self.genesis.devices}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return [_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        names = [field.name for field in dataclasses.fields(hint)]
        return hint(*(_typed(hints[name], item) for name, item in zip(names, value, strict=True)))
    if typing.get_origin(hint) is tuple:
        return tuple(_typed(typing.get_args(hint)[0], item) for item in value)
    return value


def encode_section(value: Any) -> bytes:
    """Canonical bytes of a section."""
    return codec.encode(_plain(value))


def section_names(models: int) -> tuple[str, ...]:
    """The sections of a chain with so many models, in the order of the state hash: 0.model, 0.round, ..., sets, ..."""
    return (*(f"{place}.{name}" for place in range(models) for name in LEARNING_SECTIONS), *CHAIN_SECTIONS)


def sections_of(state: State) -> dict[str, Any]:
    """The state's sections by name, in the order of the state hash."""
    values = [getattr(learning, name) for learning in state.models for name in LEARNING_SECTIONS]
    values += [getattr(state, name) for name in CHAIN_SECTIONS]
    return dict(zip(section_names(len(state.models)), values, strict=True))


def state_of(sections: Mapping[str, bytes], models: int) -> State:
    """The state from the bytes of its sections, as `encode_section` made them. KeyError when one is missing."""
    decoded = {name: _decode_section(name, sections[name]) for name in section_names(models)}
    return State(
        tuple(Learning(*(decoded[f"{place}.{name}"] for name in LEARNING_SECTIONS)) for place in range(models)),
        *(decoded[name] for name in CHAIN_SECTIONS),
    )


def _decode_section(name: str, data: bytes) -> Any:
    hint = _HINTS[name.rpartition(".")[2]]
    return _typed(hint, codec.decode(data, max_bytes=MAX_SECTION_BYTES, max_items=MAX_SECTION_BYTES))


class SectionCache:
    """Encodes and hashes only the sections that are new since the last call."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, bytes, bytes]] = {}

    def copy(self) -> SectionCache:
        """A cache that knows the same sections and is refreshed on its own."""
        twin = SectionCache()
        twin._known = dict(self._known)
        return twin

    def refresh(self, state: State) -> dict[str, bytes]:
        """The bytes of the sections that changed, by name."""
        changed: dict[str, bytes] = {}
        for name, value in sections_of(state).items():
            known = self._known.get(name)
            if known is None or known[0] is not value:
                data = encode_section(value)
                if known is None or known[1] != data:
                    changed[name] = data
                self._known[name] = (value, data, keccak256(data))
        return changed

    def state_hash(self, env: Env) -> bytes:
        """keccak over the genesis state's hash and the sections of the last `refresh`."""
        hashes = [self._known[name][2] for name in section_names(len(env.genesis.plans))]
        return keccak256(STATE_TAG + env.genesis_hash + b"".join(hashes))


def app_hash(state_hash: bytes, events: tuple[bytes, ...], name_of_model: bytes) -> bytes:
    """keccak(tag | state hash | Merkle root of the events | model hash), checked by the relay contract."""
    return keccak256(APP_TAG + state_hash + merkle_root(events) + name_of_model)
