"""One home's trade over its files: ends of the process between any two steps, expiry, and what is tried again with what."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from trade_cases import CALENDAR, CALLS, HOMES, MICROGRID, SLOT, registry_notice, satisfied, slot_notice

from edge_agent.market import trade as trading
from edge_agent.market.agreed import agreed_slot
from edge_agent.market.blindings import Outcome, mint_blinding, outcome_partial
from edge_agent.market.journal import Kind, MarketJournal
from edge_agent.market.planner import ORDER_SLOTS, SETTLE_SLOTS
from edge_agent.market.trade import Job, Trade
from edge_agent.market.witnesses import asset_of
from edge_agent.wallet.forest import BATCH_LEAVES
from edge_agent.wallet.note_store import EXPIRY_MARGIN_SECONDS, NoteStore
from edge_agent.wallet.notes import PETH, NotePurse
from openmg.messages.market import PADDING, NoteEntry
from openmg.zk import assets
from openmg.zk.circuits import burn, buy, merge, mint, transfer
from openmg.zk.notes import Note, encrypt_note
from openmg.zk.prover import ProofResult
from openmg.zk.tags import H

TOKEN = b"\x61" * 20
CAP = 1_000
ADA = HOMES[0]
KEY = CALENDAR.key_of(SLOT)
SUPPLY, DELIVERY = (asset_of(kind, MICROGRID, KEY) for kind in (assets.Kind.SUPPLY, assets.Kind.DELIVERY))
NOW, UNTIL = 1_000_000, 1_001_000
LATE = UNTIL + EXPIRY_MARGIN_SECONDS + 1
LOT_WEI = 100 * CAP
BURN_SLOT = CALENDAR.last_slot_of(KEY) + ORDER_SLOTS + 1 + SETTLE_SLOTS
CIRCUITS = {"mint": mint, "buy": buy, "burn": burn, "transfer": transfer, "merge": merge}


class Stall:
    """A home that metered and agreed on SLOT, over files that can be opened again."""

    def __init__(self, folder: Path, import_wh: int = 1_234, export_wh: int = 700) -> None:
        self.path, self.energies = folder / "wallet.sqlite", (import_wh, export_wh)
        self.calls = CALLS
        self.open()

    def open(self) -> None:
        self.store, self.journal = NoteStore(self.path), MarketJournal(self.path)
        self.purse = NotePurse(ADA.keys, self.store, self.calls.chain_id, TOKEN, self.calls.circuit_set)
        home = trading.Home(ADA.maker(self.calls), ADA.meter_secret, TOKEN, CAP)
        self.trade = Trade(home, self.journal, self.store, self.purse)
        self.trade.registry.hear(registry_notice([home.leaf() for home in HOMES]))
        self.trade.metered(SLOT, *self.energies)
        notice = slot_notice(SLOT, {HOMES[1]: (1, 2), ADA: self.energies})
        self.trade.agree(agreed_slot(notice, ADA.meter_id, *ADA.openings(SLOT, *self.energies)))
        self.trade.record([SLOT])

    def close(self) -> None:
        self.store.close()
        self.journal.close()

    def killed(self) -> None:
        self.close()
        self.open()

    def hear(self, *leaves: NoteEntry) -> None:
        """The next batches of the tree."""
        padded = [*leaves, *(PADDING,) * (-len(leaves) % BATCH_LEAVES)]
        assert self.purse.learn(self.store.leaf_count(), padded) == len(padded)

    def owns(self, *amounts: int, asset: int = PETH) -> None:
        key = ADA.keys.spending_key
        notes = [Note(asset, amount, key.public_key, secrets.randbelow(2**250)) for amount in amounts]
        self.hear(*(NoteEntry(note.commitment, encrypt_note(note, key.address, secrets.token_bytes(32))) for note in notes))

    def outcome(self, outcome: Outcome, amount: int, asset: int, slot: int = SLOT, key: int = 0) -> NoteEntry:
        """The open note that a pool makes."""
        partial = outcome_partial(ADA.keys.seed, ADA.keys.spending_key.public_key, outcome, slot, key)
        opened = asset.to_bytes(21, "big") + amount.to_bytes(12, "big") + partial.to_bytes(32, "big")
        return NoteEntry(H("cm", asset, amount, partial), opened)

    def next_job(self, slot: int = SLOT + 2, until: int = UNTIL) -> Job | None:
        job = self.trade.next_job(slot, until)
        for circuit, witness in () if job is None else job.proofs:
            satisfied(CIRCUITS[circuit], witness)
        return job

    def job(self, kind: Kind, slot: int = SLOT + 2, until: int = UNTIL) -> Job:
        job = self.next_job(slot, until)
        assert job is not None and job.purpose.startswith(kind), job
        return job

    def minted(self) -> None:
        """The slot's mint is in the tree."""
        call_of(self, self.job(Kind.MINT))
        key = ADA.keys.spending_key
        note = Note(SUPPLY, self.energies[1], key.public_key, mint_blinding(ADA.keys.seed, SLOT))
        self.hear(NoteEntry(note.commitment, encrypt_note(note, key.address, secrets.token_bytes(32))))
        assert self.trade.outgoing(NOW) == ([], [f"mint {SLOT}"])

    def spent(self, job: Job) -> None:
        """The chain took the job's spend: its notes are in the tree."""
        _circuit, witness = job.proofs[-1]
        stated = CIRCUITS[job.proofs[-1][0]].publics_of(witness)
        key = ADA.keys.spending_key
        notes = [Note(witness.asset, out.amount, out.public_key, out.blinding) for out in witness.outputs]
        assert [note.commitment for note in notes] == list(stated.commitments)
        self.hear(*(NoteEntry(note.commitment, encrypt_note(note, key.address, secrets.token_bytes(32))) for note in notes))


def call_of(stall: Stall, job: Job):
    """The job's call, with bytes that no chain would take for proofs."""
    results = [
        ProofResult(bytes(256), tuple(CIRCUITS[name].publics_of(witness).as_list()), 0.1, 0.1, 0.1, 1.0, "native", 1)
        for name, witness in job.proofs
    ]
    return stall.trade.finish(job, results)


def inputs(job: Job) -> set[int]:
    return {note.blinding for note in job.proofs[-1][1].inputs if note.amount}


@pytest.fixture
def stall(tmp_path: Path) -> Iterator[Stall]:
    made = Stall(tmp_path)
    yield made
    made.close()


def test_a_mint_that_was_not_written_down_is_proved_again_with_the_same_n_and_note(stall):
    first = stall.job(Kind.MINT)
    stall.killed()
    second = stall.job(Kind.MINT)
    stated = [mint.publics_of(job.proofs[0][1]) for job in (first, second)]
    assert stated[0].nullifier == stated[1].nullifier and stated[0].commitment == stated[1].commitment


def test_a_mint_that_may_have_left_is_sent_again_byte_for_byte_and_not_proved_again(stall):
    call = call_of(stall, stall.job(Kind.MINT))
    stall.killed()
    assert stall.trade.outgoing(NOW) == ([call], [])
    assert stall.next_job() is None
    assert stall.trade.outgoing(UNTIL + 1) == ([], [f"mint {SLOT}"])
    assert stall.job(Kind.MINT)


def test_a_mint_that_is_in_the_tree_is_over(stall):
    stall.minted()
    stall.killed()
    assert (stall.journal.slot(SLOT).minted, stall.trade.outgoing(NOW)) == (True, ([], []))


def test_a_purchase_that_may_have_left_is_sent_again_byte_for_byte(stall):
    stall.minted()
    stall.owns(20 * LOT_WEI)
    call = call_of(stall, stall.job(Kind.BUY))
    stall.killed()
    assert stall.trade.outgoing(NOW) == ([call], [])
    assert stall.job(Kind.SELL).purpose == f"sell {KEY} {SLOT + 2}", "it does not hold up what else is due"


def test_a_purchase_whose_proof_was_lost_is_tried_again_with_the_same_notes_and_lots(stall):
    """Two purchases must never both be paid: were the notes others, both attempts could be mined."""
    stall.minted()
    stall.owns(5 * LOT_WEI)
    first = stall.job(Kind.BUY)
    stall.killed()
    assert stall.job(Kind.SELL), "its notes are set aside"
    stall.owns(50 * LOT_WEI)
    stall.store.expire(LATE)
    second = stall.job(Kind.BUY, SLOT + 3, LATE + 1_000)
    assert inputs(second) == inputs(first) and len(inputs(first)) == 1
    lots = [buy.publics_of(job.proofs[0][1]).lots for job in (first, second)]
    assert lots == [5, 5]


def test_a_purchase_is_over_with_its_change_and_its_outcome_comes_in(stall):
    stall.minted()
    stall.owns(20 * LOT_WEI)
    job = stall.job(Kind.BUY)
    call_of(stall, job)
    stall.spent(job)
    assert stall.trade.outgoing(NOW) == ([], [job.purpose])
    assert stall.trade.view(SLOT + 3).awaited == {KEY}
    stall.hear(stall.outcome(Outcome.DELIVERY, 800, DELIVERY), stall.outcome(Outcome.CHANGE, 5 * LOT_WEI, PETH))
    assert [note.amount for note in stall.purse.received(job.purpose)] == [800, 5 * LOT_WEI]
    view = stall.trade.view(SLOT + 3)
    assert view.delivery == {KEY: (800,)} and not view.awaited and view.slots[0].bought


def test_both_proofs_of_a_purchase_carry_one_ext(stall):
    stall.minted()
    stall.owns(20 * LOT_WEI)
    (_, bought), (circuit, paid) = stall.job(Kind.BUY).proofs
    assert circuit == transfer.NAME and bought.ext == paid.ext != 0
    assert paid.public_out == 10 * LOT_WEI and paid.asset == PETH


def test_many_small_supply_notes_are_sold_by_a_merge_and_the_payout_is_expected(stall):
    stall.minted()
    stall.owns(*[100] * 4, asset=SUPPLY)
    job = stall.job(Kind.SELL)
    assert job.proofs[0][0] == merge.NAME and job.proofs[0][1].public_out == 1_000
    call_of(stall, job)
    stall.spent(job)
    stall.hear(stall.outcome(Outcome.PAYOUT, 77, PETH, SLOT + 2, KEY))
    assert [note.amount for note in stall.purse.received(job.purpose)] == [77]


def test_small_peth_notes_are_gathered_before_a_purchase(stall):
    stall.minted()
    stall.owns(*[2 * LOT_WEI] * 5)
    job = stall.job(Kind.GATHER)
    assert job.proofs[0][0] == merge.NAME and not job.proofs[0][1].public_out
    call_of(stall, job)
    stall.spent(job)
    assert buy.publics_of(stall.job(Kind.BUY).proofs[0][1]).lots == 10


def test_a_burn_takes_all_deliveries_once_and_an_attempt_that_expired_the_same_ones(stall):
    stall.minted()
    stall.owns(300, 200, asset=DELIVERY)
    first = stall.job(Kind.BURN, BURN_SLOT)
    assert stall.journal.order(f"burn {KEY}").amount == 500
    stall.killed()
    assert stall.next_job(BURN_SLOT) is None
    stall.owns(50, asset=DELIVERY)
    stall.store.expire(LATE)
    second = stall.job(Kind.BURN, BURN_SLOT, LATE + 1_000)
    assert inputs(second) == inputs(first) and stall.journal.order(f"burn {KEY}").amount == 500
    stated = burn.publics_of(second.proofs[0][1])
    call_of(stall, second)
    stall.purse.learn_nullifiers(0, list(stated.nullifiers))
    assert stall.trade.outgoing(NOW) == ([], [f"burn {KEY}"])
    assert stall.next_job(BURN_SLOT) is None, "T is used up: what came later cannot be burned"


def test_nine_deliveries_are_gathered_before_they_are_burned(stall):
    stall.minted()
    stall.owns(*[100] * 9, asset=DELIVERY)
    gathered = stall.job(Kind.GATHER, BURN_SLOT)
    call_of(stall, gathered)
    stall.spent(gathered)
    assert len(inputs(stall.job(Kind.BURN, BURN_SLOT))) == 2


def test_other_circuits_make_calls_under_the_old_ones_due_again(stall):
    call_of(stall, stall.job(Kind.MINT))
    stall.trade.use_circuits(b"\x77" * 32)
    assert stall.trade.outgoing(NOW) == ([], [f"mint {SLOT}"])
    again = stall.job(Kind.MINT)
    assert again.circuit_set == b"\x77" * 32


def test_nothing_is_proved_for_a_slot_whose_root_or_leaves_or_registration_are_not_known(stall):
    stall.trade.record([])
    assert stall.next_job() is None
    stall.trade.record([SLOT])
    stall.trade._agreed.clear()
    assert stall.next_job() is None
    stall.killed()
    stall.trade.registry.hear(registry_notice([home.leaf() for home in HOMES[1:]]))
    assert stall.next_job() is None


def test_the_database_is_the_owners_alone(stall):
    assert stat.S_IMODE(stall.path.stat().st_mode) == 0o600


def test_the_first_reading_of_a_slot_counts(stall):
    stall.trade.metered(SLOT, 1, 1)
    assert stall.journal.slot(SLOT).export_wh == 700
