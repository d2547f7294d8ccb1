"""Founding a network from cards, joining it, and the cards of its peers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.operators.errors import OperatorError
from hub.operators.folder import HubFolder, load_card, read_genesis, write_public
from hub.operators.identity import existing_keys
from hub.ppdl.genesis import Genesis, GenesisError, make_genesis
from hub.ppdl.net.cardbook import MAX_CARDS_OF_ONE
from hub.ppdl.net.cards import FOUNDING, CardError, PeerCard, check_card, check_member
from hub.ppdl.net.tls import CANDIDATE_PREFIX, CARD_SUFFIX
from hub.ppdl.store import initialise_store


@dataclass(frozen=True)
class Joined:
    """What `join` did."""

    genesis: Genesis
    peers: tuple[PeerCard, ...]
    missing: tuple[bytes, ...]
    store_made: bool
    config_made: bool
    section: str


def found(chain_id: int, cards: Sequence[PeerCard], app_state: bytes, now_s: int) -> Genesis:
    """The genesis whose validators are the cards' ones. OperatorError for a card that is not for this founding."""
    seen: dict[bytes, PeerCard] = {}
    for card in cards:
        _check(card, chain_id, FOUNDING, now_s)
        other = seen.setdefault(card.address, card)
        if other != card:
            raise OperatorError(
                f"two different cards of {card.who}: ask its operator which one is right, and leave the other out"
            )
        if any((card.host, card.port) == (one.host, one.port) for one in seen.values() if one.address != card.address):
            raise OperatorError(f"card of {card.who}: {card.host}:{card.port} is another validator's place, too: one is wrong")
    if not seen:
        raise OperatorError("no card was given: name the card file of every operator")
    try:
        return make_genesis(chain_id, list(seen), app_state, 1000 * now_s)
    except GenesisError as error:
        raise OperatorError(str(error)) from error


def _check(card: PeerCard, chain_id: int, genesis_hash: bytes, now_s: int) -> None:
    try:
        check_card(card, chain_id, genesis_hash, now_s)
    except CardError as error:
        raise OperatorError(str(error)) from error


def _check_member(card: PeerCard, genesis: Genesis) -> None:
    try:
        check_member(card, genesis.validators)
    except CardError as error:
        raise OperatorError(str(error)) from error


def join(
    folder: HubFolder, genesis_path: Path, expected_hash: bytes, cards: Sequence[PeerCard], listen: str | None, now_s: int,
    *, allow_missing: bool = False, candidate: bool = False,
) -> Joined:  # fmt: skip
    """Make the hub in `folder` ready to run on a chain: genesis, peers, vote log, configuration.

    candidate: this hub's validator is not in the genesis; it is, or will be, voted in. Then the set may have changed before,
    so that cards of others who were voted in are taken, too. Nothing is written unless all is right.
    """
    genesis = read_genesis(genesis_path)
    if genesis.hash != expected_hash:
        raise OperatorError(
            f"genesis file {genesis_path} has the hash 0x{genesis.hash.hex()}, not the one that was told: get the right file"
        )
    keys, own = existing_keys(folder), folder.load_own_card()
    _check(own, genesis.chain_id, genesis.hash, now_s)
    if not candidate:
        _check_member(own, genesis)
    if folder.genesis.exists() and read_genesis(folder.genesis).hash != genesis.hash:
        raise OperatorError(f"{folder.root} has joined another chain already: use another folder for this one")
    peers = _peers_of(cards, keys.validator, genesis, now_s, candidate)
    missing = tuple(sorted(set(genesis.validators) - {card.address for card in peers} - {keys.validator}))
    if missing and not allow_missing:
        raise OperatorError(f"no card of validator 0x{missing[0].hex()} was given: ask its operator, or add --allow-missing")
    if folder.genesis.exists() and not folder.store.exists():
        raise OperatorError(
            f"{folder.root} has joined before, but its vote log {folder.store} is gone: run openmg-hub keys rotate --validator,"
            " because a validator without its vote log must not vote"
        )
    for card in peers:
        keep_card(folder, card, candidate=card.address not in genesis.validators)
    store_made = not folder.store.exists()
    folder.store.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    initialise_store(folder.store, genesis)
    section = ppdl_section(listen or _place(own))
    config_made = not folder.config.exists()
    if config_made:
        write_public(folder.config, config_text(own.name, section).encode())
    write_public(folder.genesis, genesis.encode())  # last: that it is there means that there is a vote log
    return Joined(genesis, peers, missing, store_made, config_made, section)


def _peers_of(cards: Sequence[PeerCard], own: bytes, genesis: Genesis, now_s: int, voted_in: bool) -> tuple[PeerCard, ...]:
    """The checked cards of the others, by address. voted_in: also of validators that are not in the genesis."""
    found_cards: dict[bytes, PeerCard] = {}
    for card in cards:
        if card.address == own:
            continue
        _check(card, genesis.chain_id, genesis.hash, now_s)
        if not voted_in:
            _check_member(card, genesis)
        other = found_cards.setdefault(card.address, card)
        if other != card:
            raise OperatorError(f"two different cards of {card.who}: give the newer one, and import the other never")
    return tuple(found_cards[address] for address in sorted(found_cards))


def _place(card: PeerCard) -> str:
    return f"{card.host}:{card.port}"


def ppdl_section(listen: str) -> str:
    """The `[ppdl]` table of a hub whose configuration lies in the folder of its identity."""
    return f'[ppdl]\ngenesis_file = "genesis.cbor"\nlisten = {_text(listen)}\nidentity_dir = "."\n'


def config_text(name: str, section: str) -> str:
    """A hub's configuration as far as the chain's operators can know it."""
    hub = f'[hub]\nname = {_text(name)}\nkey_file = "hub.key"\nstate_dir = "state"\nroles = []\n'
    return f"{hub}\n{section}\n# Add [chains] and [zk], and [mqtt] for the role ingest, before openmg-hub run.\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def keep_card(folder: HubFolder, card: PeerCard, candidate: bool) -> None:
    """Write a peer's card; of one validator only the newest ones stay."""
    write_public(folder.peer_card(card, candidate), card.encode())
    held = sorted(_files_of(folder, card.address), key=lambda path: int(path.stem.rsplit("-", 1)[1]))
    for path in held[:-MAX_CARDS_OF_ONE]:
        path.unlink(missing_ok=True)


def _files_of(folder: HubFolder, address: bytes) -> list[Path]:
    """Card files of a validator, as `HubFolder.peer_card` names them."""
    found_files = folder.peers.glob(f"*{address.hex()}-*{CARD_SUFFIX}")
    return [path for path in found_files if path.stem.rsplit("-", 1)[1].isdigit()]


def add_peer(folder: HubFolder, card: PeerCard, now_s: int, candidate: bool = False) -> bool:
    """Import a card of another validator; False when it was there already. OperatorError when it is not to be trusted."""
    genesis = folder.load_genesis()
    _check(card, genesis.chain_id, genesis.hash, now_s)
    if card.address == folder.load_own_card().address:
        raise OperatorError(f"card of {card.who}: it is this hub's own: import it at the other hubs")
    if candidate and card.address in genesis.validators:
        candidate = False
    if not candidate:
        _check_member(card, genesis)
    held = [load_card(path) for path in _files_of(folder, card.address)]
    if card in held:
        return False
    newer = [one for one in held if one.issued_s >= card.issued_s]
    if newer:
        raise OperatorError(f"card of {card.who}: a newer one is held already: ask its operator for the newest card")
    keep_card(folder, card, candidate)
    return True


def remove_peer(folder: HubFolder, address: bytes) -> int:
    """Forget all cards of a validator; how many there were. A hub that runs ends its connections."""
    files = _files_of(folder, address)
    for path in files:
        path.unlink(missing_ok=True)
    return len(files)


def list_peers(folder: HubFolder) -> list[tuple[PeerCard, bool]]:
    """Cards held, with whether each is a candidate's; by validator, newest first."""
    files = sorted(folder.peers.glob("*" + CARD_SUFFIX))
    cards = [(load_card(path), path.name.startswith(CANDIDATE_PREFIX)) for path in files]
    return sorted(cards, key=lambda one: (one[0].address, -one[0].issued_s))
