"""A protected DLMS meter after a restore: no number of a request is used twice, whatever the lost card did since the backup."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_kit import agent_toml

from edge_agent import cli
from edge_agent.backup import manifest as contents
from edge_agent.backup.making import make_backup
from edge_agent.backup.manifest import BackupError
from edge_agent.backup.restoring import restore
from edge_agent.config import AgentConfig
from edge_agent.dlms.counter import BLOCK, FILE_NAME, LEAP, CounterError, InvocationCounter, number_after, read_number
from edge_agent.dlms_section import MAX_COUNTER
from edge_agent.store import Store
from openmg.config import load_toml
from openmg.identity import load_or_create_key
from openmg.keys import sealed

PASSPHRASE = "seven random words are better"
POLL_NUMBERS = 2 + 4 * 2
"""Association, and scaler and value of four registers: a meter that hangs up after each poll."""
YEAR_S = 365 * 86_400


@pytest.fixture(autouse=True, scope="module")
def cheap_seals() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed, "STANDARD", sealed.Cost(4, 8, 1))
        yield


class Wall:
    """What `time.time` says, so that hours pass at once."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        patch.setattr("time.time", lambda: self.now)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(monkeypatch)


def dlms_config(folder: Path, poll_seconds: float = 1.0, authentication: str = "hls_gmac") -> Path:
    """The file of an agent whose meter is asked over DLMS, by default under keys."""
    path = agent_toml(folder, 9, "mqtt://127.0.0.1:1")
    text = path.read_text(encoding="utf-8")
    lines = ["[meter]", 'host = "127.0.0.1"', "port = 9", 'protocol = "dlms"', f"poll_seconds = {poll_seconds}", "[meter.dlms]"]
    if authentication == "hls_gmac":
        for name in ("encryption", "authentication"):
            key = path.parent / f"{name}.key"
            key.write_text("0f" * 16, encoding="ascii")
            key.chmod(0o600)
            lines.append(f'{name}_key_file = "{name}.key"')
        lines.append('system_title = "4f4d470000000001"')
    lines.append(f'authentication = "{authentication}"')
    start = text.index("[meter]")
    path.write_text(text[:start] + "\n".join(lines) + "\n\n" + text[text.index("[mqtt]") :], encoding="utf-8")
    return path


def made(path: Path) -> AgentConfig:
    """A card with a key, a store, and nothing asked of its meter yet."""
    config = load_toml(path, AgentConfig)
    config.device.key_file.parent.mkdir(parents=True, exist_ok=True)
    load_or_create_key(config.device.key_file)
    Store(config.store_path, first_seq=50).close()
    return config


def archive_of(config: AgentConfig) -> bytes:
    output = io.BytesIO()
    make_backup(config, PASSPHRASE, output)
    return output.getvalue()


def counter_of(config: AgentConfig) -> InvocationCounter:
    """As a process that begins has it."""
    return InvocationCounter(config.device.state_dir / FILE_NAME, config.meter.dlms_section.first_counter)


def ask(config: AgentConfig, seconds: int, polls_a_second: int) -> int:
    """What an agent does in that time that starts anew each minute, of a meter that hangs up; the highest number it used."""
    highest = 0
    for second in range(seconds):
        if second % 60 == 0:
            counter = counter_of(config)
        for _ in range(polls_a_second):
            counter.start_session()
            highest = [counter.next() for _ in range(POLL_NUMBERS)][-1]
    return highest


def lose(config: AgentConfig) -> None:
    shutil.rmtree(config.device.state_dir)
    shutil.rmtree(config.device.key_file.parent)


@pytest.mark.parametrize(("poll_seconds", "polls"), [(1.0, 1), (0.25, 4)])
def test_a_restored_meter_asks_with_numbers_above_all_of_its_lost_card(
    tmp_path: Path, wall: Wall, poll_seconds: float, polls: int
) -> None:
    """Also without what is left out for clocks; and a second restore of the same backup is above the first one's."""
    config = made(dlms_config(tmp_path, poll_seconds))
    ask(config, 60, polls)
    kept, archive = read_number(config.device.state_dir / FILE_NAME), archive_of(config)
    highest = ask(config, 240, polls)
    assert highest > kept
    lose(config)
    wall.now += 240
    for _ in range(2):
        done = restore(config, PASSPHRASE, io.BytesIO(archive))
        first = counter_of(config).next()
        assert first == done.dlms_counter and first - LEAP > kept and first > highest
        assert number_after(kept, 240, poll_seconds) - LEAP > kept + polls * 240 * POLL_NUMBERS + 4 * BLOCK
        assert json.loads((config.device.state_dir / "restored.json").read_text())["dlms_counter"] == first
        highest = ask(config, 120, polls)
        lose(config)
        wall.now += 120


def test_a_clock_that_is_early_by_a_year_repeats_no_number(tmp_path: Path, wall: Wall) -> None:
    """No second has passed by it; and of a year the lost card used four numbers a second."""
    config = made(dlms_config(tmp_path))
    ask(config, 1, 1)
    kept, archive = read_number(config.device.state_dir / FILE_NAME), archive_of(config)
    lose(config)
    restore(config, PASSPHRASE, io.BytesIO(archive))
    assert counter_of(config).next() > kept + 4 * YEAR_S


def test_a_meter_that_was_asked_after_the_backup_alone_is_not_asked_from_the_beginning(tmp_path: Path, wall: Wall) -> None:
    config = made(dlms_config(tmp_path))
    archive = archive_of(config)
    highest = ask(config, 10, 1)
    lose(config)
    wall.now += 10
    restore(config, PASSPHRASE, io.BytesIO(archive))
    assert counter_of(config).next() > highest


def test_a_number_that_is_there_is_never_set_back(tmp_path: Path, wall: Wall) -> None:
    """A card whose store alone was lost."""
    config = made(dlms_config(tmp_path))
    archive, path = archive_of(config), config.device.state_dir / FILE_NAME
    path.write_text(str(LEAP * 3), encoding="ascii")
    restore(config, PASSPHRASE, io.BytesIO(archive), force="the store is gone")
    assert counter_of(config).next() == LEAP * 3


def test_what_is_not_known_is_not_guessed(tmp_path: Path, wall: Wall) -> None:
    """As of a backup that an older version made: nothing is asked until the owner says a number."""
    config = made(dlms_config(tmp_path))
    path = config.device.state_dir / FILE_NAME
    path.write_text("garbage", encoding="ascii")
    archive = archive_of(config)
    lose(config)
    assert restore(config, PASSPHRASE, io.BytesIO(archive)).dlms_counter is None
    with pytest.raises(CounterError, match="remove it and set first_counter above what the meter has seen"):
        counter_of(config).next()
    path.unlink()
    assert InvocationCounter(path, 10_000).next() == 10_000


def test_a_manifest_of_an_older_version_knows_of_no_number(tmp_path: Path) -> None:
    config = made(dlms_config(tmp_path))
    table = json.loads(make_backup(config, PASSPHRASE, io.BytesIO()).encode())
    assert table["format"] == contents.FORMAT == 2 and contents.decode(json.dumps(table).encode()).dlms_counter == 0
    del table["dlms_counter"]
    assert contents.decode(json.dumps(table | {"format": 1}).encode()).dlms_counter is None
    with pytest.raises(BackupError, match="newer version"):
        contents.decode(json.dumps(table | {"format": 3}).encode())


def test_where_the_numbers_end_the_meter_needs_new_keys(tmp_path: Path, wall: Wall) -> None:
    config = made(dlms_config(tmp_path))
    path = config.device.state_dir / FILE_NAME
    path.write_text(str(MAX_COUNTER - LEAP), encoding="ascii")
    archive = archive_of(config)
    lose(config)
    restore(config, PASSPHRASE, io.BytesIO(archive))
    with pytest.raises(CounterError, match="is at its end; the meter needs new keys"):
        counter_of(config).next()


def test_a_meter_without_keys_has_no_numbers(tmp_path: Path, wall: Wall) -> None:
    config = made(dlms_config(tmp_path, authentication="none"))
    archive = archive_of(config)
    lose(config)
    assert restore(config, PASSPHRASE, io.BytesIO(archive)).dlms_counter is None
    assert not (config.device.state_dir / FILE_NAME).exists()


def test_the_command_says_from_where_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = dlms_config(tmp_path)
    config = made(path)
    passphrase, archive = tmp_path / "passphrase", tmp_path / "meter.backup"
    passphrase.write_text(PASSPHRASE + "\n", encoding="utf-8")
    passphrase.chmod(0o600)
    archive.write_bytes(archive_of(config))
    lose(config)
    arguments = ["restore", "--config", str(path), str(archive), "--passphrase-file", str(passphrase)]
    assert cli.main(arguments) == 0
    first = read_number(config.device.state_dir / FILE_NAME)
    assert f"requests to the DLMS meter are numbered from {first}\n" in capsys.readouterr().out
    assert cli.main([*arguments, "--force", "once more", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dlms_counter"] >= first
