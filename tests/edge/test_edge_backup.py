"""Backup of a running meter, restore onto a new card: nothing doubled, nothing lost, no number used twice."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, Hubs, Processes, agent_toml, run_agent_command, until
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.agent import Agent
from edge_agent.backup import restoring
from edge_agent.backup.archive import CHUNK_BYTES, ArchiveError, SealingWriter, UnsealingReader
from edge_agent.backup.making import make_backup, write_backup
from edge_agent.backup.manifest import BackupError
from edge_agent.backup.restoring import restore
from edge_agent.config import AgentConfig
from edge_agent.learning.private_file import PrivateFile
from edge_agent.slots import IMPORTED, Baseline
from edge_agent.store import Store, StoreError
from edge_agent.store_file import LEAP
from edge_agent.wallet.journal import Journal
from edge_agent.wallet.keys import OwnerKeys
from hub.ingest.events import IngestEvents
from hub.ingest.registry import Device, Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from openmg.clock import VirtualClock, slot_of
from openmg.config import load_toml
from openmg.identity import load_or_create_key
from openmg.keys import sealed
from openmg.learning.secure.terms import SecureError
from openmg.messages.feeder import FeederReport
from openmg.mqtt import MqttAddress

SLOT = slot_of(T0)
PASSPHRASE = "seven random words are better"
WALLET = '\n[wallet]\nseed_file = "owner.seed"\ndemo = true\n'


@pytest.fixture(autouse=True, scope="module")
def cheap_seals() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed, "STANDARD", sealed.Cost(4, 8, 1))
        yield


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(PASSPHRASE + "\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def config_of(path: Path) -> AgentConfig:
    return load_toml(path, AgentConfig)


def made(folder: Path, slots: range = range(SLOT, SLOT + 3), **options: str) -> AgentConfig:
    """A meter with a key, slots of which the first is reported and waits, and a baseline."""
    config = config_of(agent_toml(folder, 9, "mqtt://127.0.0.1:1", **options))
    config.device.key_file.parent.mkdir(parents=True, exist_ok=True)
    load_or_create_key(config.device.key_file)
    store = Store(config.store_path, first_seq=50)
    close_slots(store, slots)
    store.report(slots.start, "slot", lambda seq, rows: b"report %d" % seq)
    store.close()
    return config


def close_slots(store: Store, slots: range) -> None:
    with store._transaction() as db:
        db.executemany("INSERT INTO slots VALUES (?, ?, 1, 0, NULL)", [(slot, slot % 1000) for slot in slots])
    store.move_baseline(Baseline(slots.stop, 700, 7), None)


def archive_of(config: AgentConfig) -> bytes:
    output = io.BytesIO()
    make_backup(config, PASSPHRASE, output)
    return output.getvalue()


def new_card(config: AgentConfig) -> None:
    shutil.rmtree(config.device.state_dir)
    shutil.rmtree(config.device.key_file.parent)


# The sealed file


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2 * CHUNK_BYTES), max_size=4), st.integers(5_000, 3 * CHUNK_BYTES), st.data())
def test_what_is_sealed_comes_back_and_a_change_anywhere_shows(pieces: list[int], step: int, data: st.DataObject) -> None:
    content, file = b"".join(bytes([i + 1]) * size for i, size in enumerate(pieces)), io.BytesIO()
    writer, at = SealingWriter(file, PASSPHRASE), 0
    for size in pieces:
        writer.write(content[at : at + size])
        at += size
    writer.close()
    whole = file.getvalue()
    reader = UnsealingReader(io.BytesIO(whole), PASSPHRASE)
    assert b"".join(iter(lambda: reader.read(step), b"")) == content and reader.read() == b""
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    for other in (flipped, whole[:place], whole + b"\0"):
        with pytest.raises(ArchiveError):
            UnsealingReader(io.BytesIO(other), PASSPHRASE).read()
    with pytest.raises(ArchiveError, match="passphrase is wrong"):
        UnsealingReader(io.BytesIO(whole), "another passphrase")


# What a restore keeps, and what it begins anew


def test_a_restored_store_goes_on_with_numbers_never_used_and_reports_nothing_twice(tmp_path: Path) -> None:
    config = made(tmp_path)
    (config.promises_path).write_bytes(b"promises")
    key, archive = config.device.key_file.read_bytes(), archive_of(config)
    new_card(config)
    done = restore(config, PASSPHRASE, io.BytesIO(archive))
    assert (done.waiting, done.withheld) == (1, 2) and done.first_seq >= time.time() + LEAP - 60
    assert config.device.key_file.read_bytes() == key and config.device.key_file.stat().st_mode & 0o777 == 0o600
    left = sorted(path.name for path in config.device.state_dir.iterdir())
    assert left == ["lock", "restored.json", "store.sqlite", "store.start"]
    store = Store(config.store_path)
    assert [(row.seq, row.payload) for row in store.pending(0, 9)] == [(50, b"report 50")]  # the same bytes: the hub knows them
    assert store.baseline() is None
    assert [row.flags for row in store.slots()] == [0, IMPORTED, IMPORTED]
    close_slots(store, range(SLOT + 3, SLOT + 4))
    assert store.unreported(0, 9) == ()  # not before the old numbers have left
    assert store.acknowledge(50) == 1
    assert [row.slot for row in store.unreported(0, 9)] == [SLOT + 3]
    assert store.report(SLOT + 3, "slot", lambda seq, rows: b"%d" % rows) == done.first_seq
    assert store.pending(50, 9)[0].payload == b"1"
    store.close()


def test_numbers_never_repeat_whatever_the_clock_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restored twice from one backup, made anew when it was damaged, and with a clock that stands hours after the backup."""
    config = made(tmp_path)
    archive, starts, used = archive_of(config), [50], 400_000  # what a card reports in eleven years
    made_at = time.time()
    for later_s in (10, 20, 3_600):
        new_card(config)
        monkeypatch.setattr(time, "time", lambda later_s=later_s: made_at + later_s)
        starts.append(restore(config, PASSPHRASE, io.BytesIO(archive)).first_seq)
    assert starts[1] > max(made_at, 50 + used) and starts == sorted(set(starts))
    assert starts[1] - 50 > 400 * 96  # a hub then knows that no numbers between were used
    monkeypatch.setattr(time, "time", lambda: 86_400.0)  # a board without battery wakes up in 1970
    config.store_path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    store = Store(config.store_path)
    close_slots(store, range(SLOT + 9, SLOT + 10))
    assert store.report(SLOT + 9, "slot", lambda seq, rows: b"") >= starts[-1] + used
    store.close()


def test_a_clock_before_the_backup_is_refused_and_nothing_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = made(tmp_path)
    archive = archive_of(config)
    new_card(config)
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    with pytest.raises(BackupError, match="set the clock"):
        restore(config, PASSPHRASE, io.BytesIO(archive))
    assert [path.name for path in config.device.state_dir.iterdir()] == ["lock"] and not config.device.key_file.exists()


def test_what_could_answer_twice_is_marked_and_the_wallet_waits(tmp_path: Path) -> None:
    config = made(tmp_path)
    path = tmp_path / "home-1" / "agent.toml"
    path.write_text(path.read_text(encoding="utf-8") + WALLET, encoding="utf-8")
    without, config = config, config_of(path)
    assert config.wallet is not None
    seed = load_or_create_key(config.wallet.seed_file)
    state = config.device.state_dir
    (state / "learning-0a0b.private").write_bytes(b"a memory")
    (state / "learning-0a0b.pending").write_bytes(b"an update")
    journal = Journal(state / "wallet.sqlite")
    journal.claim(OwnerKeys(seed).account)
    journal.add_shielding(5)
    journal.close()
    archive = archive_of(config)
    new_card(config)
    config.wallet.seed_file.unlink()
    with pytest.raises(BackupError, match="has no wallet"):
        restore(without, PASSPHRASE, io.BytesIO(archive))
    restore(config, PASSPHRASE, io.BytesIO(archive))
    assert config.wallet.seed_file.read_bytes() == seed
    journal = Journal(state / "wallet.sqlite")
    assert journal.is_restored() and journal.shieldings() == 0  # empty, and it waits for what the old card had sent
    journal.close()
    with pytest.raises(SecureError, match="no learning round is answered"):
        PrivateFile(state, bytes.fromhex("0a0b")).load()
    assert not (state / "learning-0a0b.pending").exists()


# What is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("chain_id = 7", "chain_id = 8"), "of chain 7, and the configuration of chain 8"),
        (('name = "home-1"', 'name = "home-2"'), "of device home-1"),
        (("microgrid = 1", "microgrid = 2"), "of microgrid 1"),
        (('role = "home"', 'role = "feeder"'), "of role home"),
    ],
)
def test_a_backup_of_another_is_refused(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    config = made(tmp_path)
    archive = archive_of(config)
    new_card(config)
    path = tmp_path / "home-1" / "agent.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(BackupError, match=words):
        restore(config_of(path), PASSPHRASE, io.BytesIO(archive))


def test_a_folder_in_use_is_refused_or_set_aside_with_a_reason(tmp_path: Path) -> None:
    config = made(tmp_path)
    archive = archive_of(config)
    with pytest.raises(BackupError, match="store.sqlite is there already"):
        restore(config, PASSPHRASE, io.BytesIO(archive))
    config.device.key_file.unlink()
    other = load_or_create_key(config.device.key_file)  # as `doctor` makes one on a new card
    done = restore(config, PASSPHRASE, io.BytesIO(archive), "the file system was damaged")
    assert done.aside is not None and (done.aside / "store.sqlite").exists()
    kept = list(config.device.key_file.parent.glob("device.key.replaced-*"))
    assert [path.read_bytes() for path in kept] == [other] and config.device.key_file.read_bytes() != other
    record = json.loads((config.device.state_dir / "restored.json").read_text(encoding="utf-8"))
    assert record["reason"] == "the file system was damaged" and record["first_seq"] == done.first_seq
    config.store_path.unlink()
    config.device.key_file.write_bytes(other)
    with pytest.raises(BackupError, match="holds another key"):
        restore(config, PASSPHRASE, io.BytesIO(archive))


def test_a_damaged_or_cut_backup_changes_nothing(tmp_path: Path) -> None:
    config = made(tmp_path)
    archive = archive_of(config)
    new_card(config)
    for bad in (b"", archive[:-1], archive[:200], archive[:-40] + bytes(40), b"\x1f\x8b" + archive[2:]):
        with pytest.raises(BackupError, match="cannot be opened"):
            restore(config, PASSPHRASE, io.BytesIO(bad))
    with pytest.raises(BackupError, match="passphrase is wrong"):
        restore(config, "not the passphrase", io.BytesIO(archive))
    assert [path.name for path in config.device.state_dir.iterdir()] == ["lock"]
    with pytest.raises(BackupError, match="lies in the state folder"):
        write_backup(config, PASSPHRASE, config.device.state_dir / "b")


def test_a_backup_replaces_no_file(tmp_path: Path) -> None:
    config, output = made(tmp_path), tmp_path / "meter.backup"
    write_backup(config, PASSPHRASE, output)
    before = output.read_bytes()
    with pytest.raises(BackupError, match="exists already"):
        write_backup(config, PASSPHRASE, output)
    assert output.read_bytes() == before and list(tmp_path.glob(".meter.backup*")) == []


def test_a_restore_that_stops_half_way_is_no_meter_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = made(tmp_path)
    archive = archive_of(config)
    new_card(config)

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(restoring, "_record", full)
    with pytest.raises(BackupError, match="half-way"):
        restore(config, PASSPHRASE, io.BytesIO(archive))
    assert not config.store_path.exists() and list(config.device.state_dir.glob("restore-*")) == []
    monkeypatch.undo()
    restore(config, PASSPHRASE, io.BytesIO(archive))  # the same key is there, which is no obstacle
    assert config.store_path.exists()


# With processes


def test_a_backup_while_a_writer_works_is_of_one_moment(tmp_path: Path, processes: Processes, passphrase_file: Path) -> None:
    config = made(tmp_path)
    path = tmp_path / "home-1" / "agent.toml"
    program = (
        "from pathlib import Path\nfrom edge_agent.store import *\nfrom edge_agent.slots import *\n"
        f"s = Store(Path({str(config.store_path)!r}))\n"
        f"for i in range({SLOT + 3}, {SLOT + 100_000}):\n"
        "    s.move_baseline(Baseline(i + 1, i, i), ClosedSlot(i, 1, 1, 0))\n"
        "    print(s.report(i, 'slot', lambda seq, rows: b'x' * 900), flush=True)\n"
    )
    child = processes.start(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    output = tmp_path / "meter.backup"
    arguments = ("--passphrase-file", str(passphrase_file), "--output", str(output))
    said = run_agent_command("backup", path, *arguments)
    assert said.returncode == 0 and "masking.sqlite" in said.stderr and "device.key" in said.stderr
    child.kill()
    child.wait()
    assert output.stat().st_mode & 0o777 == 0o600 and PASSPHRASE.encode() not in output.read_bytes()
    assert list(config.device.state_dir.glob("backup-*")) == []
    new_card(config)
    done = run_agent_command("restore", path, str(output), "--passphrase-file", str(passphrase_file), "--json")
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    with sqlite3.connect(config.store_path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        seqs = [row[0] for row in db.execute("SELECT seq FROM outbox ORDER BY seq")]
        assert db.execute("SELECT count(*) FROM slots WHERE seq IS NOT NULL").fetchone()[0] == len(seqs) == table["waiting"]
    db.close()
    assert seqs == list(range(50, 50 + len(seqs))) and table["first_seq"] > seqs[-1]


def test_the_command_asks_for_a_passphrase_that_is_no_argument(tmp_path: Path, passphrase_file: Path) -> None:
    made(tmp_path)
    path, output = tmp_path / "home-1" / "agent.toml", tmp_path / "b"
    missing = run_agent_command("backup", path, "--output", str(output))
    assert missing.returncode == 1 and "--passphrase-file" in missing.stderr
    passphrase_file.chmod(0o644)
    arguments = ("--output", str(output), "--passphrase-file", str(passphrase_file))
    open_to_all = run_agent_command("backup", path, *arguments)
    assert open_to_all.returncode == 1 and "open to other users" in open_to_all.stderr and not output.exists()


class Card:
    """An agent of a feeder, in this process, on one card."""

    def __init__(self, path: Path) -> None:
        self.agent = Agent(config_of(path))
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self.agent.run(self._stop))

    async def reports(self, slots: range) -> None:
        close_slots(self.agent.store, slots)
        await self.agent._report()

    async def end(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            await self._running


@pytest.fixture
async def cards() -> AsyncIterator[list[Card]]:
    held: list[Card] = []
    yield held
    for card in held:
        await card.end()


class Arrivals(IngestEvents):
    def __init__(self) -> None:
        self.reports: list[FeederReport] = []

    def on_feeder(self, device: Device, report: FeederReport) -> None:
        self.reports.append(report)


@pytest.mark.slow
@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
@pytest.mark.parametrize("delivered", [True, False])
async def test_a_lost_card_is_restored_while_its_reports_are_at_the_hub(
    broker: Broker, hubs: Hubs, tmp_path: Path, cards: list[Card], delivered: bool
) -> None:
    """The backup has reports that wait. The old card delivers them and later ones before it is lost, or it is lost at once."""
    path = agent_toml(tmp_path, 9, broker.url, "feeder-1", w0=time.time(), role="feeder")
    config, heard = config_of(path), Arrivals()

    def hub() -> IngestService:
        settings = IngestSettings(MqttAddress.parse(broker.url), "hub-1", CHAIN_ID, OPERATOR_KEY)
        registry = Registry([Device("feeder-1", old.agent.key.address, 1, "feeder")])
        clock = VirtualClock(T0, time.time(), 1.0)
        return hubs.make(settings, registry, tmp_path / "i.sqlite", clock, heard, ())

    old = Card(path)
    cards.append(old)
    await old.reports(range(SLOT, SLOT + 4))
    first_hub = hub()
    await first_hub.start()
    await until(lambda: old.agent.store.totals().outbox_rows == 0)
    await first_hub.stop()
    await old.reports(range(SLOT + 4, SLOT + 7))
    archive = await asyncio.to_thread(archive_of, config)
    service = first_hub
    if delivered:
        service = hub()
        await service.start()
        await old.reports(range(SLOT + 7, SLOT + 9))  # numbers that the backup does not know of
        await until(lambda: old.agent.store.totals().outbox_rows == 0)
    last_seq = int(old.agent.store._rows("SELECT value FROM counters WHERE name = 'next_seq'")[0][0]) - 1
    await old.end()
    new_card(config)
    done = await asyncio.to_thread(restore, config, PASSPHRASE, io.BytesIO(archive))
    assert done.waiting == 3 and done.first_seq > last_seq + 400 * 96
    new = Card(path)
    cards.append(new)
    if not delivered:
        service = hub()
        await service.start()
    await until(lambda: new.agent.store.totals().outbox_rows == 0, 30)
    await new.reports(range(SLOT + 12, SLOT + 14))
    await until(lambda: new.agent.store.totals().outbox_rows == 0, 30)
    expected = [*range(SLOT, SLOT + (9 if delivered else 7)), SLOT + 12, SLOT + 13]
    assert sorted(report.slot for report in heard.reports) == expected  # 0 doubled, 0 lost
    seqs = [report.seq for report in heard.reports]
    assert len(set(seqs)) == len(seqs) and max(seqs) == done.first_seq + 1
    stats = service.stats()
    assert (stats.lost, stats.conflicts, new.agent.store.totals().lost) == (0, 0, 0)
    assert stats.duplicates_ignored >= (3 if delivered else 0)


def test_a_damaged_store_gives_what_can_be_read_of_it(tmp_path: Path) -> None:
    """Readings that cannot be read any more cost neither the reports that wait nor the past; numbers leap."""
    path = tmp_path / "store.sqlite"
    store = Store(path, first_seq=50)
    close_slots(store, range(SLOT, SLOT + 40))
    for slot in range(SLOT, SLOT + 5):
        store.report(slot, "slot", lambda seq, rows: b"report %d" % seq)
    with store._transaction() as db:
        rows = ((i, i, 5, i, i) for i in range(20_000))
        db.executemany("INSERT INTO readings VALUES (NULL, ?, ?, ?, ?, ?)", rows)
    root = store._rows("SELECT rootpage FROM sqlite_master WHERE name = 'readings'")[0][0]
    size = store._rows("PRAGMA page_size")[0][0]
    store._rows("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(bytes(content))
    again = Store(path)
    assert [(row.seq, row.payload) for row in again.pending(0, 9)] == [(seq, b"report %d" % seq) for seq in range(50, 55)]
    assert [row.slot for row in again.slots()] == list(range(SLOT, SLOT + 40)) and again.baseline() is None
    assert again.acknowledge(54) == 5
    close_slots(again, range(SLOT + 40, SLOT + 41))
    assert again.report(SLOT + 40, "slot", lambda seq, rows: b"") >= 50 + LEAP
    assert len(list(tmp_path.glob("store.sqlite.damaged-*"))) >= 1
    again.close()
    with pytest.raises(StoreError):
        again.totals()
