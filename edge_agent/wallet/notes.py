"""The owner's shielded notes: finds them in the public note trees, and turns a wish to spend into a proof request.

Theory of operation. The hub publishes every leaf in order of position. Each is kept, and tried against the owner's
viewing key; what opens its commitment is a note of the owner. Outcomes of the market are open notes, which the owner knows
by their partials. To spend, notes of one tree are set aside (two make a `transfer`, up to eight a `merge`), outputs are
made for receiver and change, and everything that the contract binds goes into `ext`. Only then is the proof made, by
whoever calls. Payments, sales and purchases all begin in `begin_spend`, burns in `begin_consumption`.
A spend is done when its change, which may be 0, appears in a tree (`edge_agent.wallet.note_store`).
A hub that contradicts what it said of the last MAX_TAKEN_BACK leaves is believed: the chain may have been rewritten. What
was spent for a purpose stays bound to it, so a hub that lies delays payments and doubles none.
Not here: the proof (`openmg.zk.prover`), the envelope (`edge_agent.wallet.outbox`), time (the caller's).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from edge_agent.wallet.change import ChangeCipher, change_of
from edge_agent.wallet.forest import BATCH_LEAVES, Forest, index_of, tree_of
from edge_agent.wallet.journal import DueShielding
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.note_store import Leaf, NoteStore, NotFree, OpenNote, OwnNote, PaymentState
from edge_agent.wallet.orders import NOTE_GAS_LIMIT, Call
from edge_agent.wallet.spends import NOBODY, Consumption, ExtBuilder, Output, Spend, payment_data, private_ext
from openmg.evm.abi import encode_call
from openmg.messages.market import NoteEntry
from openmg.zk.circuits import burn, merge, transfer
from openmg.zk.circuits.merge import MergeWitness
from openmg.zk.circuits.transfer import TransferWitness
from openmg.zk.field import FELT_BYTES, R, require_felt
from openmg.zk.notes import (
    AMOUNT_BYTES,
    ASSET_BYTES,
    Note,
    NoteScanner,
    ShieldedAddress,
    derive_blinding,
    encrypt_note,
)
from openmg.zk.prover import ProofResult
from openmg.zk.spend import OwnedNote, SpendError, input_notes, merge_witness, transfer_witness
from openmg.zk.tags import H

PETH = 0
"""Asset of the native coin: kind 0, token address 0."""
MAX_INPUTS = merge.INPUTS
MAX_SMALL_NOTES = 12
"""More free notes of one asset than this are gathered, MAX_INPUTS into one, when nothing else is to be done."""
MAX_TAKEN_BACK = 1_024
"""Leaves that news may contradict: 64 batches. The hub reads only blocks that are some deep, so more is no rewritten
chain but another one, and the wallet has to be restored for it."""
MAX_NULLIFIERS = 1 << 40
"""Places of the chain's list: more than any chain of ours reaches, and far below what the database counts."""
OPEN_NOTE_BYTES = ASSET_BYTES + AMOUNT_BYTES + FELT_BYTES
"""asset | amount | partial, big-endian: what `ConfidentialToken.createNote` publishes."""


class NotePurse:
    """One owner's notes on one chain."""

    def __init__(self, keys: OwnerKeys, store: NoteStore, chain_id: int, contract: bytes, circuit_set: bytes) -> None:
        self.circuit_set = circuit_set
        """What proofs are bound to; another one makes new proofs necessary (`Spend.bound_to`)."""
        self.taken_back_to: int | None = None
        """The lowest position from which on leaves were forgotten."""
        self._keys = keys
        self._store = store
        self._chain_id = chain_id
        self._contract = contract
        self._scanner = NoteScanner(keys.spending_key.viewing_key)
        self._public_key = keys.spending_key.public_key
        self._nullifier_key = keys.spending_key.nullifier_key
        self._cipher = ChangeCipher(keys.seed)
        self._forest = Forest(store)

    # What the chain says

    def learn(self, first_position: int, notes: Sequence[NoteEntry]) -> int:
        """Leaves from `first_position` on; returns how many were new. A gap before them takes nothing.

        What comes behind the last whole batch waits for the rest of its own. Leaves that contradict known ones replace
        these and all behind them, if they are among the last MAX_TAKEN_BACK. Raises ValueError, and takes nothing, for
        impossible leaves and for older contradictions.
        """
        if not 0 <= first_position <= len(self._forest):
            return 0
        for entry in notes:
            require_felt(entry.commitment, "note commitment")
        self._believe(first_position, notes)
        known = len(self._forest)
        end = (first_position + len(notes)) // BATCH_LEAVES * BATCH_LEAVES
        fresh = [self._leaf(position, notes[position - first_position]) for position in range(known, end)]
        if fresh:
            self._forest.grow(fresh)
        return len(fresh)

    def _believe(self, first_position: int, notes: Sequence[NoteEntry]) -> None:
        """Forget what the news contradict, from the start of that batch on."""
        known = self._forest.leaves(first_position, len(notes))
        wrong = next((i for i, leaf in enumerate(known) if leaf != notes[i].commitment), None)
        if wrong is None:
            return
        position = first_position + wrong
        cut = position // BATCH_LEAVES * BATCH_LEAVES
        if len(self._forest) - cut > MAX_TAKEN_BACK:
            raise ValueError(f"note {position} is not the one heard before: the chain or the hub is another")
        if cut < first_position:
            raise ValueError(f"note {position} is not the one heard before; its batch has to be told from {cut} on")
        self._forest.cut(cut)
        self.taken_back_to = cut if self.taken_back_to is None else min(cut, self.taken_back_to)

    def _leaf(self, position: int, entry: NoteEntry) -> Leaf:
        opened = _open_note(entry.ciphertext)
        if opened is not None:
            return Leaf(position, entry.commitment, self._expected(position, entry.commitment, opened), None, opened)
        note = self._scanner.open(entry.ciphertext, entry.commitment)
        if note is None:
            return Leaf(position, entry.commitment)
        change = self._cipher.read(note.blinding, note.asset, note.amount)
        return Leaf(position, entry.commitment, self._own(position, note), change)

    def _own(self, position: int, note: Note) -> OwnNote:
        nullifier = note.nullifier(self._nullifier_key, tree_of(position), index_of(position))
        return OwnNote(position, note.asset, note.amount, note.blinding, nullifier)

    def _expected(self, position: int, commitment: int, opened: OpenNote) -> OwnNote | None:
        """The owner's note when the partial is one the owner expects and all of it opens the leaf."""
        blinding = self._store.expected_blinding(opened.partial)
        if blinding is None:
            return None
        try:
            note = Note(opened.asset, opened.amount, self._public_key, blinding)
        except ValueError:
            return None
        return self._own(position, note) if note.commitment == commitment else None

    def expect_partial(self, partial: int, blinding: int, purpose: str) -> None:
        """A market may make notes with this partial H(own, pk, blinding); those that it already made are found, too.

        `purpose` is the caller's name for what arrives (`received`). ValueError for a partial that is not the owner's.
        """
        if H("own", self._public_key, require_felt(blinding, "blinding")) != partial:
            raise ValueError(f"the partial for {purpose!r} does not belong to this owner and blinding")
        claimed = []
        for position, opened in self._store.expect(partial, blinding, purpose):
            note = self._expected(position, self._forest.leaves(position, 1)[0], opened)
            if note is not None:
                claimed.append(note)
        self._store.claim(claimed)

    def received(self, purpose: str) -> list[OwnNote]:
        """The open notes that arrived for a purpose's partials, spent or not."""
        return self._store.received(purpose)

    def learn_nullifiers(self, first_index: int, nullifiers: Sequence[int]) -> list[OwnNote]:
        """Spent notes as the chain lists them, from place `first_index` on; later news of a place replaces earlier ones.

        Returns the owner's notes that something else than this wallet spent. ValueError for impossible values.
        """
        if not 0 <= first_index < MAX_NULLIFIERS:
            raise ValueError(f"there is no nullifier {first_index}")
        for value in nullifiers:
            require_felt(value, "nullifier")
        return self._store.add_nullifiers(first_index, nullifiers)

    def balance_wei(self) -> int:
        """PETH in notes that can be spent now."""
        return sum(note.amount for note in self._store.spendable(PETH))

    # Shielding

    def shield_call(self, due: DueShielding) -> Call:
        """The owner's call that turns PETH of its account into a note of its own."""
        key = self._keys.spending_key
        note = Note(PETH, due.amount_wei, key.public_key, self._shield_blinding(due.number))
        ciphertext = encrypt_note(note, key.address, secrets.token_bytes(32))
        data = encode_call("shield(address,uint96,uint256,bytes)", NOBODY, due.amount_wei, note.partial, ciphertext)
        return Call(self._contract, data, due.amount_wei, NOTE_GAS_LIMIT)

    def was_shielded(self, number: int) -> bool:
        """Whether the note of the owner's shielding of this number lies in the tree."""
        return self._store.has_blinding(self._shield_blinding(number))

    def _shield_blinding(self, number: int) -> int:
        return derive_blinding(self._keys.seed, b"shield" + number.to_bytes(8, "big"))

    # Spending

    def select(self, asset: int, amount: int, limit: int = MAX_INPUTS, *, purpose: str = "") -> tuple[OwnNote, ...] | None:
        """The fewest free notes of one tree (at most `limit`) that suffice, largest first; None when they do not.

        After an attempt at `purpose` that expired, the same notes again or none: two attempts must never both be made.
        """
        free = self._store.spendable(asset)
        tied = self._store.tied_inputs(purpose)
        if tied:
            same = tuple(note for note in tied if note is not None and note in free)
            return same if len(same) == len(tied) and sum(note.amount for note in same) >= amount else None
        candidates = [enough for notes in _by_tree(free) if (enough := _fewest(notes, amount, limit))]
        return min(candidates, key=len, default=None)

    def begin_spend(
        self,
        purpose: str,
        asset: int,
        inputs: Sequence[OwnNote],
        outputs: Sequence[Output],
        public_out: int,
        ext: ExtBuilder,
        valid_until: int,
    ) -> Spend | None:
        """Set one to eight notes of one tree aside and make at most one note for somebody; the rest is the owner's change.

        What is returned is journalled: it may leave the meter. None when the purpose is served or under way, when an
        expired attempt at it had other inputs, or when an input is not free. Raises SpendError when the notes do not make
        the outputs, and ValueError for an amount that is none. `valid_until` is in Unix seconds.
        """
        if not inputs or not self._may_begin(purpose, inputs):
            return None
        kept = sum(note.amount for note in inputs) - sum(output.amount for output in outputs) - public_out
        if kept < 0 or len(outputs) >= transfer.OUTPUTS:
            raise SpendError(f"{len(inputs)} notes do not make what {purpose!r} is to spend; choose others")
        made = list(outputs) or [Output(self._keys.spending_key.address, 0)]
        created = [(Note(asset, item.amount, item.receiver.public_key, secrets.randbelow(R)), item.receiver) for item in made]
        created.append((self._change(purpose, asset, inputs, kept), self._keys.spending_key.address))
        first, second = (encrypt_note(note, receiver, secrets.token_bytes(32)) for note, receiver in created)
        witness = self._witness(asset, inputs, [note for note, _ in created], public_out)
        change = created[-1][0].commitment
        number = self._journal(purpose, asset, inputs, change, valid_until)
        if number is None:
            return None
        return Spend(number, purpose, witness, (first, second), valid_until, b"", ext).bound_to(self.circuit_set)

    def begin_consumption(self, purpose: str, asset: int, inputs: Sequence[OwnNote], valid_until: int) -> Consumption | None:
        """Set one to eight notes of one tree aside for a proof that makes no note, a burn; otherwise as `begin_spend`."""
        if not inputs or not self._may_begin(purpose, inputs):
            return None
        number, tree = tree_of(inputs[0].position), self._forest.tree(tree_of(inputs[0].position))
        dummies = [secrets.randbelow(R) for _ in range(burn.INPUTS)]
        owned = self._owned(asset, inputs)
        entering = input_notes(self._keys.spending_key, tree, owned, burn.INPUTS, dummies)
        payment = self._journal(purpose, asset, inputs, None, valid_until)
        return None if payment is None else Consumption(payment, number, tree.root(), entering, valid_until)

    def begin_payment(self, purpose: str, receiver: ShieldedAddress, amount_wei: int, valid_until: int) -> Spend | None:
        """Set notes aside to pay `amount_wei`; None when the purpose is served already or the notes do not suffice."""
        inputs = self.select(PETH, amount_wei, purpose=purpose)
        return (
            None if inputs is None else self._begin_private(purpose, PETH, inputs, [Output(receiver, amount_wei)], valid_until)
        )

    def begin_gathering(self, valid_until: int, *, amount_wei: int | None = None) -> Spend | None:
        """Make one note of up to eight; None when there is no need.

        There is one when more than MAX_SMALL_NOTES notes of an asset are free, or when all PETH notes together would pay
        `amount_wei` and those of one proof do not. Notes of the oldest tree are then taken first: this moves them.
        """
        if amount_wei is None:
            asset = self._store.crowded(MAX_SMALL_NOTES)
            trees = [] if asset is None else _by_tree(self._store.spendable(asset))
            notes = max(trees, key=len, default=[])[-MAX_INPUTS:]
        else:
            free = self._store.spendable(PETH)
            if sum(note.amount for note in free) < amount_wei or self.select(PETH, amount_wei) is not None:
                return None
            notes = _by_tree(free)[0][:MAX_INPUTS]
        if not notes:
            return None
        purpose = "gather " + " ".join(str(note.position) for note in notes)
        return self._begin_private(purpose, notes[0].asset, notes, [], valid_until)

    def _begin_private(
        self, purpose: str, asset: int, inputs: Sequence[OwnNote], outputs: Sequence[Output], valid_until: int
    ) -> Spend | None:
        ext = private_ext(self._chain_id, self._contract, valid_until)
        return self.begin_spend(purpose, asset, inputs, outputs, 0, ext, valid_until)

    def payment_call(self, spend: Spend, proof: ProofResult) -> Call:
        """The proof-carrying call of a payment, which needs no signature: any relay may submit it."""
        self._store.record_proof(spend.number, round(proof.prove_seconds * 1000), proof.backend)
        return Call(self._contract, payment_data(spend, proof))

    def state_of(self, purpose: str) -> PaymentState | None:
        """State of the newest attempt at a purpose; None when none was begun here."""
        return self._store.state_of(purpose)

    def is_landed(self, number: int) -> bool:
        """Whether the chain has taken this spend, though its change may not be in the tree yet."""
        return self._store.is_landed(number)

    def _may_begin(self, purpose: str, inputs: Sequence[OwnNote]) -> bool:
        if self._store.has_payment(purpose):
            return False
        tied = self._store.tied_inputs(purpose)
        return not tied or (None not in tied and {note.position for note in tied if note} == {note.position for note in inputs})

    def _journal(self, purpose: str, asset: int, inputs: Sequence[OwnNote], change: int | None, valid_until: int) -> int | None:
        commitments = [owned.note.commitment for owned in self._owned(asset, inputs)]
        try:
            return self._store.begin(purpose, inputs, commitments, change, valid_until)
        except NotFree:
            return None

    def _owned(self, asset: int, inputs: Sequence[OwnNote]) -> list[OwnedNote]:
        if len({tree_of(note.position) for note in inputs}) > 1 or any(note.asset != asset for note in inputs):
            raise SpendError("one proof spends notes of one asset and one tree; gather them first")
        return [
            OwnedNote(Note(item.asset, item.amount, self._public_key, item.blinding), index_of(item.position))
            for item in inputs
        ]

    def _witness(
        self, asset: int, inputs: Sequence[OwnNote], created: Sequence[Note], public_out: int
    ) -> TransferWitness | MergeWitness:
        """The statement without its `ext`."""
        owned, number = self._owned(asset, inputs), tree_of(inputs[0].position)
        start = (self._keys.spending_key, number, self._forest.tree(number), owned, created)
        dummies = [secrets.randbelow(R) for _ in range(merge.INPUTS)]
        if len(inputs) <= transfer.INPUTS:
            return transfer_witness(*start, asset=asset, ext=0, dummy_blindings=dummies, public_out=public_out)
        blinding = secrets.randbelow(R)
        return merge_witness(
            *start, asset=asset, ext=0, dummy_blindings=dummies, return_blinding=blinding, public_out=public_out
        )

    def _change(self, purpose: str, asset: int, inputs: Sequence[OwnNote], amount: int) -> Note:
        """The owner's note of what is left, which says where it comes from."""
        change = change_of([note.position for note in inputs], purpose, self._store.attempts(purpose))
        return Note(asset, amount, self._public_key, self._cipher.blinding(change, asset, amount))


def _by_tree(notes: Sequence[OwnNote]) -> list[list[OwnNote]]:
    """The notes of each tree in their order, oldest tree first."""
    trees: dict[int, list[OwnNote]] = {}
    for note in notes:
        trees.setdefault(tree_of(note.position), []).append(note)
    return [trees[number] for number in sorted(trees)]


def _fewest(notes: Sequence[OwnNote], amount: int, limit: int) -> tuple[OwnNote, ...] | None:
    """The shortest beginning that suffices; the notes come largest first."""
    total = 0
    for count, note in enumerate(notes[:limit], 1):
        total += note.amount
        if total >= amount:
            return tuple(notes[:count])
    return None


def _open_note(ciphertext: bytes) -> OpenNote | None:
    """What a ciphertext in clear says; None for one of another length, a sealed one above all."""
    if len(ciphertext) != OPEN_NOTE_BYTES:
        return None
    asset, amount = ciphertext[:ASSET_BYTES], ciphertext[ASSET_BYTES : ASSET_BYTES + AMOUNT_BYTES]
    partial = ciphertext[ASSET_BYTES + AMOUNT_BYTES :]
    return OpenNote(*(int.from_bytes(part, "big") for part in (asset, amount, partial)))
