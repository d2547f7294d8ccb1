"""Owners with purses over files that can be opened again, and leaves that belong to them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.note_store import NoteStore
from edge_agent.wallet.notes import PETH, NotePurse
from openmg.messages.market import NoteEntry
from openmg.zk.notes import Note, encrypt_note

CHAIN_ID, CONTRACT = 7_095, b"\x31" * 20
SOON = 2**40
AMOUNT, PAID = 100_000, 60_000


def keys_of(name: str) -> OwnerKeys:
    return OwnerKeys(name.encode().ljust(32, b"."))


def entry(keys: OwnerKeys, amount: int, asset: int = PETH) -> NoteEntry:
    """A leaf that belongs to an owner."""
    key = keys.spending_key
    note = Note(asset, amount, key.public_key, secrets.randbelow(2**250))
    return NoteEntry(note.commitment, encrypt_note(note, key.address, secrets.token_bytes(32)))


class Wallet:
    """An owner's purse over a file that can be opened again."""

    def __init__(self, name: str, folder: Path, contract: bytes = CONTRACT) -> None:
        self.keys, self.path, self.contract = keys_of(name), folder / f"{name}.sqlite", contract
        self.open()

    def open(self) -> None:
        self.store = NoteStore(self.path)
        self.purse = NotePurse(self.keys, self.store, CHAIN_ID, self.contract)

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
