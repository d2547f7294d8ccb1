"""The utility's command: its approvals make rosters that a home which knows the utility takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from app_world import CHAIN_ID, METERS, genesis

from hub.cli import main
from openmg.masking.rosters import make_roster, require_approved
from openmg.messages.telemetry import RosterMember
from openmg.signing import address_of


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "genesis.cbor").write_bytes(genesis().encode())
    return ["approve", "--genesis", str(tmp_path / "genesis.cbor"), "--key-file", str(tmp_path / "utility.key")]


def test_approved_meters_make_a_roster_and_others_do_not(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*files, "--without-feeder", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {meter.name for meter in METERS}
    utility = address_of((tmp_path / "utility.key").read_bytes()[:32])
    members = [
        RosterMember(m.name, m.key.address, m.key.mask_public, 7, bytes(32), bytes.fromhex(found[m.name][2:])) for m in METERS
    ]
    good = make_roster(1, 5, members[:6], clear_feeder=True)
    require_approved(good, CHAIN_ID, utility)
    for bad, chain_id, who in (
        (make_roster(1, 5, members[:6], clear_feeder=False), CHAIN_ID, utility),
        (make_roster(1, 5, members[:7], clear_feeder=True), CHAIN_ID, utility),  # the seventh is of another microgrid
        (make_roster(2, 5, members[:6], clear_feeder=True), CHAIN_ID, utility),
        (good, CHAIN_ID + 1, utility),
        (good, CHAIN_ID, address_of(bytes(31) + b"\x01")),
    ):
        with pytest.raises(ValueError, match="the utility did not approve home-"):
            require_approved(bad, chain_id, who)


def test_names_and_lines(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--device", "home-2"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith('home-2: approval = "0x') and len(line) == len('home-2: approval = "0x"') + 130
    assert main([*files, "--device", "home-2", "home-99"]) == 1
    assert capsys.readouterr().err.strip() == "the genesis has no meter home-99"
    assert main(["approve", "--genesis", "missing.cbor", "--key-file", files[-1]]) == 1
    assert "cannot read genesis file missing.cbor" in capsys.readouterr().err
