"""Two homes of a group that exchange their slots, and everything that others record of it.

In a run, one of the homes imports enough for a purchase in the first slot and next to nothing in the second, the other the
reverse; a hidden bit says which is which. So each home's total, which the utility may know, is the same whatever the bit
is. Both mint every slot, as all meters do, and the one with the import buys. Recorded is what the hub carries (reports,
times, relays, sizes), what relays open and the chain sees (whole calls, in the order of submission), by the code that
meters and relays run. The anonymity set is two, the smallest there is.
Rules: proofs are random group elements unless `prove` makes real ones, since a proof says nothing but that its statement is
true; everything else is as a meter makes it, with fresh keys for masks, notes and envelopes each run.
`Guards` takes protections away one by one, so that whoever looks for links can be shown to find them when they are there.
Not here: who looks (`features`, `classify`, `scripted`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_agent.market import blindings
from edge_agent.market.blindings import Outcome
from edge_agent.market.calls import PoolCalls, Purchase
from edge_agent.wallet.envelopes import SLOT_PARTS, EnvelopeSchedule
from openmg.envelope import Action, unseal
from openmg.identity import DeviceKey
from openmg.market.calendar import Calendar
from openmg.masking import Masker, make_roster
from openmg.messages import topics
from openmg.messages.telemetry import RosterMember
from openmg.zk import babyjub
from openmg.zk.circuits.mint import MintPublics
from openmg.zk.circuits.transfer import TransferPublics
from openmg.zk.field import Q, R
from openmg.zk.meters import LOT_WH, buy_nullifier, mint_nullifier, period_key
from openmg.zk.notes import Note, SpendingKey, encrypt_note
from openmg.zk.slot_openings import export_opening, import_opening

FIRST_SLOT = 1_979_428
SLOTS = 2
GROUP = 5
RELAYS = 2
BUSY_WH, IDLE_WH, EXPORT_WH = 1_230, 80, 410
LOTS = 10
CAP_WEI_PER_WH = 35_000_000_000
FOREVER = 2**40
CALLS = PoolCalls(8_600_003, b"\x51" * 20, b"\x52" * 32)
CALENDAR = Calendar(36, 28, bytes(24))
PROOF_WORDS = 8

Prove = Callable[[str, object], Sequence[int]]
"""Circuit and what is stated, to a proof's eight words."""


@dataclass(frozen=True)
class Guards:
    """What protects the homes; each can be taken away for a control."""

    masks: bool = True
    dummies: bool = True
    shuffle: bool = True
    drawn_times: bool = True
    one_size: bool = True
    common_root: bool = True


@dataclass(frozen=True)
class Sent:
    """An envelope as its carrier sees it."""

    topic: str
    part: int
    relay: int
    size: int


@dataclass(frozen=True)
class Report:
    """A slot report as the hub sees it."""

    masked: tuple[int, ...]
    commitments: tuple[bytes, bytes]
    proof: tuple[int, ...]


@dataclass
class HomeView:
    """What the hub records of one home, slot by slot."""

    reports: list[Report] = field(default_factory=list)
    sent: list[list[Sent]] = field(default_factory=list)


@dataclass
class Transcript:
    """A run as hub, relays, utility and chain record it together; `bit` is what they would like to know."""

    bit: int
    homes: tuple[HomeView, HomeView]
    calls: list[list[bytes]] = field(default_factory=list)
    """Calldata in the order of submission, by slot."""
    totals_wh: tuple[tuple[int, int], ...] = ()
    """What the utility is told: (import, export) of each home over the period."""


@dataclass(frozen=True)
class _Home:
    device: DeviceKey
    owner: SpendingKey
    seed: bytes
    import_wh: tuple[int, int]


def random_proof(_circuit: str, _stated: object) -> tuple[int, ...]:
    """Words as those of a proof: coordinates below q."""
    return tuple(secrets.randbelow(Q) for _ in range(PROOF_WORDS))


class LinkageWorld:
    """The group and its relays; `run` makes a transcript for a bit.

    `seed` fixes their keys, so that several processes have one world; without it they are fresh.
    """

    def __init__(self, guards: Guards | None = None, prove: Prove = random_proof, seed: bytes | None = None) -> None:
        self.guards = guards or Guards()
        self._prove = prove
        drawn = np.random.default_rng([*(seed or secrets.token_bytes(32))])
        self._relays = [X25519PrivateKey.from_private_bytes(drawn.bytes(32)) for _ in range(RELAYS)]
        self._publics = [key.public_key().public_bytes_raw() for key in self._relays]
        self._devices = [DeviceKey(drawn.bytes(32)) for _ in range(GROUP)]
        names = [f"home-{i}" for i in range(GROUP)]
        members = [
            RosterMember(name, key.address, key.mask_public, 1, bytes(32))
            for name, key in zip(names, self._devices, strict=True)
        ]
        self._maskers = [Masker(key, make_roster(1, FIRST_SLOT, members)) for key in self._devices[:2]]
        self._root = int.from_bytes(drawn.bytes(31), "big")

    def run(self, bit: int, epoch: int) -> Transcript:
        """Both slots of an epoch, no two of which share a slot, with the homes' loads exchanged when the bit is 1."""
        loads = (BUSY_WH, IDLE_WH), (IDLE_WH, BUSY_WH)
        owners = [SpendingKey.from_seed(secrets.token_bytes(32)) for _ in loads]
        homes = [
            _Home(device, owner, secrets.token_bytes(32), loads[i ^ bit])
            for i, (device, owner) in enumerate(zip(self._devices[:2], owners, strict=True))
        ]
        schedules = [EnvelopeSchedule(self._publics, secrets.randbelow) for _ in homes]
        seen = Transcript(bit, (HomeView(), HomeView()))
        for turn in range(SLOTS):
            slot = FIRST_SLOT + SLOTS * epoch + turn
            waiting: list[tuple[int, bytes]] = []
            for i, (home, schedule) in enumerate(zip(homes, schedules, strict=True)):
                seen.homes[i].reports.append(self._report(i, home, slot, turn))
                for key, data in self._calls(i, home, slot, turn):
                    schedule.put(key, [Action(CALLS.pool, data)], FOREVER)
                sent, opened = self._send(schedule, slot + 1, f"home-{i}")
                seen.homes[i].sent.append(sent)
                waiting += opened
            seen.calls.append(self._submit(waiting))
        seen.totals_wh = tuple((sum(home.import_wh), SLOTS * EXPORT_WH) for home in homes)
        return seen

    def _report(self, which: int, home: _Home, slot: int, turn: int) -> Report:
        import_wh = home.import_wh[turn]
        exported, imported = export_opening(home.device, slot, EXPORT_WH), import_opening(home.device, slot, import_wh)
        values = import_wh, EXPORT_WH, exported.blinding, imported.blinding
        masked = self._maskers[which].mask(slot, values).masked if self.guards.masks else values
        points = babyjub.compress(exported.point), babyjub.compress(imported.point)
        return Report(masked, points, tuple(self._prove("commit", (exported, imported, slot))))

    def _calls(self, which: int, home: _Home, slot: int, turn: int) -> list[tuple[str, bytes]]:
        """A mint, and a purchase where the import allows one."""
        calls = [(f"mint {slot}", self._mint(home, slot))]
        if home.import_wh[turn] >= LOTS * LOT_WH:
            calls.append((f"buy {slot}", self._buy(which, home, slot)))
        return calls

    def _sealed(self, home: _Home, amount: int, asset: int = 0) -> tuple[Note, bytes]:
        note = Note(asset, amount, home.owner.public_key, secrets.randbelow(R))
        return note, encrypt_note(note, home.owner.address, secrets.token_bytes(32))

    def _mint(self, home: _Home, slot: int) -> bytes:
        note, sealed = self._sealed(home, EXPORT_WH, asset=1)
        period = CALENDAR.period_of(slot)
        spent = mint_nullifier(period_key(home.device.meter_secret, period), slot)
        ext = CALLS.mint_ext(slot, FOREVER, sealed)
        stated = MintPublics(0, 0, slot, period, 1, note.asset, spent, note.commitment, ext)
        return CALLS.mint(self._prove("mint", stated), stated, FOREVER, sealed).data

    def _buy(self, which: int, home: _Home, slot: int) -> bytes:
        partials = [
            blindings.outcome_partial(home.seed, home.owner.public_key, outcome, slot)
            for outcome in (Outcome.DELIVERY, Outcome.CHANGE)
        ]
        purchase = Purchase(slot, LOTS, buy_nullifier(home.device.meter_secret, slot), *partials)
        price_wei = LOTS * LOT_WH * CAP_WEI_PER_WH
        (paying, _), (change, first), (nothing, second) = (self._sealed(home, wei) for wei in (10**17, 10**17 - price_wei, 0))
        spent = paying.nullifier(home.owner.nullifier_key, 0, secrets.randbelow(2**20))
        dummy = Note(0, 0, home.owner.public_key, secrets.randbelow(R)).nullifier(home.owner.nullifier_key, 0, 0)
        root = self._root if self.guards.common_root else which  # a wallet that anchors to a root of its own
        parts = root, (spent, dummy), (change.commitment, nothing.commitment)
        ext = CALLS.purchase_ext(purchase, *parts, FOREVER, (first, second))
        stated = TransferPublics(*parts, 0, 0, price_wei, ext)
        proofs = self._prove("buy", purchase), self._prove("transfer", stated)
        return CALLS.buy(purchase, *proofs, stated, FOREVER, (first, second)).data

    def _send(self, schedule: EnvelopeSchedule, slot: int, name: str) -> tuple[list[Sent], list[tuple[int, bytes]]]:
        """The slot's envelopes as the carrier sees them, and what the relays find inside with the time of its coming."""
        sent: list[Sent] = []
        opened: list[tuple[int, bytes]] = []
        topic = topics.from_meter(name, topics.ENVELOPE)
        while (part := schedule.next_part(slot)) < SLOT_PARTS:
            for envelope in schedule.due(slot, part):
                relay = self._publics.index(envelope.relay)
                actions = unseal(self._relays[relay], envelope).actions
                size = len(envelope.sealed) if self.guards.one_size else sum(len(action.data) for action in actions)
                if actions or self.guards.dummies:
                    sent.append(Sent(topic, part if self.guards.drawn_times else 10 * len(sent), relay, size))
                opened += [(part, action.data) for action in actions]
        return sent, opened

    def _submit(self, waiting: list[tuple[int, bytes]]) -> list[bytes]:
        """As a relay does at the slot's end."""
        calls = [data for _part, data in sorted(waiting, key=lambda item: item[0])]
        if self.guards.shuffle:
            secrets.SystemRandom().shuffle(calls)
        return calls
