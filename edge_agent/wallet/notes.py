"""The owner's shielded notes: finds them in the public note tree, and turns a wish to pay into a proof request.

Theory of operation. The hub publishes every leaf of the tree in order. Each is kept, and tried against the owner's
viewing key; what opens its commitment is a note of the owner. To pay, the largest free notes are set aside (at most two,
as the circuit takes), outputs are made for receiver and change, and everything that the contract binds goes into `ext`.
Only then is the proof made, by whoever calls. A payment is done when its change, which may be 0, appears in the tree.
The change's blinding tells the owner what was spent, so that a restored wallet knows it from the tree alone.
Not here: the proof (`openmg.zk.prover`), the envelope (`edge_agent.wallet.service`), time (the caller's).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.wallet.change import Change, ChangeCipher, purpose_number
from edge_agent.wallet.journal import DueShielding
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.note_store import Leaf, NoteStore, OwnNote
from edge_agent.wallet.orders import NOTE_GAS_LIMIT, Call
from openmg.evm.abi import encode_call
from openmg.hashing import keccak256, words
from openmg.messages.market import NoteEntry
from openmg.zk.circuits.transfer import INPUTS, TransferWitness
from openmg.zk.field import R, require_felt
from openmg.zk.notes import Note, NoteScanner, ShieldedAddress, derive_blinding, encrypt_note
from openmg.zk.prover import ProofResult
from openmg.zk.spend import OwnedNote, transfer_witness
from openmg.zk.tree import CAPACITY, NoteTree

PETH = 0
"""Asset of the native coin: kind 0, token address 0."""
EXT_TAG = keccak256(b"openmg.ext.transfer.v1")
NOBODY = bytes(20)
_TRANSACT = "transact(uint256[8],uint256,uint256[2],uint256[2],uint96,(address,address,uint96,uint64,address,bytes,bytes))"


@dataclass(frozen=True)
class Payment:
    """A payment whose inputs are set aside: what to prove, and the rest of its call."""

    number: int
    witness: TransferWitness
    valid_until: int
    ciphertexts: tuple[bytes, bytes]


def ext_hash(chain_id: int, contract: bytes, valid_until: int, ciphertexts: tuple[bytes, bytes]) -> int:
    """`ConfidentialToken.extHash` of a private transfer, which pays nothing out and no fee."""
    first, second = (keccak256(item) for item in ciphertexts)
    fields = (EXT_TAG, chain_id, contract, NOBODY, NOBODY, 0, valid_until, NOBODY, first, second)
    return int.from_bytes(keccak256(words(*fields)), "big") % R


class NotePurse:
    """One owner's notes on one chain."""

    def __init__(self, keys: OwnerKeys, store: NoteStore, chain_id: int, contract: bytes) -> None:
        self._keys = keys
        self._store = store
        self._chain_id = chain_id
        self._contract = contract
        self._scanner = NoteScanner(keys.spending_key.viewing_key)
        self._cipher = ChangeCipher(keys.seed)
        self._tree = NoteTree(store.leaves())

    def learn(self, first_position: int, notes: Sequence[NoteEntry]) -> int:
        """Leaves from `first_position` on; returns how many were new. A gap before them takes nothing.

        Raises ValueError, and takes nothing, for an impossible leaf or one that is not what was heard at its place before.
        """
        known = len(self._tree)
        if not 0 <= first_position <= known:
            return 0
        for position, entry in enumerate(notes[: known - first_position], first_position):
            if self._tree.leaf(position) != entry.commitment:
                raise ValueError(f"note {position} is not the one heard before: the chain or the hub is another")
        fresh = [self._leaf(position, entry) for position, entry in enumerate(notes[known - first_position :], known)]
        if known + len(fresh) > CAPACITY:
            raise ValueError(f"the tree of {CAPACITY} notes is full; this wallet cannot use the next one yet")
        if fresh:
            self._store.add_leaves(fresh)  # first on disk: the tree is made of it at start
            self._tree.extend(leaf.commitment for leaf in fresh)
        return len(fresh)

    def _leaf(self, position: int, entry: NoteEntry) -> Leaf:
        require_felt(entry.commitment, "note commitment")
        note = self._scanner.open(entry.ciphertext, entry.commitment)
        if note is None:
            return Leaf(position, entry.commitment)
        change = self._cipher.read(note.blinding, note.asset, note.amount)
        return Leaf(position, entry.commitment, OwnNote(position, note.asset, note.amount, note.blinding), change)

    def balance_wei(self) -> int:
        """PETH in notes that can be spent now."""
        return sum(note.amount for note in self._store.spendable(PETH))

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

    def begin_payment(self, purpose: str, receiver: ShieldedAddress, amount_wei: int, valid_until: int) -> Payment | None:
        """Set notes aside to pay `amount_wei`; None when the purpose is served already or the notes do not suffice."""
        inputs = self._choose(purpose, amount_wei)
        if inputs is None or self._store.has_payment(purpose):
            return None
        key = self._keys.spending_key
        spent = [
            OwnedNote(Note(item.asset, item.amount, key.public_key, item.blinding), item.position % CAPACITY) for item in inputs
        ]
        paid = Note(PETH, amount_wei, receiver.public_key, secrets.randbelow(R))
        kept = self._change(purpose, inputs, sum(item.amount for item in inputs) - amount_wei)
        ciphertexts = (
            encrypt_note(paid, receiver, secrets.token_bytes(32)),
            encrypt_note(kept, key.address, secrets.token_bytes(32)),
        )
        witness = transfer_witness(
            key,
            0,
            self._tree,
            spent,
            [paid, kept],
            asset=PETH,
            ext=ext_hash(self._chain_id, self._contract, valid_until, ciphertexts),
            dummy_blindings=[secrets.randbelow(R) for _ in range(INPUTS)],
        )
        number = self._store.begin_payment(purpose, tuple(inputs), kept.commitment, valid_until)
        return Payment(number, witness, valid_until, ciphertexts)

    def _change(self, purpose: str, inputs: list[OwnNote], amount_wei: int) -> Note:
        """The owner's note of what is left, which says where it comes from."""
        positions = tuple(item.position for item in inputs)
        change = Change(positions, purpose_number(purpose), self._store.attempts(purpose))
        return Note(PETH, amount_wei, self._keys.spending_key.public_key, self._cipher.blinding(change, PETH, amount_wei))

    def payment_call(self, payment: Payment, proof: ProofResult) -> Call:
        """The proof-carrying call of a payment, which needs no signature: any relay may submit it."""
        self._store.record_proof(payment.number, round(proof.prove_seconds * 1000), proof.backend)
        root, nf1, nf2, cm1, cm2, _asset, _in, public_out, _ext = proof.publics
        ext = (NOBODY, NOBODY, 0, payment.valid_until, NOBODY, *payment.ciphertexts)
        data = encode_call(_TRANSACT, list(proof.words), root, [nf1, nf2], [cm1, cm2], public_out, ext)
        return Call(self._contract, data)

    def _choose(self, purpose: str, amount_wei: int) -> list[OwnNote] | None:
        """The fewest notes (at most two) that suffice, largest first; None when two do not.

        After an attempt that expired, the same notes again or none: two attempts must never both be made.
        """
        free, tied = self._store.spendable(PETH), self._store.tied_inputs(purpose)
        if tied:
            suffice = sum(note.amount for note in tied) >= amount_wei and all(note in free for note in tied)
            return tied if suffice else None
        for count in range(1, INPUTS + 1):
            if sum(note.amount for note in free[:count]) >= amount_wei and len(free) >= count:
                return free[:count]
        return None
