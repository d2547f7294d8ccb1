"""A real chain with the private market of one microgrid on it, and homes that trade there through the meter's own code.

What stands between them and the chain are the hub's own classes: note log, noticeboard batches, clearing. The PPDL chain that
agrees on slots is written by hand (`evm_world`). Time is the chain's and moves when a test says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evm_world import ETHER, PPDL_CHAIN_ID, Chain, PpdlChain, validator_keys
from pool_world import create, deploy_pool, prove
from trade_cases import CALENDAR, MICROGRID, SLOT, Home, registry_notice, slot_notice

from edge_agent.market import trade as trading
from edge_agent.market.agreed import agreed_slot
from edge_agent.market.calls import PoolCalls
from edge_agent.market.journal import MarketJournal, SentCall
from edge_agent.market.trade import Job, Trade
from edge_agent.wallet.journal import DueShielding
from edge_agent.wallet.note_store import NoteStore
from edge_agent.wallet.notes import PETH, NotePurse
from hub.chain.energy_leaves import MeterLeaf, register_leaves, root_of_leaves
from hub.market.clearing import Clearing
from hub.market.energy_view import EnergyView
from hub.plasma.note_log import NoteLog, read_note_news
from openmg.hashing import keccak256, words
from openmg.messages.market import NOTES_PER_BATCH, NULLIFIERS_PER_BATCH
from openmg.signing import address_of
from openmg.zk import babyjub
from openmg.zk.circuits import append
from openmg.zk.meters import SlotLeaf
from openmg.zk.prove import prove_now
from openmg.zk.prover import ProofRequest, ProofResult
from openmg.zk.tree import NoteTree

SLOT_SECONDS = 600
EPOCH_SECONDS = 60
FLOOR, CAP = 60 * 10**12, 200 * 10**12
"""Wei per Wh."""
FUNDS = ETHER
SLOT_ROOT_TAG = keccak256(b"openmg.event.slotroot.v1")
FIRST_SLOT = SLOT - 52
"""The chain's slot when the contracts are made; registrations are from SLOT - 50 on."""
VALID_SECONDS = 3 * SLOT_SECONDS


class MarketChain:
    """The contracts, the roles' accounts, and what a hub tells of them."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.operator, self.utility = chain.client("market operator"), chain.client("market utility")
        for role in (self.operator, self.utility):
            chain.give(role.address, 1_000 * ETHER)
        self.ppdl = PpdlChain(validator_keys(4))
        self.token, self.verifiers = deploy_pool(self.operator, self.operator.address, EPOCH_SECONDS)
        members = ["0x" + address_of(key).hex() for key in self.ppdl.keys]
        self.relay = create(self.operator, "PpdlRelay", PPDL_CHAIN_ID, bytes(keccak256(b"a genesis")), members, 0, 2**62)
        self._genesis = self.now()
        clock = FIRST_SLOT, self._genesis * 1000, SLOT_SECONDS * 1000
        calendar = CALENDAR.utc_offset_slots, CALENDAR.period_days, CALENDAR.band_of_hour
        roles = self.operator.address, self.utility.address
        self.registry = create(self.operator, "EnergyRegistry", *roles, self.relay.address, clock, calendar)
        places = self.token.address, self.verifiers.address, self.registry.address
        self.pool = create(self.operator, "EnergyPool", *places, MICROGRID, FLOOR, CAP)
        self.operator.transact(self.token, "registerMarket", MICROGRID, self.pool.address)
        self.utility.transact(self.pool, "fund", value=10 * ETHER)
        contracts = SimpleNamespace(
            energy_registry=self.registry, markets=[SimpleNamespace(microgrid=MICROGRID, pool=self.pool)]
        )
        self.clearing = Clearing(self.operator, contracts)  # type: ignore[arg-type]
        self.view = EnergyView(self.operator, contracts)  # type: ignore[arg-type]
        self.sent: list[tuple[str, bytes]] = []
        """(purpose, call data) of every call that homes had submitted."""

    @property
    def calls(self) -> PoolCalls:
        circuit_set = bytes(self.operator.call(self.verifiers, "circuitSet"))
        return PoolCalls(self.operator.chain_id(), self.pool.address, circuit_set)

    def now(self) -> int:
        return self.operator.block("latest").timestamp

    @property
    def slot(self) -> int:
        return int(self.operator.call(self.registry, "currentSlot"))

    def to_slot(self, slot: int) -> None:
        """Some seconds into the slot."""
        if self.slot < slot:
            self.chain.skip(self._genesis + (slot - FIRST_SLOT) * SLOT_SECONDS + 5 - self.now())
        assert self.slot == slot

    def register(self, homes: Iterable[Home]) -> None:
        leaves = [MeterLeaf(home.leaf(), keccak256(home.name.encode())) for home in homes]
        register_leaves(self.operator, self.utility, self.registry, leaves)
        self.leaves = [item.leaf for item in leaves]

    def registry_notice(self):
        """What the hub tells: the root and its slot are the chain's."""
        (change,) = self.view.registry_changes(0, self.operator.block_number())
        assert root_of_leaves(self.leaves) == change.root
        return registry_notice(self.leaves, (change.slot, change.root))

    def agree(self, slot: int, energies: dict[Home, tuple[int, int]]):
        """The slot's leaves are agreed and their root is recorded on chain."""
        notice = slot_notice(slot, energies)
        digests = [
            SlotLeaf(
                leaf.meter_id, slot, babyjub.decompress(leaf.export_commitment), babyjub.decompress(leaf.import_commitment)
            ).digest
            for leaf in notice.leaves
        ]
        root = NoteTree(digests).root()
        event = words(SLOT_ROOT_TAG, PPDL_CHAIN_ID, MICROGRID, slot, root, len(digests))
        self.ppdl.extend([event])
        self.ppdl.extend()
        height = len(self.ppdl.headers)
        self.ppdl.relay(self.operator, self.relay, height - 1, height)
        proof = self.ppdl.proof(height - 1, [event], 0)
        self.operator.transact(self.registry, "recordSlotRoot", (MICROGRID, slot, root, len(digests)), proof)
        return notice

    def note_log(self) -> NoteLog:
        log = NoteLog()
        log.take(read_note_news(self.operator, self.token, 0, self.operator.block_number()))
        return log

    def append_all(self) -> None:
        """Bring every queued note into the tree, as an appender does."""
        while self.operator.call(self.token, "appendedCount") < self.operator.call(self.token, "queuedCount"):
            leaves, count = self.operator.call(self.token, "pendingLeaves")
            if not count:
                self.chain.skip(EPOCH_SECONDS)
                continue
            tree = NoteTree(note.commitment for note in self.note_log().leaves)
            proof, stated = prove(append, append.next_batch(0, tree, leaves[:count]))
            self.operator.transact(self.token, "append", proof, stated.old_root, stated.new_root)

    def submit(self, call: SentCall) -> None:
        self.sent.append((call.purpose, call.data))
        tx_hash = self.operator.send_raw_call(call.target, call.data, where=call.purpose)
        self.operator.wait(tx_hash, where=call.purpose)

    def clear(self) -> None:
        """What the clearing role does in a slot."""
        self.clearing.step()

    def holdings(self) -> tuple[int, int]:
        """The pool's PETH, and what it says it holds for whom."""
        keys = {CALENDAR.key_of(slot) for slot in range(SLOT, SLOT + 4)}
        reserves = sum(self.view.reserves(SimpleNamespace(pool=self.pool), key).wei for key in keys)  # type: ignore[arg-type]
        escrow, locked = self.operator.call(self.pool, "escrow"), self.operator.call(self.pool, "lockedWei")
        return self.operator.balance(self.pool.address), reserves + int(escrow) + int(locked)


class TradingHome:
    """A home's wallet and trade over a file that can be opened again."""

    def __init__(self, home: Home, folder: Path, market: MarketChain) -> None:
        self.home, self.market, self.path = home, market, folder / f"{home.name}.sqlite"
        self.agreed: list[tuple[Any, tuple[int, int]]] = []
        self.open()

    def open(self) -> None:
        market, token = self.market, self.market.token.address
        self.store, self.journal = NoteStore(self.path), MarketJournal(self.path)
        calls = market.calls
        self.purse = NotePurse(self.home.keys, self.store, calls.chain_id, token, calls.circuit_set)
        home = trading.Home(self.home.maker(calls), self.home.meter_secret, token, CAP)
        self.trade = Trade(home, self.journal, self.store, self.purse)
        self.trade.registry.hear(market.registry_notice())
        for notice, energies in self.agreed:
            self._agree(notice, energies)

    def killed(self) -> None:
        """The process ends without a word and another one opens the files."""
        self.store.close()
        self.journal.close()
        self.open()

    def restored(self) -> None:
        """The owner's words on a new meter: another, empty database."""
        self.store.close()
        self.journal.close()
        self.path = self.path.with_name("new-" + self.path.name)
        self.open()

    def meter(self, notice: Any, import_wh: int, export_wh: int) -> None:
        """A slot of the home was closed and agreed."""
        self.trade.metered(notice.slot, import_wh, export_wh)
        self.agreed.append((notice, (import_wh, export_wh)))
        self._agree(notice, (import_wh, export_wh))

    def _agree(self, notice: Any, energies: tuple[int, int]) -> None:
        import_wh, export_wh = energies
        exported, imported = self.home.openings(notice.slot, import_wh, export_wh)
        self.trade.agree(agreed_slot(notice, self.home.meter_id, exported, imported))
        self.trade.record(item.slot for item, _ in self.agreed)

    def hear(self) -> None:
        """Notes and nullifiers as the hub's batches tell them."""
        leaves, market = self.market.note_log().leaves, self.market
        for first in range(0, len(leaves), NOTES_PER_BATCH):
            self.purse.learn(first, leaves[first : first + NOTES_PER_BATCH])
        events = market.operator.events(market.token, "NullifierSpent", 0, market.operator.block_number())
        spent = [int(event.args["nullifier"]) for event in events]
        for first in range(0, len(spent), NULLIFIERS_PER_BATCH):
            self.purse.learn_nullifiers(first, spent[first : first + NULLIFIERS_PER_BATCH])
        self.store.expire(market.now())
        self.trade.outgoing(market.now())

    def next_job(self) -> Job | None:
        return self.trade.next_job(self.market.slot, self.market.now() + VALID_SECONDS)

    def work(self) -> list[str]:
        """Everything that is due: proved, submitted and named."""
        done = []
        while (job := self.next_job()) is not None:
            self.market.submit(self.trade.finish(job, proofs_of(job)))
            done.append(job.purpose)
        return done

    def shield(self, number: int, amount_wei: int) -> None:
        """PETH of an account becomes a note of the home."""
        call = self.purse.shield_call(DueShielding(number, amount_wei))
        self.market.operator.wait(self.market.operator.send_raw_call(call.to, call.data, value=call.value_wei))

    def held(self, asset: int = PETH) -> int:
        return sum(note.amount for note in self.store.spendable(asset))

    def close(self) -> None:
        self.store.close()
        self.journal.close()


def proofs_of(job: Job) -> list[ProofResult]:
    return [prove_now(ProofRequest(circuit, witness, demo=True)) for circuit, witness in job.proofs]
