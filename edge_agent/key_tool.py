"""`openmg-agent keys`: how the key files of an agent are kept, and sealing them with a passphrase or opening them again.

Rules: a change writes a whole file before it takes the old one's place; a passphrase comes from a credential, the file
that the configuration names or the terminal, never from the command line. What a disk's old blocks still hold is not
erased: docs/KEYS.md says what to do about it.
Not here: how sealing works (`openmg.keys`), the owner's words and viewing keys (`edge_agent.wallet.tool`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge_agent.config import AgentConfig
from openmg.keys.files import Protection, load_key, protection, replace_key
from openmg.keys.passphrase import Passphrases
from openmg.keys.sealed import SealError, unseal

UNPROTECTED = "of mode 0600, but whoever takes the disk can read it; run `openmg-agent keys protect`"


def describe(config: AgentConfig) -> str:
    """One sentence on each key file; KeyFileError when one cannot be read."""
    sentences = []
    for path in config.key_files:
        kept = protection(path)
        sentences.append(f"{path.name} {kept}" + (f" ({UNPROTECTED})" if kept is Protection.NONE else ""))
    return "; ".join(sentences)


def protect(config: AgentConfig) -> Iterator[str]:
    """Seals the key files with a new passphrase; yields a sentence for each. KeyFileError when one cannot be.

    Files that are sealed are opened with their present passphrase, which is asked for first, or with the new one: a change
    that was interrupted left some with either. Nothing is written before all are open.
    """
    kept = [path for path in config.key_files if path.exists()]
    for path in kept:
        if protection(path) is Protection.PASSPHRASE:
            config.passphrases.opening(path)
            break
    passphrase = Passphrases(config.keys.passphrase_file, config.passphrases.ask).new()
    for path, key in [(path, _open(path, config, passphrase)) for path in kept]:
        replace_key(path, key, passphrase)
        yield f"{path} is sealed now"


def _open(path: Path, config: AgentConfig, new_passphrase: str) -> bytes:
    with contextlib.suppress(SealError):
        return unseal(path.read_bytes(), new_passphrase)
    return load_key(path, config.passphrases)


def unprotect(config: AgentConfig) -> Iterator[str]:
    """Writes the key files in clear; yields a sentence for each that was sealed. KeyFileError when one cannot be."""
    for path in config.key_files:
        if protection(path) is Protection.PASSPHRASE:
            replace_key(path, load_key(path, config.passphrases), None)
            yield f"{path} is unprotected now"


def add_commands(commands: Any, add: Callable[..., Any], config_of: Callable[[Any], AgentConfig]) -> None:
    """The group `keys` of the command line."""

    def show(arguments: Any) -> int:
        print(describe(config_of(arguments)))
        return 0

    def change(sentences: Callable[[AgentConfig], Iterator[str]]) -> Callable[[Any], int]:
        def command(arguments: Any) -> int:
            for sentence in sentences(config_of(arguments)):
                print(sentence)
            return 0

        return command

    text = "How key files are kept."
    actions = commands.add_parser("keys", help=text, description=text).add_subparsers(required=True, metavar="ACTION")
    add("show", show, "Say how each key file is kept.", "keys show --config agent.toml", actions)
    add("protect", change(protect), "Seal the key files with a passphrase.", "keys protect --config agent.toml", actions)
    add("unprotect", change(unprotect), "Write the key files in clear.", "keys unprotect --config agent.toml", actions)
