"""One page for the meters of a gateway: each tenant gets his own home, and nothing of another's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from page_kit import PATIENCE_S, SLOT, T0, PageProcess, meter_file

from edge_agent import cli, gateway
from edge_agent.page.access import MAX_SESSIONS
from edge_agent.page.codes import CodeFile
from edge_agent.page.served import MAX_METERS, many_meters
from edge_agent.slots import IMPORTED, Baseline, ClosedSlot
from edge_agent.store import RawReading, Store
from openmg.config import ConfigError

NAMES = ("home-1", "home-2")
POWER_W = {"home-1": 4321, "home-2": -8765}
IMPORT_WH = {"home-1": 111, "home-2": 777}
"""Of each slot: so no figure of one home is another's."""
PATHS = ("/", "/api/now", "/api/energy", "/api/forecast", "/api/cheapest", "/api/statements", "/energy.csv", "/part/power")
MARKS = {"home-1": (b"home-1", b"4321", b"4.32 kW", b"111"), "home-2": (b"home-2", b"8765", b"8.77 kW", b"777")}
"""What can be in one home's answers alone."""


def make_street(folder: Path) -> Path:
    """The folder of two homes' files; each has two days of its own energy, and a last reading."""
    for name in NAMES:
        (folder / name).mkdir()
        store = Store(folder / name / "store.sqlite", first_seq=1)
        slots = [ClosedSlot(slot, IMPORT_WH[name], 0, IMPORTED) for slot in range(SLOT - 192, SLOT)]
        store.import_slots(slots, Baseline(SLOT, 0, 0))
        store.add_readings([RawReading(round(time.time() * 1000), T0, POWER_W[name], 0, 0)], 1, 0)
        store.close()
        meter_file(folder, name)
    return folder / "meters.d"


@pytest.fixture
def street(tmp_path: Path) -> Path:
    return make_street(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[PageProcess]:
    """The page of such a street. Tests give it no wrong codes."""
    page = PageProcess(repo_root, make_street(tmp_path_factory.mktemp("street")))
    yield page
    page.stop()


def codes_of(page: PageProcess) -> CodeFile:
    return CodeFile(page.config.parent / "page")


def login(page: PageProcess, name: str) -> str:
    """A cookie for that meter's page."""
    answer = page.try_code(codes_of(page).issue(name, time.time()))
    assert answer.status == 303, answer.text
    return answer.cookie


def test_no_tenant_gets_anything_of_another(shared: PageProcess) -> None:
    """Whatever a request says, its session decides; every address is asked in every such way."""
    page = shared
    cookies = {name: login(page, name) for name in NAMES}
    for name, other in (NAMES, NAMES[::-1]):
        page.cookie = cookies[name]
        now = page.ask("/api/now").json
        assert now["power_w"] == POWER_W[name]
        assert {item["import_wh"] for item in page.ask("/api/energy").json["today"]} == {IMPORT_WH[name]}
        assert f"Meter {name} of microgrid 1" in page.ask("/?lang=en").text
        wanted = urlencode({"device": other, "meter": other, "name": other})
        headers = {"X_Device": other, "Device": other, "Referer": f"http://127.0.0.1/{other}"}
        for path in PATHS:
            named = page.ask(f"{path}?{wanted}", **headers)
            for answer in (page.ask(path), named, page.ask(path, Cookie=f"{cookies[name]}; device={other}")):
                assert answer.status == 200, path
                assert not [mark for mark in MARKS[other] if mark in answer.body], path
        for path in (f"/{other}", f"/{other}/api/now", f"/static/../../{other}/store.sqlite", f"/api/now/{other}"):
            assert page.ask(path).status == 404
    page.cookie = ""
    assert {page.ask(path).status for path in PATHS} == {303, 401}


def test_sessions_of_one_meter_end_none_of_another(shared: PageProcess) -> None:
    page, codes = shared, codes_of(shared)
    first = login(page, "home-1")
    second = [page.try_code(codes.issue("home-2", time.time())).cookie for _ in range(MAX_SESSIONS + 1)]
    page.cookie = second[0]
    assert page.ask("/api/now").status == 401, "the oldest of its own meter ended"
    page.cookie = second[1]
    assert page.ask("/logout", "POST").status == 303 and page.ask("/api/now").status == 401
    page.cookie = first
    assert page.ask("/api/now").json["power_w"] == POWER_W["home-1"]


def test_where_another_gave_a_wrong_code_is_not_shown(street: Path, start_page) -> None:
    page: PageProcess = start_page(street)
    cookie = login(page, "home-2")
    assert page.try_code("0000-0000-0000").status == 403
    page.cookie = cookie
    for lang in ("en", "ko"):
        text = page.ask(f"/?lang={lang}").text
        assert "127.0.0.1" not in text
    assert "1 wrong codes since" in page.ask("/?lang=en").text
    page.cookie = ""
    form = page.ask("/login?lang=en").text
    assert "whoever looks after the meters" in form and not any(name in form for name in NAMES)


def test_a_wrong_file_is_left_out_and_its_codes_open_nothing(street: Path, start_page) -> None:
    """And the other meter is served; so it is when a file names what another has."""
    text = (street / "home-2.toml").read_text(encoding="utf-8")
    (street / "home-2.toml").write_text(text.replace("[meter]", "[meter]\nunit = 999"), encoding="utf-8")
    text = text.replace('name = "home-2"', 'name = "home-1"').replace("mqtt://127.0.0.1:1", "mqtt://127.0.0.1:2")
    (street / "home-3.toml").write_text(text.replace("../home-2", "../home-3"), encoding="utf-8")
    page: PageProcess = start_page(street)
    assert "a Modbus unit is 1 to 247" in page.log.read_text() and "home-1 is that of" in page.log.read_text()
    assert "it shows 1 meters" in page.log.read_text()
    page.cookie = login(page, "home-1")
    assert page.try_code(codes_of(page).issue("home-2", time.time())).status == 403
    assert page.ask("/api/now").json["power_w"] == POWER_W["home-1"]


def test_one_forecast_at_a_time_is_made_for_all(street: Path, start_page) -> None:
    page: PageProcess = start_page(street)  # of which no forecast was asked yet
    cookies = [login(page, name) for name in NAMES]
    children = Path(f"/proc/{page.process.pid}/task/{page.process.pid}/children")
    done: list[dict] = []

    def ask(cookie: str) -> None:
        done.append(page.ask("/api/forecast", Cookie=cookie).json)

    threads = [threading.Thread(target=ask, args=(cookie,)) for cookie in cookies]
    for thread in threads:
        thread.start()
    most, deadline = 0, time.monotonic() + PATIENCE_S
    while any(thread.is_alive() for thread in threads):
        most = max(most, len(children.read_text().split()))
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert [answer["unknown"]["key"] for answer in done] == ["no_model"] * 2 and most == 1


def test_a_code_needs_a_name_where_there_are_several(street: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (([], "whose code?"), (["--device", "home-9"], "of a device home-9")):
        assert cli.main(["page", "code", "--config-dir", str(street), *arguments]) == 2
        told = capsys.readouterr()
        assert said in told.err and told.out == ""
    files = [part for name in NAMES for part in ("--config", str(street / f"{name}.toml"))]
    assert cli.main(["page", "code", *files, "--device", "home-2"]) == 0
    code, _, rest = capsys.readouterr().out.partition(" ")
    assert rest.strip() == "opens the page of home-2 once, within 10 minutes"
    assert CodeFile(street.parent / "page").take(code, time.time()) == "home-2"


def test_the_files_agree_about_the_page(street: Path) -> None:
    paths = sorted(street.iterdir())
    assert many_meters(paths).folder == street.parent / "page" and many_meters(paths[:1]).folder == street.parent / "page"
    meter_file(street.parent, "home-2", '[page]\nport = 9000\nfolder = "../elsewhere"\n')
    served = many_meters(paths)
    assert (served.section.port, served.folder.resolve(), served.shared) == (9000, street.parent / "elsewhere", True)
    meter_file(street.parent, "home-1", "[page]\nport = 9001\n")
    with pytest.raises(ConfigError, match="says otherwise than in .*home-1.toml"):
        many_meters(paths)
    meter_file(street.parent, "home-1")
    text = (street / "home-1.toml").read_text(encoding="utf-8")
    (street / "home-1.toml").write_text(text.replace('"../home-1"', '"../a/home-1"'), encoding="utf-8")
    assert len(many_meters(paths).meters) == 2, "with a folder of its own, state folders may lie anywhere"
    meter_file(street.parent, "home-2")
    with pytest.raises(ConfigError, match="beside each other"):
        many_meters(paths)


def test_a_state_folder_is_not_the_pages(street: Path) -> None:
    path = street / "home-1.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('"../home-1"', '"../page"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="none be called page"):
        many_meters(sorted(street.iterdir()))


def test_files_that_are_all_wrong_are_no_page_and_there_are_so_many(street: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in street.iterdir():
        path.write_text("[device]\n", encoding="utf-8")
    assert cli.main(["page", "--config-dir", str(street)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{street / 'home-1.toml'}:")
    assert gateway.MAX_AGENTS == MAX_METERS
    with pytest.raises(ConfigError, match="serves 1 to 500"):
        many_meters([Path(f"{number}.toml") for number in range(MAX_METERS + 1)])
