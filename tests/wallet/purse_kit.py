"""Owners with purses over files that can be opened again, and leaves that belong to them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.wallet.forest import BATCH_LEAVES
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.note_store import NoteStore
from edge_agent.wallet.notes import PETH, NotePurse
from edge_agent.wallet.spends import Spend
from openmg.messages.market import PADDING, NoteEntry
from openmg.zk.notes import Note, encrypt_note

CHAIN_ID, CONTRACT, CIRCUIT_SET = 7_095, b"\x31" * 20, b"\x5e" * 32
SOON = 2**40
AMOUNT, PAID = 100_000, 60_000


def keys_of(name: str) -> OwnerKeys:
    return OwnerKeys(name.encode().ljust(32, b"."))


def entry(keys: OwnerKeys, amount: int, asset: int = PETH) -> NoteEntry:
    """A leaf that belongs to an owner."""
    key = keys.spending_key
    note = Note(asset, amount, key.public_key, secrets.randbelow(2**250))
    return NoteEntry(note.commitment, encrypt_note(note, key.address, secrets.token_bytes(32)))


def whole(*leaves: NoteEntry) -> list[NoteEntry]:
    """The leaves as the contract appends them: sixteen at a time, the last batch filled up."""
    return [*leaves, *(PADDING,) * (-len(leaves) % BATCH_LEAVES)]


def published(spend: Spend) -> list[NoteEntry]:
    """The leaves that the chain adds when a spend is mined."""
    return [NoteEntry(*pair) for pair in zip(spend.publics.commitments, spend.ciphertexts, strict=True)]


class Wallet:
    """An owner's purse over a file that can be opened again."""

    def __init__(self, name: str, folder: Path, contract: bytes = CONTRACT, circuit_set: bytes = CIRCUIT_SET) -> None:
        self.keys, self.path, self.contract = keys_of(name), folder / f"{name}.sqlite", contract
        self.circuit_set = circuit_set
        self.open()

    def hear(self, *leaves: NoteEntry) -> int:
        """The next batches of the tree; returns the position of the first leaf."""
        first = self.store.leaf_count()
        assert self.purse.learn(first, whole(*leaves)) == len(whole(*leaves))
        return first

    def free(self, asset: int = PETH) -> list[int]:
        """Amounts of the notes that can be spent."""
        return [note.amount for note in self.store.spendable(asset)]

    def open(self) -> None:
        self.store = NoteStore(self.path)
        self.purse = NotePurse(self.keys, self.store, CHAIN_ID, self.contract, self.circuit_set)

    def restart(self) -> None:
        self.store.close()
        self.open()

    def replace(self) -> None:
        """The same owner on another meter, whose database is empty."""
        self.store.close()
        self.path = self.path.with_name("new-" + self.path.name)
        self.open()

    @property
    def address(self):
        return self.keys.spending_key.address


@pytest.fixture
def wallet_of(tmp_path: Path) -> Iterator[Callable[..., Wallet]]:
    made: list[Wallet] = []

    def make(name: str, contract: bytes = CONTRACT) -> Wallet:
        made.append(Wallet(name, tmp_path, contract))
        return made[-1]

    yield make
    for wallet in made:
        wallet.store.close()


@pytest.fixture
def alice(wallet_of) -> Wallet:
    return wallet_of("alice")


@pytest.fixture
def bob(wallet_of) -> Wallet:
    return wallet_of("bob")
