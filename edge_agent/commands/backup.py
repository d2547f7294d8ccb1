"""`openmg-agent backup` and `restore`. Not here: what is in a backup and how it is restored (`edge_agent.backup`)."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from edge_agent.commands.common import CommandError, config_of, print_json, say
from openmg.keys.passphrase import KeyFileError, Passphrases

STREAM = Path("-")


def _passphrases(file: Path | None) -> Passphrases:
    if file is None and not sys.stdin.isatty():
        raise KeyFileError("there is no terminal to type a passphrase at; add --passphrase-file FILE (mode 0600)")
    return Passphrases(file)


def backup(arguments: argparse.Namespace) -> int:
    from edge_agent.backup.making import make_backup, write_backup
    from edge_agent.backup.manifest import LEFT_OUT, BackupError

    config, output = config_of(arguments), arguments.output
    if output == STREAM and sys.stdout.isatty():
        raise CommandError("a backup is not written to a terminal; send it into a file, or name one with --output")
    passphrase = _passphrases(arguments.passphrase_file).new()
    say(f"copying the store of {config.device.name} and sealing it ...")
    try:
        if output == STREAM:
            manifest = make_backup(config, passphrase, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            manifest = write_backup(config, passphrase, output)
    except BackupError as error:
        raise CommandError(str(error)) from error
    if arguments.json and output != STREAM:
        files = [{"name": entry.name, "bytes": entry.bytes} for entry in manifest.files]
        print_json({"file": str(output), "made": manifest.made, "device": manifest.device, "files": files})
        return 0
    say(f"{'the stream' if output == STREAM else output} holds, of {manifest.device} on chain {manifest.chain_id}:")
    for entry in manifest.files:
        say(f"  {entry.name:20} {entry.bytes} bytes")
    say("left out on purpose:")
    for name, why in LEFT_OUT:
        say(f"  {name:20} {why}")
    return 0


def restore(arguments: argparse.Namespace) -> int:
    from edge_agent.backup.manifest import BackupError
    from edge_agent.backup.restoring import restore as restore_into
    from edge_agent.doctor_host import is_synchronised

    config, path = config_of(arguments), arguments.file
    if path == STREAM and arguments.passphrase_file is None:
        raise CommandError("the backup comes from standard input, so the passphrase cannot; add --passphrase-file FILE")
    passphrase = _passphrases(arguments.passphrase_file).opening(path)
    if not is_synchronised():
        say("this clock is not synchronised; a slot that the lost card reported could be metered again under a wrong time")
        if config.meter.numbers_requests:
            say("and where it is early by over a year, a number of the DLMS meter's requests could be used twice; set it first")
    say("unsealing and checking ...")
    try:
        if path == STREAM:
            done = restore_into(config, passphrase, sys.stdin.buffer, arguments.force)
        else:
            with path.open("rb") as file:
                done = restore_into(config, passphrase, file, arguments.force)
    except BackupError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{path} cannot be read ({error.strerror}); name the backup's file") from error
    if arguments.json:
        counts = {"first_seq": done.first_seq, "waiting": done.waiting, "withheld": done.withheld}
        counts |= {} if done.dlms_counter is None else {"dlms_counter": done.dlms_counter}
        print_json({"device": done.manifest.device, "made": done.manifest.made, **counts, "aside": str(done.aside or "")})
        return 0
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(done.manifest.made))
    print(f"{config.device.name} is restored as of {made}; new reports are numbered from {done.first_seq}")
    print(f"{done.waiting} reports wait for the hub; {done.withheld} slots, and the energy since, are not reported again")
    if done.dlms_counter is not None:
        print(f"requests to the DLMS meter are numbered from {done.dlms_counter}")
    elif config.meter.numbers_requests:
        say("how far the DLMS meter's requests were numbered is not known: remove dlms-counter and set first_counter")
    if done.aside is not None:
        print(f"what was there is in {done.aside}")
    print("leave the lost card off for ever: two meters with one key would contradict each other. Start the agent")
    return 0


def add_commands(add: Any) -> None:
    """`backup` and `restore`."""
    example = "backup --config agent.toml --output /media/usb/meter.backup"
    making = add("backup", backup, "One sealed file from which a lost card is restored.", example)
    making.add_argument("--output", type=Path, required=True, metavar="FILE|-", help="a new file, mode 0600; - for a pipe")
    bringing = add("restore", restore, "Bring a meter back from its backup.", "restore --config agent.toml meter.backup")
    bringing.add_argument("file", type=Path, metavar="FILE|-", help="what `backup` made; - for standard input")
    bringing.add_argument("--force", metavar="REASON", help="set aside what is in the state folder, and why")
    for parser in (making, bringing):
        text = "a file of mode 0600 with the backup's passphrase; default: asked at the terminal"
        parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help=text)
        parser.add_argument("--json", action="store_true", help="one JSON object")
