"""The rounds: who takes part, what they send, what a replica refuses, what the rest agree on.

Rules: every update passes through its wire bytes and through the checks that a replica makes of a transaction (registered
device, round, base, length, norm), so an attack meets here what it would meet on the chain. `bytes_sent` counts updates
as sent and the model as received by each participant. In a private round nobody sees an update, so its norm is not checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.model import initial_master
from openmg.learning.aggregate import ServerState, aggregate, apply_step
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash, norm_units, update_from_bytes
from workbench.attacks.attack import Attack, AttackView
from workbench.ppdl_train.homes import Fleet, Home
from workbench.ppdl_train.private_rounds import PrivateRounds

I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass
class Ledger:
    """What the rounds cost and what was refused, by reason."""

    bytes_sent: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    capped: int = 0


@dataclass(frozen=True)
class Message:
    """An update as a replica gets it."""

    device: bytes
    round: int
    base_hash: bytes
    update: bytes


class Federation:
    """The server side of all rounds, as a replica would compute it, and the adversary beside it."""

    def __init__(
        self, fleet: Fleet, plan: LearningPlan, attack: Attack, clients_per_round: int, seed: int, drop_out: float = 0.0
    ) -> None:
        self.plan, self.attack, self.fleet = plan, attack, fleet
        self.clients = min(clients_per_round, len(fleet.homes))
        spec = plan.spec
        self.state = ServerState(initial_master(spec, plan.seed), np.zeros(spec.parameters, np.int32))
        self.ledger = Ledger()
        self.private = None if plan.privacy == "none" else PrivateRounds(plan, seed, drop_out)
        self._registered = frozenset(home.device for home in fleet.homes)
        self._random = np.random.default_rng([seed, 2])
        self._adversary = np.random.default_rng([seed, 3])
        self._sent: dict[bytes, bytes] = {}
        self._step: I64 | None = None

    def run(self, rounds: int, progress: Callable[[str], None]) -> I32:
        """The master after that many rounds."""
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}, {self.clients} homes")
            self._round(number)
        return self.state.master

    def _round(self, number: int) -> None:
        if self.private is not None and not self.private.may_open():
            return
        chosen = self._random.choice(len(self.fleet.homes), self.clients, replace=False)
        homes = [self.fleet.homes[index] for index in sorted(chosen)]
        base = model_hash(self.plan.spec, self.state.master)
        messages = self._messages(homes, number, base)
        self.ledger.bytes_sent += self.clients * self.plan.spec.master_bytes
        if self.private is None:
            self.ledger.bytes_sent += sum(len(item.update) for item in messages)
        admitted = self._admitted(messages, number, base)
        self._sent |= {item.device: item.update for item in messages}
        if not admitted:
            return
        if self.private is not None:
            return self._apply_private(self.private, admitted, number, base)
        outcome = aggregate(admitted, self.plan, len(self._registered))
        self.ledger.capped += len(outcome.capped)
        self.ledger.rejected.update(str(item.reason) for item in outcome.rejected)
        self._step = outcome.step
        self.state = apply_step(self.state, outcome.step, self.plan)

    def _apply_private(self, private: PrivateRounds, updates: Mapping[bytes, I16], number: int, base: bytes) -> None:
        """The step of a round that opens the sum alone; a void one leaves the model as it is."""
        before = private.bytes_sent
        step = private.step(updates, number, base)
        self.ledger.bytes_sent += private.bytes_sent - before
        if step is not None:
            self._step, self.state = step, apply_step(self.state, step, self.plan)

    def _messages(self, homes: list[Home], number: int, base: bytes) -> list[Message]:
        trained = {home.device: home.learner.train(self.state.master, number).update_int16 for home in homes}
        own = {home.device: trained[home.device] for home in homes if home.hostile}
        honest = {device: data for device, data in trained.items() if device not in own}
        before, self._sent = self._sent, dict(trained)  # a device that keeps silent could still send what it trained later
        view = AttackView(
            number,
            tuple(sorted(own)),
            self._read(own),
            self._read(honest),
            before,
            self.plan.clip_units,
            self._adversary,
            self._step,
        )
        dropped, hostile_round = self.attack.dropped(view), self.attack.named_round(view)
        return [
            *(Message(device, number, base, data) for device, data in honest.items() if device not in dropped),
            *(Message(device, hostile_round, base, data) for device, data in sorted(self.attack.updates(view).items())),
        ]

    def _read(self, trained: Mapping[bytes, bytes]) -> dict[bytes, I16]:
        return {device: update_from_bytes(self.plan.spec, data) for device, data in trained.items()}

    def _admitted(self, messages: list[Message], number: int, base: bytes) -> dict[bytes, I16]:
        """What passes a replica's checks, one update a device."""
        admitted: dict[bytes, I16] = {}
        for item in messages:
            reason, update = self._check(item, number, base)
            if update is None or item.device in admitted:
                self.ledger.rejected[reason or "a second update of a device"] += 1
            else:
                admitted[item.device] = update
        return admitted

    def _check(self, item: Message, number: int, base: bytes) -> tuple[str, I16 | None]:
        if item.device not in self._registered:
            return "device is not registered", None
        if item.round != number or item.base_hash != base:
            return "of another round", None
        try:
            update = update_from_bytes(self.plan.spec, item.update)
        except ValueError:
            return "malformed", None
        if self.private is None and norm_units(update) > self.plan.clip_units:
            return "norm above the bound", None
        return "", update
