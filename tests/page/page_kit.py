"""A home's files, made by the agent's own code, and the page's process over them."""

from __future__ import annotations

import http.client
import json
import math
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from edge_agent.learning.models import ModelAnswerers
from edge_agent.market.journal import Kind, MarketJournal, Order
from edge_agent.page.codes import CodeFile
from edge_agent.slots import IMPORTED, RESET, Baseline, ClosedSlot
from edge_agent.store import RawReading, Store
from edge_agent.wallet.note_store import Leaf, NoteStore, OpenNote, OwnNote
from edge_agent.wallet.prices import Price, PriceRecord
from openmg.clock import slot_of
from openmg.forecast.model import initial_master, master_bytes
from openmg.forecast.spec import NET_ENERGY
from openmg.forecast.trainer import get_trainer
from openmg.identity import DeviceKey
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash
from openmg.market.calendar import BANDS, Calendar
from openmg.messages.learning import PHASE_COMMIT, ModelNotice
from openmg.units import SLOT_SECONDS, SLOTS_PER_DAY, WEI_PER_ETH
from openmg.zk.assets import PETH, energy_asset
from openmg.zk.assets import Kind as Asset

PATIENCE_S = 120
"""So long a busy machine may take for a forecast."""
T0 = 1_781_490_600
"""Simulated: 2026-06-15 11:30 in Seoul."""
DAYS = 42
SLOT = slot_of(T0)
FLOOR, CAP = 60 * 10**15, 200 * 10**15
"""Wei per kWh."""
CALENDAR = Calendar(36, 28, bytes(24))
DAY = CALENDAR.day_of(SLOT)
TRADED_DAYS = 13
"""Of the tests' home: two billing periods have some of them."""
TRADED_STEP = 8
"""Each so many slots one is in the market's journal: each costs three commits."""
GAP_SLOTS = range(SLOT - 10 * SLOTS_PER_DAY, SLOT - 10 * SLOTS_PER_DAY + 8)
"""Two hours, ten days ago, in which the meter was away for good."""


def write_config(
    folder: Path, page: str = "", market: bool = False, wallet: bool = False, name: str = "home-1", file: str = "agent.toml"
) -> Path:
    """The agent's file; simulated time goes on from T0."""
    path = folder / file
    text = f"""[device]
name = "{name}"
key_file = "keys/device.key"
state_dir = "state"
[clock]
t0 = {T0}
w0 = {time.time()}
[meter]
host = "127.0.0.1"
[mqtt]
url = "mqtt://127.0.0.1:1"
[hub]
operator = "0x{"11" * 20}"
chain_id = 7
[home]
microgrid = 1
[slot_proof]
demo = true
"""
    if wallet or market:
        text += '[wallet]\nseed_file = "keys/owner.seed"\ndemo = true\n'
    if market:
        text += "[market]\nutc_offset_slots = 36\n"
    path.write_text(text + page, encoding="utf-8")
    return path


def meter_file(folder: Path, name: str, page: str = "") -> Path:
    """A file of a gateway, in folder/meters.d; the state folders lie beside each other in the folder. name: home-NUMBER."""
    (folder / "meters.d").mkdir(exist_ok=True)
    path = write_config(folder / "meters.d", page, name=name, file=f"{name}.toml")
    text = path.read_text(encoding="utf-8")
    text = text.replace('"state"', f'"../{name}"').replace('"keys/', f'"../{name}/keys/')
    path.write_text(text.replace('host = "127.0.0.1"', f'host = "10.0.0.{name.removeprefix("home-")}"'), encoding="utf-8")
    return path


def energies(slot: int) -> tuple[int, int]:
    """Import and export of a slot: a morning, an evening, and panels at noon; not twice the same day."""
    hour = (slot + 36) % SLOTS_PER_DAY / 4
    day = (slot + 36) // SLOTS_PER_DAY
    sun = max(0.0, math.sin((hour - 6) / 12 * math.pi)) * 900 * (0.6 + 0.4 * math.sin(day * 1.7))
    load = 60 + 180 * math.exp(-((hour - 8) ** 2) / 3) + 320 * math.exp(-((hour - 20) ** 2) / 5) + 25 * ((slot * 7919) % 5)
    net = round(load - sun)
    return max(0, net), max(0, -net)


def fill_store(folder: Path, days: int = DAYS, wall: float | None = None) -> Store:
    """Slots of the past up to the present one, and the last reading. The caller closes it."""
    store = Store(folder / "store.sqlite", first_seq=1)
    slots = [slot for slot in range(SLOT - days * SLOTS_PER_DAY, SLOT) if slot not in GAP_SLOTS]
    store.import_slots([ClosedSlot(slot, *energies(slot), IMPORTED) for slot in slots], Baseline(SLOT, 10**6, 10**6))
    wall_ms = round((time.time() if wall is None else wall) * 1000)
    store.add_readings([RawReading(wall_ms, T0, -1234, 10**6, 10**6)], 1, 0)
    return store


def plan() -> LearningPlan:
    """Trains on four weeks and judges on the week after, all of it before yesterday; the London homes' shape of plan."""
    return LearningPlan(evaluation_start_hour=T0 // 3600 - 9 * 24)


def keep_model(folder: Path, store: Store, round_number: int = 3) -> ModelNotice:
    """The agent hears of a model; what it keeps is its own doing."""
    agreed = plan()
    master = initial_master(agreed.spec, agreed.seed)
    name = model_hash(agreed.spec, master)
    head = agreed.spec.short_name, round_number, PHASE_COMMIT, 12, 18
    notice = ModelNotice(*head, name, master_bytes(master), (), b"", b"", agreed.encode())
    answerers = ModelAnswerers(DeviceKey(b"\x05" * 32), 7, store, folder, bytes, get_trainer(NET_ENERGY, "numpy"))
    assert answerers.answer(notice) is not None
    return notice


def keep_prices(folder: Path, last: int = SLOT) -> None:
    """Two weeks of prices: cheap at noon. Of the hours from 22 to midnight none was ever heard."""
    record = PriceRecord(folder / "wallet.sqlite")
    for slot in range(last - 14 * SLOTS_PER_DAY, last + 1):
        hour = (slot + 36) % SLOTS_PER_DAY // 4
        price = None if hour >= 22 else CAP - (CAP - FLOOR) * (9 - min(9, abs(13 - hour))) // 10
        record.hear(Price(slot, price, FLOOR, CAP))
    record.close()


@dataclass
class Wallet:
    """The wallet's journals, written as its services write them; notes are numbered by themselves."""

    path: Path
    position: int = 0

    def __post_init__(self) -> None:
        self.notes, self.journal = NoteStore(self.path), MarketJournal(self.path)

    def note(self, asset: int, amount: int) -> OwnNote:
        """An own note, new in the tree."""
        own = self._own(asset, amount)
        self.notes.add_leaves([Leaf(own.position, 100 + own.position, own)])
        return own

    def outcome(self, purpose: str, asset: int, amount: int) -> None:
        """What the market made of an order."""
        own = self._own(asset, amount)
        partial = 10**9 + own.position
        self.notes.expect(partial, own.blinding, purpose)
        self.notes.add_leaves([Leaf(own.position, 100 + own.position, own, None, OpenNote(asset, amount, partial))])

    def _own(self, asset: int, amount: int) -> OwnNote:
        own = OwnNote(self.position, asset, amount, 2**250 + self.position, 10**6 + self.position)
        self.position += 1
        return own

    def order(self, order: Order, spent: OwnNote, change: int | None, done: bool = True) -> None:
        """An order whose payment spends one note and gives back `change`."""
        self.journal.place(order)
        leaf = None if change is None else 100 + self.position
        self.notes.begin(order.purpose, [spent], [100 + spent.position], leaf, 2**40)
        if change is not None and done:
            self.note(spent.asset, change)
        elif change is None and done:
            self.notes.add_nullifiers(spent.position, [spent.nullifier])

    def close(self) -> None:
        self.notes.close()
        self.journal.close()


def trade(folder: Path, days: int = 30) -> None:
    """A month of trade: each day a sale at noon, a purchase in the evening; burns lag behind by two days."""
    wallet = Wallet(folder / "wallet.sqlite")
    for day in range(DAY - days, DAY):
        first, key = CALENDAR.first_slot_of(day * BANDS), day * BANDS
        for slot in range(first, first + SLOTS_PER_DAY, TRADED_STEP):
            wallet.journal.add_slot(slot, *energies(slot))
            wallet.journal.mark_agreed(slot)
            wallet.journal.mark_minted(slot)
        sold = 40 + day % 7
        supply = energy_asset(Asset.SUPPLY, 1, day, 0)
        sale = Order(Kind.SELL, first + 52, key, sold)
        wallet.order(sale, wallet.note(supply, sold * 100 + 50), 50, done=True)
        if day < DAY - 1:
            wallet.outcome(sale.purpose, PETH, sold * 100 * FLOOR // 1000 * 2)
        bought = 10 + day % 5
        purchase = Order(Kind.BUY, first + 80, key, bought)
        wallet.order(purchase, wallet.note(PETH, WEI_PER_ETH), WEI_PER_ETH - bought * 100 * CAP // 1000, done=True)
        delivery = energy_asset(Asset.DELIVERY, 1, day, 0)
        wallet.outcome(purchase.purpose, delivery, bought * 80)
        wallet.outcome(purchase.purpose, PETH, bought * 100 * CAP // 1000 - bought * 80 * (FLOOR + CAP) // 2000)
        if day < DAY - 2:
            wallet.order(Order(Kind.BURN, first, key, bought * 80), wallet.note(delivery, bought * 80), None)
    wallet.close()


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def cookie(self) -> str:
        """NAME=VALUE of the cookie that was set."""
        return self.headers.get("set-cookie", "").partition(";")[0]


class PageProcess:
    """`openmg-agent page` over a configuration, or over a folder of them, on a free port."""

    def __init__(self, root: Path, config: Path, *arguments: str) -> None:
        self.root, self.config, self.log = root, config, config.with_name("page.log")
        self.files = ["--config-dir" if config.is_dir() else "--config", str(config)]
        command = [sys.executable, "-m", "edge_agent", "page", *self.files, "--port", "0", *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=root, stderr=log, stdout=log)
        deadline = time.monotonic() + 30
        while " page at " not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        self.url = self.log.read_text().split(" page at ")[1].split(";")[0]
        self.cookie = ""

    def code(self) -> str:
        """A login code, by the command."""
        command = [sys.executable, "-m", "edge_agent", "page", "code", *self.files, "--json"]
        result = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True, timeout=60)
        return str(json.loads(result.stdout)["code"])

    def ask(
        self, path: str, method: str = "GET", body: str = "", context: ssl.SSLContext | None = None, **headers: str
    ) -> Answer:
        """The answer to a request (`_asked`), asked for again while the forecast in it is being made."""
        until = time.monotonic() + PATIENCE_S
        while True:
            answer = self._asked(path, method, body, context, **headers)
            made = (
                "refresh" not in answer.headers
                and b'"key": "computing"' not in answer.body
                and b'"key":"computing"' not in answer.body
            )
            if made or time.monotonic() > until:
                return answer
            time.sleep(0.2)

    def _asked(self, path: str, method: str, body: str, context: ssl.SSLContext | None, **headers: str) -> Answer:
        """One request with the session's cookie, if there is one; names of headers with _ for -."""
        place = urlsplit(self.url)
        made = http.client.HTTPSConnection(place.netloc, timeout=30, context=context) if context else None
        connection = made or http.client.HTTPConnection(place.netloc, timeout=30)
        sent = {"Cookie": self.cookie} if self.cookie else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body=body or None, headers=sent)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def try_code(self, code: str, **headers: str) -> Answer:
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        return self.ask("/login", "POST", urlencode({"code": code}), **(form | headers))

    def login(self) -> None:
        answer = self.try_code(CodeFile(self.config.parent / "state/page").issue("home-1", time.time()))
        assert answer.status == 303, answer.text
        self.cookie = answer.cookie

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


def reset_slot(slot: int) -> ClosedSlot:
    return ClosedSlot(slot, 0, 0, RESET | IMPORTED)


def later(reading: RawReading, seconds: int) -> RawReading:
    return replace(reading, wall_ms=reading.wall_ms + 1000 * seconds, sim_time=reading.sim_time + seconds)


__all__ = ["SLOT_SECONDS", "PageProcess", "Wallet"]
