"""`openmg-hub approve`: the utility's word on which meters are real, for rosters that a home can trust.

Run where the utility's key is, on the genesis file that it has checked against its own register of meters. Each line of the
answer goes into that meter's [[device]] table of the operator's configuration, as `approval`.
Rules: the key signs approvals and is printed nowhere. A microgrid counts as one whose feeder is read in clear unless it is
named: a wrong "not" would let the energy of a few homes be told, a wrong "yes" only keeps slots closed that miss somebody.
Not here: what an approval is (`openmg.masking.rosters`), rosters (`rosters`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from pathlib import Path

from hub.ppdl.app.genesis_state import AppGenesis, AppStateError
from hub.ppdl.genesis import Genesis, GenesisError, load_genesis
from openmg.identity import load_or_create_key
from openmg.masking.rosters import approve
from openmg.messages.slot_opening import MeterApproval


def approvals(
    genesis: Genesis, utility_key: bytes, names: Collection[str], without_feeder: Collection[int]
) -> dict[str, bytes]:
    """The utility's signature for each meter of the genesis, or for those named. Raises ValueError for a name that is none."""
    devices = AppGenesis.decode(genesis.app_state).devices
    unknown = sorted(set(names) - {device.name for device in devices})
    if unknown:
        raise ValueError(f"the genesis has no meter {', '.join(unknown)}")
    return {
        item.name: approve(
            MeterApproval(item.microgrid, item.name, item.address, item.mask_public, item.microgrid not in without_feeder),
            genesis.chain_id,
            utility_key,
        )
        for item in devices
        if not names or item.name in names
    }


def run(arguments: argparse.Namespace) -> int:
    """Prints the approvals; exit code."""
    try:
        genesis = load_genesis(arguments.genesis)
        found = approvals(genesis, load_or_create_key(arguments.key_file), arguments.device, arguments.without_feeder)
    except (GenesisError, AppStateError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({name: "0x" + signature.hex() for name, signature in found.items()}, indent=2))
    else:
        for name, signature in found.items():
            print(f'{name}: approval = "0x{signature.hex()}"')
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--genesis", type=Path, required=True, help="genesis file of the PPDL chain")
    parser.add_argument("--key-file", type=Path, required=True, help="the utility's key, made when missing")
    parser.add_argument("--device", nargs="*", default=[], metavar="NAME", help="these meters only")
    parser.add_argument(
        "--without-feeder", nargs="*", type=int, default=[], metavar="N", help="microgrids whose feeder is not read in clear"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(command=run)
