"""What the operators' subcommands have in common: how an answer is printed, and the options that most of them take.

Rules: what was done is said on standard output, as lines for people or with --json as one object for programs; what cannot be
done is one sentence on standard error and exit code 1.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub.operators.errors import OperatorError

Answer = dict[str, Any]
Say = Callable[[argparse.Namespace], Answer]
AddCommand = Callable[[str, str, str], argparse.ArgumentParser]
"""`add(name, help, example)` makes a subcommand."""


def run_operator_command(arguments: argparse.Namespace) -> int:
    """Do it and print what was done. Raises OperatorError."""
    answer = arguments.say(arguments)
    if arguments.json:
        print(json.dumps(answer, indent=2))
        return 0
    for name, value in answer.items():
        for item in value if isinstance(value, list) else [value]:
            pairs = (f"{key.replace('_', ' ')} {_shown(one)}" for key, one in item.items()) if isinstance(item, dict) else ()
            print(f"{name.replace('_', ' ')}: {', '.join(pairs) or _shown(item)}")
    return 0


def _shown(value: object) -> str:
    """A value as people read it."""
    words = {None: "none", True: "yes", False: "no"}
    if value is None or isinstance(value, bool):
        return words[value]
    return " ".join(map(_shown, value)) or "none" if isinstance(value, list) else str(value)


def parse_address(text: str, where: str) -> bytes:
    """A validator's address; OperatorError when it is none."""
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
        raise OperatorError(f"{text!r} is not 0x and 40 hex digits: write it as {where} shows it")
    return bytes.fromhex(text[2:])


def add_action(actions: Any, name: str, text: str, example: str) -> argparse.ArgumentParser:
    """A subcommand of a subcommand."""
    described = f"{text} Example: {example}"
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=described)
    return parser


def add_folder_option(parser: argparse.ArgumentParser) -> None:
    """--dir."""
    parser.add_argument("--dir", type=Path, default=Path("."), help="folder of the hub (default: this one)")


def add_say(parser: argparse.ArgumentParser, say: Say) -> None:
    """--json, and what the command does."""
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(command=run_operator_command, say=say)
