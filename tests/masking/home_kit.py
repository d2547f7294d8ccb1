"""A home's reporter with its files, in a group whose other members are simulated, and a hub that may lie to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, agent_toml
from masking_kit import KEYS, member
from slot_reports import masked_slot

from edge_agent.agent import load_device_key
from edge_agent.config import AgentConfig
from edge_agent.reporting import Reporter
from edge_agent.slot_prover import SlotProver
from edge_agent.slots import Baseline, ClosedSlot
from edge_agent.store import Store
from openmg.clock import slot_of
from openmg.config import load_toml
from openmg.identity import DeviceKey
from openmg.keys.files import store_key
from openmg.masking import make_roster, roster_id
from openmg.masking.rosters import approve
from openmg.masking.survivors import set_of
from openmg.messages import base
from openmg.messages.slot_opening import MeterApproval, OpeningNotice, SlotDelivery, SlotOpening
from openmg.messages.telemetry import Roster, RosterMember, SlotReport
from openmg.signing import address_of
from openmg.survivors import sign_set
from openmg.zk.circuits.commit import CommitWitness

SLOT = slot_of(T0)
UTILITY_KEY = bytes(31) + b"\x09"
PEERS = KEYS[:7]
"""Seven neighbours: a group of eight with the home, of which six must be there."""


DEVICE_KEY = bytes([90]) * 32


class OneProof(SlotProver):
    """Proves each statement once a run: these tests repeat the same slot of the same meter."""

    _made: ClassVar[dict[str, bytes]] = {}

    def prove(self, witness: CommitWitness) -> bytes:
        name = repr(witness)
        if name not in self._made:
            self._made[name] = super().prove(witness)
        return self._made[name]


def approved(key: DeviceKey, name: str, *, utility_key: bytes = UTILITY_KEY, clear_feeder: bool = False) -> RosterMember:
    """A member with the utility's approval."""
    said = MeterApproval(1, name, key.address, key.mask_public, clear_feeder)
    return RosterMember(name, key.address, key.mask_public, 0, bytes(32), approve(said, CHAIN_ID, utility_key))


def signed(message: base.Message, key: bytes = OPERATOR_KEY) -> bytes:
    return base.sign(message, CHAIN_ID, key)


class HomeMeter:
    """One meter's side, as an agent runs it; `restart` is a new process on the same files."""

    def __init__(self, folder: Path, *, utility: bool = True) -> None:
        path = agent_toml(folder, 1502, "mqtt://127.0.0.1:1883", "home-99")
        if utility:
            said = path.read_text(encoding="utf-8")
            entry = f'[hub]\nutility = "0x{address_of(UTILITY_KEY).hex()}"'
            path.write_text(said.replace("[hub]", entry), encoding="utf-8")
        self.config = load_toml(path, AgentConfig)
        key_file = self.config.device.key_file
        key_file.parent.mkdir(exist_ok=True)
        if not key_file.exists():
            store_key(key_file, DEVICE_KEY)
        self.key = load_device_key(self.config)
        self.open()

    def open(self) -> None:
        self.store = Store(self.config.store_path)
        assert self.config.slot_keys is not None
        self.reporter = Reporter(self.config, self.key, self.store, OneProof(self.config.slot_keys))

    def restart(self) -> None:
        self.store.close()
        self.reporter.close()
        self.open()

    @property
    def refusals(self) -> dict[str, int]:
        return self.reporter.promises.refusals()

    def close_slot(self, slot: int, import_wh: int = 70, export_wh: int = 5) -> None:
        self.store.move_baseline(Baseline(slot + 1, 0, 0), ClosedSlot(slot, import_wh, export_wh, 0))

    def report(self, place: int = -1) -> tuple[SlotReport, bytes]:
        """A report of the outbox, and the shares delivered with it."""
        delivery = base.decode(SlotDelivery, self.store.pending(0, 100)[place].payload)
        return base.open_signed(SlotReport, delivery.report, CHAIN_ID).message, delivery.shares

    def ask(self, notice: OpeningNotice, key: bytes = OPERATOR_KEY) -> SlotOpening | None:
        answered = self.reporter.openings.answer(signed(notice, key))
        return None if answered is None else base.open_signed(SlotOpening, answered, CHAIN_ID).message


class Neighbours:
    """The home's group: a roster of it and its peers, and what the peers reported of a slot."""

    def __init__(self, home: HomeMeter, peers: Iterable[DeviceKey] = PEERS, feeder: bool = False) -> None:
        self.home, self.peers = home, tuple(peers)
        members = [approved(key, member(key).device, clear_feeder=feeder) for key in self.peers]
        members.append(approved(home.key, "home-99", clear_feeder=feeder))
        self.roster: Roster = make_roster(1, SLOT, members, feeder)
        self.id = roster_id(self.roster)
        self._peers_say: dict[bytes, bytes] = {}

    def said(self, slot: int = SLOT) -> dict[bytes, bytes]:
        """Self commitments of the slot's reports: the home's own, and those of the peers."""
        if not self._peers_say:
            reports = {key.address: masked_slot(key, self.roster, slot, (10, 1, 2, 3)) for key in self.peers}
            self._peers_say = {address: report.self_commitment for address, report in reports.items()}
        mine = self.home.reporter.promises.of(slot)
        return {**self._peers_say, self.home.key.address: mine.self_commitment if mine else bytes(32)}

    def notice(self, gone: Iterable[DeviceKey] = (), slot: int = SLOT, sign: int = 0) -> OpeningNotice:
        """The set without those who are gone, signed by so many of the peers in it."""
        away = {key.address for key in gone}
        said = self.said(slot)
        chosen = [address for address in sorted(said) if address not in away]
        notice = OpeningNotice(self.id, slot, tuple(chosen), tuple(said[address] for address in chosen))
        present = [key for key in self.peers if key.address not in away][:sign]
        signers = {key.address: sign_set(set_of(notice), CHAIN_ID, key.signing_key) for key in present}
        ordered = sorted(signers)
        return OpeningNotice(
            self.id, slot, notice.survivors, notice.commitments, tuple(ordered), tuple(signers[a] for a in ordered)
        )
