"""`openmg-agent wallet`: the owner's address, backup in words and its restoring, viewing keys and disclosures.

Rules: what is secret goes to a terminal or into a new file of mode 0600 that the owner names, never into a pipe, a log or
an argument. A restore never overwrites: another seed, or another owner's database, must be moved away first. It first
marks the database as restored and then writes the seed, so that after a kill the agent does not begin as if the owner
were new. Not here: what is derived (`edge_agent.wallet.keys`), how notes are found again (`edge_agent.wallet.notes`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.config import AgentConfig, WalletSection
from openmg.config import ConfigError
from openmg.keys.files import Protection, load_key, load_or_create_key, protection, store_key, write_new_private
from openmg.keys.passphrase import KeyFileError, read_private_text

if TYPE_CHECKING:  # the circuit hash and the word lists take a while to import, and the parser needs neither
    from edge_agent.wallet.keys import OwnerKeys

LANGUAGES = ("english", "korean")


def _section(config: AgentConfig) -> WalletSection:
    if config.wallet is None:
        raise ConfigError("this device has no wallet: add [wallet] with seed_file to its configuration")
    return config.wallet


def _owner(config: AgentConfig) -> OwnerKeys:
    """The keys of the seed, which must be there: looking at a wallet makes none."""
    from edge_agent.wallet.keys import OwnerKeys

    path = _section(config).seed_file
    if protection(path) is Protection.MISSING:
        raise KeyFileError(f"key file {path} does not exist; start the agent once, or run `openmg-agent wallet restore`")
    return OwnerKeys(load_or_create_key(path, config.passphrases))


def hand_over(secret: str, output: Path | None) -> None:
    """Shows a secret at the terminal, or writes it into a new file of mode 0600; KeyFileError when neither can be."""
    if output is not None:
        try:
            write_new_private(output, secret.encode("utf-8") + b"\n")
        except OSError as error:
            raise KeyFileError(f"{output} cannot be made ({error.strerror}); name a new file in a folder of yours") from error
        print(f"written to {output}, which only you can read", file=sys.stderr)
    elif sys.stdout.isatty():
        print(secret)
    else:
        raise KeyFileError("a secret is not written into a pipe or a log; run this at a terminal or add --output FILE")


def address(config: AgentConfig) -> str:
    """The owner's shielded address."""
    from openmg.keys.text import encode_address

    return encode_address(_owner(config).spending_key.address, _section(config).network)


def backup(config: AgentConfig, language: str) -> str:
    """The words of the owner's seed."""
    from openmg.keys.words import to_words

    return to_words(_owner(config).seed, language)


def read_words(path: Path | None) -> str:
    """Words from a file that nobody else may read, or typed at the terminal; KeyFileError when there is neither."""
    if path is not None:
        return read_private_text(path)
    if not sys.stdin.isatty():
        raise KeyFileError("there is no terminal to type words at; put them into a file of mode 0600 and add --words FILE")
    return input("The 24 words, in order: ")


def restore(config: AgentConfig, words: str) -> OwnerKeys:
    """Make the owner's seed from its words, for a wallet that then finds its notes in the public tree.

    Raises KeyFileError or WalletError, and changes nothing, when another owner is there or the words are no backup.
    """
    from edge_agent.wallet.keys import OwnerKeys
    from openmg.keys.words import WordsError, from_words

    path = _section(config).seed_file
    try:
        keys = OwnerKeys(from_words(words))
    except WordsError as error:
        raise KeyFileError(f"no seed is made: {error}") from None
    kept = protection(path)
    if kept is Protection.CREDENTIAL:
        raise KeyFileError(f"the seed comes from the credential {path.name}; restore it there")
    exists = kept is not Protection.MISSING
    if exists and load_key(path, config.passphrases) != keys.seed:
        raise KeyFileError(f"key file {path} holds another seed; move it and the wallet's database away first")
    for folder in (path.parent, config.device.state_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise KeyFileError(f"folder {folder} cannot be made ({error.strerror}); check its owner") from error
    _claim(config, keys, restored=True)
    if not exists:
        store_key(path, keys.seed, config.passphrases)
    return keys


def claim_restored(config: AgentConfig, seed: bytes) -> None:
    """Begins the wallet's database of an owner whose wallet existed before, as `restore` does. Raises WalletError."""
    from edge_agent.wallet.keys import OwnerKeys

    _claim(config, OwnerKeys(seed), restored=True)


def _claim(config: AgentConfig, keys: OwnerKeys, *, restored: bool) -> Path:
    """The wallet's database, which is this owner's or becomes so; WalletError when it is another's."""
    from edge_agent.wallet.journal import DATABASE, Journal

    path = config.device.state_dir / DATABASE
    journal = Journal(path)
    try:
        journal.claim(keys.account, restored=restored)
    finally:
        journal.close()
    return path


def viewing_key(config: AgentConfig, kind: str) -> str:
    """The owner's incoming or full viewing key, which sees all positions of the tree."""
    from openmg.keys.text import encode_viewing_key

    key = _owner(config).spending_key.viewing_key
    return encode_viewing_key(key if kind == "full" else key.incoming, _section(config).network)


def disclosure(config: AgentConfig, kind: str, first: int, last: int) -> str:
    """The openings of the owner's notes from position `first` to `last`, as JSON.

    Raises WalletError when the wallet has not heard of the whole range.
    """
    from edge_agent.wallet.journal import DATABASE, WalletError
    from edge_agent.wallet.note_store import NoteStore
    from openmg.keys.audit import AuditError, Disclosure, SeenNote
    from openmg.zk.notes import Note

    path = config.device.state_dir / DATABASE
    if not path.exists():
        raise WalletError(f"{path} does not exist; run the agent until it has heard of the notes")
    keys = _owner(config)
    store = NoteStore(_claim(config, keys, restored=False))
    try:
        heard, rows = store.leaf_count(), store.notes_between(first, last)
    finally:
        store.close()
    if last >= heard:
        raise WalletError(f"the wallet has heard of {heard} leaves, so positions end at {heard - 1}; choose a smaller --to")
    key = keys.spending_key
    seen, nullifiers = [], {}
    for own, spent in rows:
        item = SeenNote(own.position, Note(own.asset, own.amount, key.public_key, own.blinding), spent)
        seen.append(item)
        if spent:
            nullifiers[own.position] = own.nullifier
    try:
        found = Disclosure(
            _section(config).network, key.address, first, last, tuple(seen), nullifiers if kind == "full" else None
        )
    except AuditError as error:
        raise WalletError(f"{error}; choose another --from and --to") from None
    return found.to_json()


def add_commands(commands: Any, add: Callable[..., Any], config_of: Callable[[Any], AgentConfig]) -> None:
    """The group `wallet` of the command line."""

    def run_address(arguments: Any) -> int:
        print(address(config_of(arguments)))
        return 0

    def run_backup(arguments: Any) -> int:
        hand_over(backup(config_of(arguments), arguments.language), arguments.output)
        return 0

    def run_restore(arguments: Any) -> int:
        config = config_of(arguments)
        _section(config)
        keys = restore(config, read_words(arguments.words))
        print(f"the seed of 0x{keys.account.hex()} is here; its notes are found while the agent runs")
        return 0

    def run_viewing_key(arguments: Any) -> int:
        config, first, last = config_of(arguments), arguments.first, arguments.last
        if (first is None) != (last is None):
            raise ConfigError("a range has two ends: add both --from and --to, or neither")
        secret = viewing_key(config, arguments.kind) if first is None else disclosure(config, arguments.kind, first, last)
        hand_over(secret, arguments.output)
        return 0

    text = "The owner's address, backup and viewing keys."
    actions = commands.add_parser("wallet", help=text, description=text).add_subparsers(required=True, metavar="ACTION")
    add("address", run_address, "The owner's shielded address.", "wallet address --config agent.toml", actions)
    saving = add("backup", run_backup, "The owner's seed as 24 words.", "wallet backup --config agent.toml", actions)
    saving.add_argument("--language", choices=LANGUAGES, default="english")
    saving.add_argument("--output", type=Path, help="a new file, made with mode 0600; default: the terminal")
    example = "wallet restore --config agent.toml --words words.txt"
    restoring = add("restore", run_restore, "Make the owner's seed from its words.", example, actions)
    restoring.add_argument("--words", type=Path, help="a file of mode 0600 with the words; default: asked at the terminal")
    example = "wallet viewing-key --config agent.toml --kind full --from 0 --to 63 --output auditor.json"
    viewing = add("viewing-key", run_viewing_key, "A viewing key, or the opened notes of a range.", example, actions)
    viewing.add_argument("--kind", choices=("incoming", "full"), required=True, help="full: spends are seen, too")
    for name, target in (("--from", "first"), ("--to", "last")):
        viewing.add_argument(name, dest=target, type=int, metavar="POSITION", help="a range: its notes are opened instead")
    viewing.add_argument("--output", type=Path, help="a new file, made with mode 0600; default: the terminal")
