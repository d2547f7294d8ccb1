"""The subcommand `openmg-hub validators`: who is in the set, propose a change, consent to one, vote, wait.

Rules: everything but a consent speaks with the running hub. The doing is in `set_changes`; here are options and answers.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

from hub.control.protocol import CONTROL_PATH, ControlCounts
from hub.operators.errors import OperatorError
from hub.operators.folder import HubFolder, load_card, write_public
from hub.operators.identity import existing_keys
from hub.operators.running import RunningHub, running_hub
from hub.operators.set_changes import (
    Reading,
    follow,
    make_consent,
    new_change,
    propose,
    read,
    read_consent,
    vote,
)
from hub.operators.shell import AddCommand, Answer, Say, add_action, add_folder_option, add_say, parse_address
from hub.ppdl.app.governance import MAX_PROPOSAL_BLOCKS
from hub.ppdl.app.set_change import SetChange, change_hash
from hub.ppdl.app.state import OpenProposal
from hub.ppdl.net.cards import FOUNDING, CardError, check_card
from openmg.messages.base import encode

DEFAULT_WAIT_S = 7 * 86_400
"""A week, as long as a proposal is open at one block every two seconds."""
LIST = "openmg-hub validators list"


def _hub(arguments: argparse.Namespace) -> RunningHub:
    return running_hub(arguments.dir, arguments.config)


def _hex(value: bytes) -> str | None:
    return "0x" + value.hex() if value else None


def _proposal_id(text: str) -> bytes:
    if not re.fullmatch(r"0x[0-9a-fA-F]{64}", text):
        raise OperatorError(f"{text!r} is no proposal id (0x and 64 hex digits): write it as {LIST} shows it")
    return bytes.fromhex(text[2:])


def _terms(one: SetChange | OpenProposal) -> Answer:
    below = {"below_four": True} if one.below_four else {}
    return {"add": _hex(one.add), "remove": _hex(one.remove)} | below | {"expires_height": one.expires_height}


def _standing(now: Reading, hash_: bytes, change: SetChange | OpenProposal, after: int) -> Answer:
    """What has become of a proposal that was, or is to be, open. after: number of the set that it was made for."""
    known, span = now.find(hash_), now.passed(change.add, change.remove, after)
    if known is not None:
        return {"state": "open", "votes": now.counted(known), "needed": now.validators.quorum}
    if span is not None:
        return {"state": "passed", "set": span.number, "from_height": span.from_height}
    return {"state": "not open"}


def say_list(arguments: argparse.Namespace) -> Answer:
    """The sets and the open proposals."""
    hub = _hub(arguments)
    now, own, names = read(hub), hub.keys().validator, hub.names()
    counts = hub.query(CONTROL_PATH, ControlCounts)
    flags = {one.address: one.offences for one in now.validators.flagged}

    def member(address: bytes) -> Answer:
        name = {"name": names[address]} if address in names else {}
        this = {"this_hub": True} if address == own else {}
        flagged = {"equivocations": flags[address]} if address in flags else {}
        return {"validator": _hex(address)} | name | this | flagged

    answer: dict[str, Any] = {
        "height": now.validators.height,
        "set": now.current.number,
        "quorum": now.validators.quorum,
        "validators": [member(address) for address in now.current.addresses],
    }
    if now.upcoming is not None:
        answer["next_set"] = now.upcoming.number
        answer["next_from_height"] = now.upcoming.from_height
        answer["next_validators"] = [member(address) for address in now.upcoming.addresses]
    answer["proposals"] = [_listed(now, one, own) for one in now.proposals.proposals]
    return answer | {"control_socket": [vars(counts)]}


def _listed(now: Reading, one: OpenProposal, own: bytes) -> Answer:
    votes = {"votes": now.counted(one), "needed": now.validators.quorum, "this_hub_voted": own in one.votes}
    voted = {"proposer": _hex(one.proposer), "voted": [_hex(address) for address in one.votes]}
    return {"id": _hex(one.proposal_hash)} | _terms(one) | votes | voted


def _added(text: str, hub: RunningHub) -> bytes:
    """The validator of `--add`: an address, or a card for this chain."""
    if text.startswith("0x"):
        return parse_address(text, "its card")
    card = load_card(Path(text))
    try:
        check_card(card, hub.genesis.chain_id, hub.genesis.hash, int(time.time()))
    except CardError as error:
        raise OperatorError(str(error)) from error
    return card.address


def say_propose(arguments: argparse.Namespace) -> Answer:
    """Open a proposal."""
    hub = _hub(arguments)
    add = _added(arguments.add, hub) if arguments.add else b""
    remove = parse_address(arguments.remove, LIST) if arguments.remove else b""
    consent = read_consent(arguments.consent) if arguments.consent else None
    if consent is None:
        change = new_change(read(hub), add, remove, arguments.below_four, arguments.blocks)
    else:
        change = consent.change
        given = add or change.add, remove or change.remove, arguments.below_four or change.below_four
        if given != (change.add, change.remove, change.below_four):
            raise OperatorError(
                f"{arguments.consent} is the consent to another change (add {_hex(change.add)}, remove {_hex(change.remove)}):"
                " leave the other options out, or ask for a consent to this one"
            )
    hash_, now = propose(hub, change, consent.signature if consent is not None else None)
    standing = _standing(now, hash_, change, change.number)
    if standing["state"] == "not open":
        standing = {"state": f"handed over, but in no block yet: see {LIST}"}
    return {"proposal": _hex(hash_)} | _terms(change) | standing | {"next": _after_proposing(hub, hash_, change, standing)}


def _after_proposing(hub: RunningHub, hash_: bytes, change: SetChange, standing: Answer) -> list[str]:
    if standing["state"] == "passed":
        return [f"nothing: the set changes at height {standing['from_height']}"]
    steps = []
    if change.add:
        steps.append("every other operator, unless it was done: openmg-hub peers add --dir DIR --candidate CARD")
    return [
        *steps,
        f"every other operator: openmg-hub validators vote --dir DIR {_hex(hash_)}",
        f"to see it pass: openmg-hub validators wait {hub.option} {_hex(hash_)}",
    ]


def say_vote(arguments: argparse.Namespace) -> Answer:
    """Vote for a proposal."""
    hub, hash_ = _hub(arguments), _proposal_id(arguments.proposal)
    proposal, change, now = vote(hub, hash_)
    standing, own, known = _standing(now, hash_, change, change.number), hub.keys().validator, now.find(hash_)
    if known is not None and own not in known.votes:
        standing = {"state": f"handed over, but in no block yet: see {LIST}"}
    elif own in proposal.votes:
        standing["state"] = f"{standing['state']}; this hub had voted before"
    return {"proposal": _hex(hash_)} | _terms(change) | standing


def say_wait(arguments: argparse.Namespace) -> Answer:
    """Wait until a proposal has passed; a refusal when it ended otherwise."""
    hub, hash_ = _hub(arguments), _proposal_id(arguments.proposal)

    def tell(line: str) -> None:
        if not arguments.json:
            print(line, file=sys.stderr, flush=True)

    try:
        proposal, after, now = follow(hub, hash_, arguments.timeout, tell)
    except KeyboardInterrupt as error:
        raise OperatorError(f"waiting was interrupted; proposal {arguments.proposal} is still what {LIST} shows") from error
    standing = _standing(now, hash_, proposal, after)
    if standing["state"] != "passed":
        raise OperatorError(
            f"proposal {arguments.proposal} ended without passing by height {now.validators.height}: it expired, or another"
            f" change made it pointless; see {LIST}"
        )
    return {"proposal": _hex(hash_)} | _terms(proposal) | standing


def say_consent(arguments: argparse.Namespace) -> Answer:
    """Consent to being added."""
    chosen = (arguments.number is None, arguments.expires_height is None)
    if any(chosen) and not all(chosen):
        raise OperatorError("--number and --expires-height go together: write both as the proposer was told, or none")
    remove = parse_address(arguments.remove, LIST) if arguments.remove else b""
    hub = _hub(arguments) if arguments.config or all(chosen) else None
    folder = HubFolder(arguments.dir)
    keys = hub.keys() if hub is not None else existing_keys(folder)
    chain_id, chain = (hub.genesis.chain_id, hub.genesis.hash) if hub is not None else _chain_of(folder)
    if hub is not None and all(chosen):
        change = new_change(read(hub), keys.validator, remove, arguments.below_four, arguments.blocks)
    else:
        try:
            change = SetChange(arguments.number, keys.validator, remove, arguments.below_four, arguments.expires_height)
        except ValueError as error:
            raise OperatorError(f"{error}: write --number and --expires-height as the proposer was told") from error
    hash_ = change_hash(change, chain_id, chain)
    output = arguments.output or Path(f"consent-{hash_[:4].hex()}.cbor")
    write_public(output, encode(make_consent(keys, change, chain_id, chain)))
    step = f"send {output} to a validator's operator: openmg-hub validators propose --dir DIR --consent {output.name}"
    return {"proposal": _hex(hash_)} | _terms(change) | {"consent": str(output), "next": step}


def _chain_of(folder: HubFolder) -> tuple[int, bytes]:
    """Chain id and genesis hash of a hub that need not have joined yet."""
    card = folder.load_own_card()
    if card.genesis_hash == FOUNDING or folder.genesis.exists():
        genesis = folder.load_genesis()
        return genesis.chain_id, genesis.hash
    return card.chain_id, card.genesis_hash


def add_validator_commands(add: AddCommand) -> None:
    """The parsers. `add(name, help, example)`."""
    example = "openmg-hub validators list --dir hub-1"
    actions = add("validators", "The validator set of the running chain.", example).add_subparsers(required=True)
    some_id = f"0x{'5a' * 32}"
    _validator_action(actions, "list", "Print the sets and the open proposals.", example, say_list)

    sub = _validator_action(
        actions, "propose", "Propose a change of the set, with this hub's vote.",
        f"openmg-hub validators propose --dir hub-1 --add hub-5.card --remove 0x{'12' * 20}", say_propose,
    )  # fmt: skip
    sub.add_argument("--add", metavar="CARD|0xADDRESS", help="the validator that is to come in")
    sub.add_argument("--consent", type=Path, metavar="FILE", help="its consent, as openmg-hub validators consent makes it")
    _change_options(sub)

    sub = _validator_action(
        actions, "consent", "Consent to this hub's validator being added, where another operator proposes it.",
        "openmg-hub validators consent --dir hub-5", say_consent,
    )  # fmt: skip
    sub.add_argument("--number", type=int, help="set that the change starts from, if this hub does not run")
    sub.add_argument("--expires-height", type=int, help="last block in which it may pass, if this hub does not run")
    sub.add_argument("--output", type=Path, metavar="FILE", help="file to make (default: consent-....cbor)")
    _change_options(sub)

    sub = _validator_action(
        actions, "vote", "Vote for a proposal.", f"openmg-hub validators vote --dir hub-2 {some_id}", say_vote
    )
    sub.add_argument("proposal", metavar="PROPOSAL_ID")

    sub = _validator_action(
        actions,
        "wait",
        "Wait until a proposal has passed or ended.",
        f"openmg-hub validators wait --dir hub-1 {some_id}",
        say_wait,
    )
    sub.add_argument("proposal", metavar="PROPOSAL_ID")
    sub.add_argument("--timeout", type=float, default=DEFAULT_WAIT_S, metavar="SECONDS", help="(%(default)s: a week)")


def _change_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--remove", metavar="0xADDRESS", help="the validator that is to go")
    parser.add_argument("--below-four", action="store_true", help="yes, fewer than four validators, which tolerate no fault")
    parser.add_argument(
        "--blocks", type=int, default=MAX_PROPOSAL_BLOCKS, help="for how many blocks it is open (%(default)s, the longest)"
    )


def _validator_action(actions: Any, name: str, text: str, example: str, say: Say) -> argparse.ArgumentParser:
    parser = add_action(actions, name, text, example)
    add_folder_option(parser)
    parser.add_argument("--config", type=Path, help="hub.toml of a hub that was configured by hand, instead of --dir")
    add_say(parser, say)
    return parser
