"""The operators' subcommands of `openmg-hub`: init --dir, genesis, join, keys, peers.

Rules: keys never appear in arguments or output. Not here: the doing; how answers are printed (`shell`); the subcommands that
speak with a running hub (`governance_commands`).
"""

from __future__ import annotations

import argparse
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from hub.config import split_address
from hub.operators.errors import OperatorError
from hub.operators.folder import OWN_CARD, HubFolder, load_card, read_genesis, write_public
from hub.operators.identity import (
    DEFAULT_DAYS,
    DEFAULT_GRACE_DAYS,
    Place,
    activate_rotation,
    init_identity,
    prepare_rotation,
    prepare_validator,
    times,
)
from hub.operators.network import add_peer, found, join, list_peers, remove_peer
from hub.operators.shell import AddCommand, Answer, add_action, add_folder_option, add_say, parse_address
from hub.ppdl.app.genesis_state import AppGenesis, AppStateError
from hub.ppdl.genesis import MAX_GENESIS_BYTES
from hub.ppdl.net.cards import FOUNDING, PeerCard


def _now_s() -> int:
    return int(time.time())


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(min(seconds, 2**32), UTC).date().isoformat()


def _card_answer(card: PeerCard) -> Answer:
    return {
        "name": card.name,
        "validator": "0x" + card.address.hex(),
        "address": f"{card.host}:{card.port}",
        "chain_id": card.chain_id,
        "genesis": "none yet" if card.genesis_hash == FOUNDING else "0x" + card.genesis_hash.hex(),
        "expires": _day(card.expires_s),
        "fingerprint": card.fingerprint,
    }


def _place(text: str) -> tuple[str, int]:
    try:
        return split_address(text)
    except ValueError as error:
        raise OperatorError(f"--address: {error}") from error


def say_init(arguments: argparse.Namespace) -> Answer:
    """Make an identity in a folder."""
    for name in ("name", "address"):
        if getattr(arguments, name) is None:
            raise OperatorError(f"--{name} is missing: write what openmg-hub init --help shows")
    genesis = read_genesis(arguments.genesis) if arguments.genesis else None
    chain_id = genesis.chain_id if genesis else arguments.chain_id
    if chain_id is None:
        raise OperatorError(
            "--chain-id is missing: agree on one with the other operators, or give --genesis of a running chain"
        )
    folder = HubFolder(arguments.dir)
    place = Place(arguments.name, *_place(arguments.address))
    card = init_identity(folder, chain_id, genesis, place, times(_now_s(), arguments.days))
    send = f"send {folder.own_card} to the other operators, and compare the fingerprint with each by voice"
    return _card_answer(card) | {"card": str(folder.own_card), "next": send}


def say_genesis(arguments: argparse.Namespace) -> Answer:
    """Make the genesis of the cards' validators."""
    if arguments.output.exists():
        raise OperatorError(f"{arguments.output} exists: move it away, or give another --output")
    try:
        state = arguments.app_state.read_bytes()[: MAX_GENESIS_BYTES + 1]
        AppGenesis.decode(state)
    except OSError as error:
        raise OperatorError(f"{arguments.app_state} cannot be read ({error.strerror}): correct --app-state") from error
    except AppStateError as error:
        raise OperatorError(f"{arguments.app_state}: {error}") from error
    cards = [load_card(path) for path in arguments.cards]
    genesis = found(arguments.chain_id, cards, state, _now_s())
    write_public(arguments.output, genesis.encode())
    return {
        "genesis": str(arguments.output),
        "hash": "0x" + genesis.hash.hex(),
        "chain_id": genesis.chain_id,
        "validators": [_card_answer(card) for card in sorted(cards, key=lambda card: card.address)],
        "next": f"send {arguments.output} and all cards to every operator, and tell each the hash by voice",
    }


def say_join(arguments: argparse.Namespace) -> Answer:
    """Make a hub ready for a chain."""
    if not re.fullmatch(r"0x[0-9a-fA-F]{64}", arguments.genesis_hash):
        raise OperatorError("--genesis-hash is not 0x and 64 hex digits: write it as openmg-hub genesis printed it")
    if arguments.listen is not None:
        _place(arguments.listen)
    folder = HubFolder(arguments.dir)
    expected = bytes.fromhex(arguments.genesis_hash[2:])
    cards = [load_card(path) for path in arguments.cards]
    joined = join(
        folder, arguments.genesis, expected, cards, arguments.listen, _now_s(),
        allow_missing=arguments.allow_missing, candidate=arguments.candidate,
    )  # fmt: skip
    answer: Answer = {
        "chain_id": joined.genesis.chain_id,
        "genesis": "0x" + joined.genesis.hash.hex(),
        "peers": [_card_answer(card) for card in joined.peers],
        "missing": ["0x" + address.hex() for address in joined.missing],
        "vote_log": f"{folder.store} {'made' if joined.store_made else 'kept as it was'}",
        "config": f"{folder.config} {'written' if joined.config_made else 'kept as it was'}",
    }
    if not joined.config_made:
        answer["ppdl_section"] = joined.section.splitlines()
    return answer | {"next": f"complete {folder.config}, then openmg-hub run --config {folder.config}"}


def say_rotate(arguments: argparse.Namespace) -> Answer:
    """Prepare a new TLS key, or a new validator."""
    folder = HubFolder(arguments.dir)
    place = _place(arguments.address) if arguments.address else None
    if arguments.validator:
        return _rotate_validator(folder, place, arguments.days)
    card = prepare_rotation(folder, place, times(_now_s(), arguments.days, arguments.grace_days))
    steps = [
        f"send {folder.next_card} to every other operator: openmg-hub peers add {folder.next_card.name}",
        f"when all have imported it: openmg-hub keys activate --dir {folder.root}",
    ]
    return _card_answer(card) | {"card": str(folder.next_card), "old_key_ends": _day(card.sole_from_s), "next": steps}


def _rotate_validator(folder: HubFolder, place: tuple[str, int] | None, days: int) -> Answer:
    """Prepare a new validator, and say how it gets into the set."""
    old, genesis = folder.load_own_card(), folder.load_genesis()
    card, successor = prepare_validator(folder, place, times(_now_s(), days))
    new_address, old_address = f"0x{card.address.hex()}", f"0x{old.address.hex()}"
    here, there = quote(str(folder.root)), quote(str(successor.root))
    genesis_options = f"--genesis {here}/{folder.genesis.name} --genesis-hash 0x{genesis.hash.hex()}"
    steps = [
        f"send {successor.own_card} to every other operator: openmg-hub peers add --dir DIR --candidate CARD",
        f"propose the change (add {new_address}, remove {old_address}):"
        f" openmg-hub validators propose --dir {here} --add {there}/{OWN_CARD} --remove {old_address}",
        "every other operator: openmg-hub validators vote --dir DIR PROPOSAL_ID, as propose prints it",
        f"when it has passed, stop this hub; then: openmg-hub join --dir {there} --candidate --allow-missing"
        f" {genesis_options} {here}/peers/*.card",
        f"bring the rest of {folder.config} into {successor.config}; then: openmg-hub run --config {there}/hub.toml",
        f"every other operator: openmg-hub peers remove --dir DIR {old_address}",
    ]
    return _card_answer(card) | {"card": str(successor.own_card), "replaces": old_address, "next": steps}


def say_activate(arguments: argparse.Namespace) -> Answer:
    """Use the prepared key."""
    card = activate_rotation(HubFolder(arguments.dir))
    return _card_answer(card) | {"next": "nothing: a running hub uses the new key within seconds, for new connections"}


def say_show(arguments: argparse.Namespace) -> Answer:
    """This hub's card, and the prepared one."""
    folder = HubFolder(arguments.dir)
    answer = _card_answer(folder.load_own_card())
    if folder.next_card.exists():
        answer["prepared"] = _card_answer(load_card(folder.next_card))["fingerprint"]
    return answer


def say_peers_add(arguments: argparse.Namespace) -> Answer:
    """Import cards."""
    folder, added = HubFolder(arguments.dir), []
    for path in arguments.cards:
        card = load_card(path)
        new = add_peer(folder, card, _now_s(), arguments.candidate)
        added.append(_card_answer(card) | {"imported": "yes" if new else "was there already"})
    return {"cards": added, "next": "compare each fingerprint with its operator by voice"}


def say_peers_list(arguments: argparse.Namespace) -> Answer:
    """Cards held."""
    cards = list_peers(HubFolder(arguments.dir))
    return {"cards": [_card_answer(card) | {"candidate": "yes" if candidate else "no"} for card, candidate in cards]}


def say_peers_remove(arguments: argparse.Namespace) -> Answer:
    """Forget a validator's cards."""
    removed = remove_peer(HubFolder(arguments.dir), parse_address(arguments.validator, "openmg-hub peers list"))
    if not removed:
        raise OperatorError(f"no card of {arguments.validator} is held: see openmg-hub peers list")
    return {"removed": removed}


def say_inspect(arguments: argparse.Namespace) -> Answer:
    """What cards say, whatever the chain."""
    return {"cards": [_card_answer(load_card(path)) for path in arguments.cards]}


def add_operator_commands(add: AddCommand, init: argparse.ArgumentParser) -> None:
    """The parsers. `add(name, help, example)`; `init` exists already, since it also takes --config."""
    init.add_argument("--name", help="what this hub is called: lower-case letters, digits, dashes")
    init.add_argument("--address", help="host:port at which the others reach this hub")
    init.add_argument("--chain-id", type=int, help="number of the chain that is to be founded")
    init.add_argument("--genesis", type=Path, help="genesis of a chain that exists, instead of --chain-id")
    init.add_argument("--days", type=int, default=DEFAULT_DAYS, help="how long the certificate holds (%(default)s)")
    init.set_defaults(say=say_init)
    add_folder_option(init)

    sub = add("genesis", "Found a chain: the genesis whose validators are those of the cards.", _GENESIS_EXAMPLE)
    sub.add_argument("--chain-id", type=int, required=True)
    sub.add_argument("--app-state", type=Path, required=True, help="the application's part: meters, feeders, learning plan")
    sub.add_argument("--output", type=Path, default=Path("genesis.cbor"))
    sub.add_argument("cards", type=Path, nargs="+", metavar="CARD")
    add_say(sub, say_genesis)

    sub = add(
        "join", "Make this hub ready for a chain: check genesis and cards, make vote log and configuration.", _JOIN_EXAMPLE
    )
    sub.add_argument("--genesis", type=Path, required=True)
    sub.add_argument("--genesis-hash", required=True, help="as the founder told it by voice")
    sub.add_argument("--listen", help="host:port to listen on, if not that of the card (0.0.0.0:7100 for all)")
    sub.add_argument("--allow-missing", action="store_true", help="some validators' cards are not there yet")
    sub.add_argument("--candidate", action="store_true", help="this hub's validator is not in the genesis: it is voted in")
    sub.add_argument("cards", type=Path, nargs="*", metavar="CARD")
    add_folder_option(sub)
    add_say(sub, say_join)

    _add_keys(add)
    _add_peers(add)


def _add_keys(add: AddCommand) -> None:
    actions = add("keys", "This hub's TLS key and card.", "openmg-hub keys rotate --dir hub-1").add_subparsers(required=True)
    sub = add_action(
        actions, "rotate", "Prepare a new TLS key and card; the old one stays in use.", "openmg-hub keys rotate --dir hub-1"
    )
    sub.add_argument("--address", help="host:port, if the hub moves")
    sub.add_argument("--days", type=int, default=DEFAULT_DAYS, help="how long the certificate holds (%(default)s)")
    sub.add_argument(
        "--grace-days", type=int, default=DEFAULT_GRACE_DAYS, help="how long the old one still holds (%(default)s)"
    )
    sub.add_argument("--validator", action="store_true", help="prepare a new validator key instead, which is voted in on chain")
    add_folder_option(sub)
    add_say(sub, say_rotate)
    for name, say, text in (
        ("activate", say_activate, "Use the prepared key, after all others have imported its card."),
        ("show", say_show, "Print this hub's card and its fingerprint."),
    ):
        sub = add_action(actions, name, text, f"openmg-hub keys {name} --dir hub-1")
        add_folder_option(sub)
        add_say(sub, say)


def _add_peers(add: AddCommand) -> None:
    actions = add("peers", "Cards of the other validators.", "openmg-hub peers list --dir hub-1").add_subparsers(required=True)
    sub = add_action(actions, "add", "Import cards.", "openmg-hub peers add --dir hub-1 hub-2.card")
    sub.add_argument("--candidate", action="store_true", help="the validator is not in the genesis: it is voted in")
    sub.add_argument("cards", type=Path, nargs="+", metavar="CARD")
    add_folder_option(sub)
    add_say(sub, say_peers_add)
    sub = add_action(actions, "list", "Print the cards held.", "openmg-hub peers list --dir hub-1 --json")
    add_folder_option(sub)
    add_say(sub, say_peers_list)
    sub = add_action(actions, "remove", "Forget a validator's cards.", f"openmg-hub peers remove --dir hub-1 0x{'12' * 20}")
    sub.add_argument("validator", metavar="0xADDRESS")
    add_folder_option(sub)
    add_say(sub, say_peers_remove)
    sub = add_action(actions, "inspect", "Print what card files say.", "openmg-hub peers inspect hub-2.card")
    sub.add_argument("cards", type=Path, nargs="+", metavar="CARD")
    add_say(sub, say_inspect)


_GENESIS_EXAMPLE = "openmg-hub genesis --chain-id 77 --app-state app-state.cbor hub-1.card hub-2.card hub-3.card hub-4.card"
_JOIN_EXAMPLE = "openmg-hub join --dir hub-1 --genesis genesis.cbor --genesis-hash 0x... hub-2.card hub-3.card hub-4.card"
