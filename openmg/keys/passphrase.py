"""Where the passphrase of sealed key files comes from: a systemd credential, a file of mode 0600, or the terminal.

Rules: never an argument or an environment variable (`$CREDENTIALS_DIRECTORY`, which systemd sets, is only a folder's
name). The first source that exists counts; a terminal is asked only by whoever sits there, and only for a file that is
sealed. It is kept for the process's life, so that it is asked for once.
Not here: what it opens (`openmg.keys.sealed`).
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

CREDENTIAL = "openmg-passphrase"
"""Name of the systemd credential with the passphrase."""
MIN_CHARACTERS = 8
MAX_CREDENTIAL_BYTES = 4096


class KeyFileError(Exception):
    """A key file cannot be used; the text says which and what to do."""


def read_credential(name: str) -> bytes | None:
    """The systemd credential of this name, if the service has one; KeyFileError when it cannot be read."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    try:
        with (Path(folder) / name).open("rb") as file:
            return file.read(MAX_CREDENTIAL_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(
            f"credential {name} cannot be read ({error.strerror}); look at the service's LoadCredential"
        ) from error


def read_private_text(path: Path) -> str:
    """A small text file that nobody else may read; KeyFileError otherwise."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_CREDENTIAL_BYTES)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}; check its owner") from error
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFileError(f"{path} is open to other users; run chmod 600 on it")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is not UTF-8 text; save it as UTF-8") from None


def normalise(text: str) -> str:
    """One form of what different keyboards compose differently, without the line's end."""
    return unicodedata.normalize("NFKD", text.rstrip("\r\n"))


def ask_terminal(prompt: str) -> str | None:
    """What is typed, unseen, at the terminal; None when there is none."""
    return getpass.getpass(prompt) if sys.stdin is not None and sys.stdin.isatty() else None


class Passphrases:
    """The sources of one process, in their order."""

    def __init__(self, file: Path | None = None, ask: Callable[[str], str | None] = ask_terminal) -> None:
        self._file = file
        self.ask = ask
        self._typed: str | None = None

    def configured(self) -> str | None:
        """From credential or file, if either is there; KeyFileError when it cannot be used."""
        credential = read_credential(CREDENTIAL)
        if credential is not None:
            try:
                text = credential.decode("utf-8")
            except UnicodeDecodeError:
                raise KeyFileError(f"credential {CREDENTIAL} is not UTF-8 text; make it anew") from None
        elif self._file is not None:
            text = read_private_text(self._file)
        else:
            return None
        return require_usable(normalise(text), f"credential {CREDENTIAL}" if credential is not None else str(self._file))

    def opening(self, path: Path) -> str:
        """The passphrase for a sealed file; KeyFileError when no source has one."""
        passphrase = self.configured() or self._typed
        if passphrase is None:
            typed = self.ask(f"Passphrase of {path}: ")
            if typed is None:
                raise KeyFileError(
                    f"key file {path} is sealed and nothing gives its passphrase; set passphrase_file in [keys], load the"
                    f" credential {CREDENTIAL}, or start at a terminal"
                )
            self._typed = passphrase = normalise(typed)
        return passphrase

    def forget(self) -> None:
        """What was typed was wrong."""
        self._typed = None

    def new(self) -> str:
        """The passphrase with which files are sealed from now on; KeyFileError when there is none, or it is too short."""
        configured = self.configured()
        if configured is not None:
            return configured
        first = self.ask("New passphrase: ")
        if first is None:
            raise KeyFileError("there is no terminal to type a passphrase at; set passphrase_file in [keys]")
        passphrase = require_usable(normalise(first), "the passphrase")
        if normalise(self.ask("The same again: ") or "") != passphrase:
            raise KeyFileError("the two passphrases differ; nothing was changed")
        self._typed = passphrase
        return passphrase


def require_usable(passphrase: str, where: str) -> str:
    """The passphrase; KeyFileError when it is too short to protect anything."""
    if len(passphrase) < MIN_CHARACTERS:
        raise KeyFileError(f"{where} has fewer than {MIN_CHARACTERS} characters; use a longer passphrase")
    return passphrase
