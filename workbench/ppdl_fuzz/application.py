"""The application's transactions: well formed and well signed with impossible values inside, and changes of those.

Rules
- `check_tx`, `process_proposal` and `finalize_block` never raise on what a block may hold; a bad transaction is a refusal, or
  a failed result, with a reason of at most MAX_REASON characters.
- The three agree about a transaction that stands alone in a block, and a block's outcome is the same twice.
- Blocks of such transactions can follow each other for some heights.

Slot reports carry no proofs here, so slot sums end at the sums (`tests/ppdl/test_slot_attacks.py` goes on from there).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.duties import AggregateProposal, Availability, Found
from hub.ppdl.app.duties import Verdict as RoundVerdict
from hub.ppdl.app.execute import execute_block
from hub.ppdl.app.genesis_state import MIN_HISTORY_HOURS, Device, Feeder, make_app_genesis
from hub.ppdl.app.set_change import SetChange, change_hash, propose_tx, sign_consent, sign_vote, vote_tx
from hub.ppdl.app.state import Env, State
from hub.ppdl.app.transactions import (
    KIND_AGGREGATE,
    KIND_AVAILABILITY,
    KIND_BALLOT,
    KIND_COMMIT,
    KIND_DEALING,
    KIND_EVALUATION,
    KIND_INFERENCE,
    KIND_MASK,
    KIND_SLOT_SUM,
    KIND_SURVIVORS,
    KIND_UNMASKING,
    KIND_VERDICT,
    InferenceRequest,
    OpenedGroup,
    SlotSum,
    Transaction,
    evidence_tx,
)
from hub.ppdl.application import BlockCtx, Verdict
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.evidence import EVIDENCE_KINDS, make_evidence
from hub.ppdl.consensus.messages import MAX_VIEW
from hub.ppdl.genesis import MAX_U64, Genesis, make_genesis
from openmg import codec
from openmg.forecast.spec import NET_ENERGY
from openmg.hashing import keccak256
from openmg.identity import DeviceKey
from openmg.learning.plan import LearningPlan
from openmg.masking import MIN_GROUP, make_roster, roster_id
from openmg.messages.base import Message, encode
from openmg.messages.learning import Ballot, Evaluation, UpdateCommit
from openmg.messages.secure import (
    PAIR_DIGEST_BYTES,
    PUBLIC_BYTES,
    SEALED_BYTES,
    SHARE_BYTES,
    MaskCommit,
    RevealedShare,
    ShareDealing,
    SurvivorSet,
    Unmasking,
)
from openmg.messages.telemetry import MASK_MODULI, Health, RosterMember, SlotReport
from openmg.signing import SIGNATURE_BYTES, address_of, domain_digest, sign_digest
from openmg.units import ADDRESS_BYTES, HASH_BYTES
from openmg.zk.field import FELT_BYTES
from openmg.zk.keys import ensure_keys
from openmg.zk.proof import PROOF_BYTES
from workbench.ppdl_fuzz.mutation import bent, reshaped
from workbench.ppdl_fuzz.tape import Tape, require

CHAIN_ID = 31_337
START_HOUR = 494_017
FIRST_MS = 1_781_485_200_000
MICROGRID = 1
MAX_TXS, MAX_BLOCKS = 4, 3
"""Of one run."""
MAX_REASON = 5_000
"""Characters. A message's text may have 4096 of them (`openmg.messages.base.MAX_TEXT`), and a reason may repeat one."""
VALIDATOR_KEYS = tuple(keccak256(b"openmg.fuzz.validator" + bytes([i])) for i in range(4))
OPERATOR_KEY = keccak256(b"openmg.fuzz.operator")
METERS = tuple(DeviceKey(keccak256(b"openmg.fuzz.meter" + bytes([i]))) for i in range(MIN_GROUP))
MODEL = NET_ENERGY.short_name
FIRST_SLOT = (START_HOUR + MIN_HISTORY_HOURS) * 4


@dataclass(frozen=True)
class World:
    """An application at its genesis. No run commits anything, so each begins at the same state."""

    app: PpdlApplication
    genesis: Genesis
    state: State
    env: Env
    folder: tempfile.TemporaryDirectory[str]


@cache
def world() -> World:
    """The application of this process."""
    devices = [Device(key.address, key.mask_public, MICROGRID, f"home-{i}", i + 1) for i, key in enumerate(METERS)]
    feeder = Feeder(MICROGRID, START_HOUR, tuple(100 + hour % 24 for hour in range(MIN_HISTORY_HOURS)))
    commit_key = ensure_keys("commit").verifying_key.to_bytes()
    plan = LearningPlan(evaluation_start_hour=START_HOUR, min_participants=2, commit_blocks=1, max_round_blocks=2)
    state = make_app_genesis(devices, [feeder], (plan,), commit_key).encode()
    genesis = make_genesis(CHAIN_ID, [address_of(key) for key in VALIDATOR_KEYS], state, FIRST_MS)
    folder = tempfile.TemporaryDirectory(prefix="openmg-fuzz-")
    app = PpdlApplication(Path(folder.name) / "app.sqlite")
    app.init_chain(genesis)
    view = app._view()
    return World(app, genesis, view.state, view.env, folder)


def close() -> None:
    """Close the application of this process, if there is one, and remove its files."""
    if world.cache_info().currsize:
        world().app.close()
        world().folder.cleanup()
        world.cache_clear()


def _signed(tape: Tape, kind: str, message: Message, key: bytes) -> bytes:
    """A message with one thing inside it changed, and then signed by its key, so that the change is looked at."""
    body = encode(message)
    if tape.below(8):
        body = reshaped(tape, body)
    signature = sign_digest(key, domain_digest(message.PURPOSE, CHAIN_ID, body))
    if tape.rarely(8):
        signature = tape.take(SIGNATURE_BYTES)
    return Transaction(kind, codec.encode([body, signature])).encode()


def _commit(tape: Tape) -> bytes:
    message = UpdateCommit(MODEL, 0, world().state.models[0].model.model_hash, tape.take(32))
    return _signed(tape, KIND_COMMIT, message, tape.pick(METERS).signing_key)


def _ballot(tape: Tape) -> bytes:
    losses = tape.number(2**48 - 1, 500_000), tape.number(2**48 - 1, 500_000)
    return _signed(tape, KIND_BALLOT, Ballot(MODEL, 0, tape.take(32), *losses), tape.pick(METERS).signing_key)


def _duty(tape: Tape) -> bytes:
    """What a validator says in a round, mostly too early."""
    key, size = tape.pick(VALIDATOR_KEYS), NET_ENERGY.master_bytes
    match tape.below(3):
        case 0:
            return _signed(tape, KIND_AVAILABILITY, Availability(MODEL, 0, tape.take(1), bytes(1)), key)
        case 1:
            return _signed(tape, KIND_VERDICT, RoundVerdict(MODEL, 0, 0, tape.take(32), tape.below(2) == 1), key)
        case _:
            proposal = AggregateProposal(MODEL, 0, 0, bytes(size), bytes(size), 0, tape.take(1), (Found("far", tape.take(1)),))
            return _signed(tape, KIND_AGGREGATE, proposal, key)


def _evaluation(tape: Tape) -> bytes:
    message = Evaluation(MODEL, 0, world().state.models[0].model.model_hash, tape.number(2**48 - 1, 500_000))
    return _signed(tape, KIND_EVALUATION, message, tape.pick(METERS).signing_key)


def _step(tape: Tape) -> bytes:
    """A step of a private round. This chain's rounds are in the clear, so none is ever due."""
    key, round_id, device = tape.pick(METERS).signing_key, tape.take(HASH_BYTES), tape.pick(METERS).address
    match tape.below(4):
        case 0:
            digests, sealed = tape.take(2 * PAIR_DIGEST_BYTES), (tape.take(SEALED_BYTES),)
            dealing = ShareDealing(round_id, tape.take(PUBLIC_BYTES), tape.take(HASH_BYTES), digests, sealed)
            return _signed(tape, KIND_DEALING, dealing, key)
        case 1:
            return _signed(tape, KIND_MASK, MaskCommit(round_id, tape.take(HASH_BYTES)), key)
        case 2:
            return _signed(tape, KIND_SURVIVORS, SurvivorSet(round_id, (device,)), key)
        case _:
            share = RevealedShare(device, tape.take(SHARE_BYTES))
            return _signed(tape, KIND_UNMASKING, Unmasking(round_id, (share,)), key)


def _inference(tape: Tape) -> bytes:
    request = InferenceRequest(max(1, tape.number(MAX_U64, 1337)), tape.take(20), tape.number(2**256 - 1, 5), MICROGRID)
    return _signed(tape, KIND_INFERENCE, request, tape.pick(VALIDATOR_KEYS))


def _slot_sum(tape: Tape) -> bytes:
    roster = make_roster(
        MICROGRID,
        FIRST_SLOT,
        [RosterMember(f"home-{i}", key.address, key.mask_public, 7, bytes(32)) for i, key in enumerate(METERS)],
        operator=address_of(OPERATOR_KEY),
    )
    slot = tape.number(2**48 - 1, FIRST_SLOT)
    by_address = {key.address: key for key in METERS}
    reports = []
    for member in roster.members:
        masked = tuple(tape.below(modulus) for modulus in MASK_MODULI)
        points = (tape.take(FELT_BYTES), tape.take(FELT_BYTES))
        place = member.device, 1, slot, roster_id(roster)
        report = SlotReport(*place, masked, bytes(32), bytes(32), points, bytes(PROOF_BYTES), Health(1, 1, 0, 0))
        key = by_address[member.address].signing_key
        body = encode(report)
        reports.append(codec.encode([body, sign_digest(key, domain_digest(report.PURPOSE, CHAIN_ID, body))]))
    sums = tuple(tape.below(modulus) for modulus in MASK_MODULI)
    closed = tuple(sorted({tape.take(ADDRESS_BYTES) for _ in range(tape.below(3))}))
    body = encode(SlotSum(slot, (OpenedGroup(roster, tuple(reports), sums),) * (1 + tape.below(2)), closed))
    body = reshaped(tape, body) if tape.below(2) else body
    signature = sign_digest(OPERATOR_KEY, domain_digest(SlotSum.PURPOSE, CHAIN_ID, body))
    return Transaction(KIND_SLOT_SUM, codec.encode([body, signature])).encode()


def _evidence(tape: Tape) -> bytes:
    kind, key = tape.pick(EVIDENCE_KINDS), tape.pick(VALIDATOR_KEYS)
    height, view = max(1, tape.number(MAX_U64, 1)), tape.number(MAX_VIEW, 0)
    domain = Domain(CHAIN_ID, world().genesis.hash)
    said = []
    for digest in (bytes(32), b"\1" + tape.take(31)):
        said.append((digest, sign_digest(key, domain.digest(kind, height, view, digest))))
    proof = make_evidence(kind, height, view, said[0], said[1]).encoded
    return evidence_tx(reshaped(tape, proof) if tape.rarely(3) else proof)


def _change(tape: Tape) -> SetChange:
    """A change of the set, mostly one that may be proposed now."""
    added = address_of(METERS[0].signing_key)
    removed = address_of(tape.pick(VALIDATOR_KEYS))
    add, remove = tape.pick(((added, b""), (b"", removed), (added, removed), (removed, b""), (b"", added)))
    return SetChange(tape.number(MAX_U64, 0), add, remove, tape.below(2) == 1, max(1, tape.number(MAX_U64, 10)))


def _propose(tape: Tape) -> bytes:
    change = _change(tape)
    hash_ = change_hash(change, CHAIN_ID, world().genesis.hash)
    consent = sign_consent(hash_, CHAIN_ID, world().genesis.hash, METERS[0].signing_key) if change.add else b""
    vote = sign_vote(hash_, CHAIN_ID, world().genesis.hash, tape.pick(VALIDATOR_KEYS))
    return propose_tx(change, bent(tape, consent) if tape.rarely(6) else consent, bent(tape, vote) if tape.rarely(6) else vote)


def _vote(tape: Tape) -> bytes:
    hash_ = change_hash(_change(tape), CHAIN_ID, world().genesis.hash)
    return vote_tx(hash_, sign_vote(hash_, CHAIN_ID, world().genesis.hash, tape.pick(VALIDATOR_KEYS)))


_KINDS: tuple[Callable[[Tape], bytes], ...] = (
    _commit,
    _ballot,
    _duty,
    _evaluation,
    _step,
    _inference,
    _slot_sum,
    _evidence,
    _propose,
    _vote,
)


def transaction(tape: Tape) -> bytes:
    """A transaction, well formed and signed, or changed afterwards; or any bytes."""
    if tape.rarely(12):
        return tape.chunk()
    tx = tape.pick(_KINDS)(tape)
    match tape.below(8):
        case 7:
            return bent(tape, tx)
        case 6:
            return reshaped(tape, tx)
        case _:
            return tx


def transactions(tape: Tape) -> set[str]:
    """The target: some transactions alone, together in a block, and in blocks one after another."""
    here, outcomes = world(), set()
    txs = [transaction(tape) for _ in range(1 + tape.below(MAX_TXS))]
    ctx = BlockCtx(1, FIRST_MS + 1, address_of(VALIDATOR_KEYS[0]))
    for tx in txs:
        verdict = here.app.check_tx(tx)
        require(len(verdict.reason) <= MAX_REASON, f"a reason of {len(verdict.reason)} characters: {verdict.reason[:80]!r}")
        proposed = here.app.process_proposal(ctx, [tx]) is Verdict.ACCEPT
        result = here.app.finalize_block(ctx, [tx]).tx_results[0]
        require(verdict.ok == proposed == result.ok, "check_tx, process_proposal and finalize_block do not agree")
        outcomes.add(_outcome(verdict.reason))
    one, other = here.app.finalize_block(ctx, txs), here.app.finalize_block(ctx, txs)
    require(one == other, "one block has two outcomes")
    chosen = here.app.prepare_proposal(ctx, txs, 1 << 20)
    require(here.app.process_proposal(ctx, chosen) is Verdict.ACCEPT, "it refuses what it proposes")
    _go_on(tape, txs, outcomes)
    return outcomes


def _go_on(tape: Tape, txs: list[bytes], outcomes: set[str]) -> None:
    """Blocks one after another, without a database."""
    state, env = world().state, world().env
    for height in range(1, 1 + MAX_BLOCKS):
        done = execute_block(state, txs, height, env)
        require(len(done.results) == len(txs), "a transaction has no result")
        outcomes.update("admitted" for result in done.results if result.ok)
        state, txs = done.state, [transaction(tape) for _ in range(tape.below(MAX_TXS))]


def _outcome(reason: str) -> str:
    """The beginning of a reason, without what differs each time."""
    return " ".join(word for word in reason[:60].split() if word.isalpha()) or "ok"
