"""The services in a fresh Debian 12 that really boots: sandbox, readiness, watchdog, stop, credentials, by systemd itself.

Slow: `make test-deb`.
"""

from __future__ import annotations

import asyncio
import http.cookiejar
import json
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from booted_root import Booted
from edge_kit import agent_toml, wait_for
from enrol_kit import Meter, Operator, TlsBroker, place_of, tls_agent_toml
from fresh_root import base_image, built, need_tools, unpack

from hub.devices.server import EnrolmentServer
from openmg.enrolment.certificates import SECONDS_PER_DAY
from openmg.mqtt_tls import TlsFiles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STATE = "/var/lib/openmg-agent"
CONFIG = "/etc/openmg-agent/agent.toml"
PAGE = "openmg-agent-page"
SEALED_BYTES = 85
"""Of a key file (docs/KEYS.md)."""
IN_SANDBOX = (
    "import coincurve, gmpy2, openmg_native, pathlib, openmg.forecast as f; from tflite_runtime.interpreter import Interpreter;"
    "a = next(pathlib.Path(f.__file__).parent.glob('assets/*.tflite')); i = Interpreter(str(a)); i.allocate_tensors();"
    "print('loaded', len(i.get_signature_list()))"
)
"""The libraries with machine code of their own: none may need memory that is writable and executable."""


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """One machine for all tests of this file; each writes the configuration that it needs."""
    need_tools("systemd-nspawn", "nsenter")
    repo_root = Path(__file__).resolve().parents[2]
    root = unpack(base_image("amd64", repo_root / "dist/roots"), tmp_path_factory.mktemp("booted") / "root")
    root.install(root.bring(built(repo_root, "amd64")), "systemd", "systemd-sysv", "dbus")
    (root.path / "etc/machine-id").write_text("")
    machine = Booted(root)
    yield machine
    machine.end()
    shutil.rmtree(root.path)


def configure(booted: Booted, text: str) -> None:
    """Puts an agent's file, whose paths are those of a test, where the services look for it."""
    text = text.replace('"keys/device.key"', f'"{STATE}/keys/device.key"').replace('"state"', f'"{STATE}"')
    (booted.root.path / CONFIG.lstrip("/")).write_text(text.replace('role = "home"', 'role = "feeder"'), encoding="utf-8")
    booted.must("chgrp", "openmg-agent", CONFIG)
    booted.must("chmod", "640", CONFIG)


def test_the_service_starts_is_watched_and_stops(booted: Booted, tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Neither meter nor broker is there: the service is ready all the same, and stays."""
    assert booted.shows("ActiveState") == "inactive", "an installation must not start it"
    configure(booted, agent_toml(tmp_path, free_port(), f"mqtt://127.0.0.1:{free_port()}").read_text(encoding="utf-8"))
    booted.must("systemctl", "enable", "--now", "openmg-agent")
    assert booted.shows("ActiveState") == "active" and booted.shows("StatusText").startswith("poll ")
    time.sleep(45)  # longer than the watchdog's 30 s
    assert booted.shows("NRestarts") == "0"
    keys = booted.must("stat", "-c", "%U %a", f"{STATE}/keys/device.key", f"{STATE}/store.sqlite").split("\n")
    assert keys[:2] == ["openmg-agent 600", "openmg-agent 600"]

    booted.must("systemctl", "kill", "--signal=STOP", "openmg-agent")
    wait_for(lambda: booted.shows("NRestarts") == "1" and booted.shows("ActiveState") == "active", 120)
    journal = booted.journal("openmg-agent")
    assert "Failed with result 'watchdog'" in journal and "in run_forever" in journal  # where it stood

    program = ("/opt/openmg-agent/bin/python3", "-I", "-c", IN_SANDBOX)
    assert "loaded 3" in booted.must("systemd-run", "--wait", "--pipe", *booted.sandbox("openmg-agent"), *program)

    booted.must("systemctl", "disable", "--now", "openmg-agent")
    assert booted.shows("Result") == "success"
    assert booted.run("openmg-agent", "doctor", "--config", CONFIG).returncode == 1  # no meter, no broker
    assert booted.must("find", STATE, "!", "-user", "openmg-agent") == "", "what root's command made belongs to root"


def test_the_page_is_served_and_kept_from_the_keys(booted: Booted, tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Beside an agent that runs; the page's own folder is all it may write, and the keys are not there for it."""
    port = free_port()
    text = agent_toml(tmp_path, free_port(), f"mqtt://127.0.0.1:{free_port()}").read_text(encoding="utf-8")
    configure(booted, f"{text}\n[page]\nport = {port}\n")
    booted.must("systemctl", "start", "openmg-agent")
    booted.must("systemctl", "enable", "--now", PAGE)
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    wait_for(lambda: _answers(browser, port), 60)
    code = json.loads(booted.must("openmg-agent", "page", "code", "--config", CONFIG, "--json"))["code"]
    login = urllib.parse.urlencode({"code": code}).encode()
    browser.open(f"http://127.0.0.1:{port}/login", login, timeout=30).close()
    for name in ("now", "energy", "forecast", "cheapest", "statements"):
        with browser.open(f"http://127.0.0.1:{port}/api/{name}", timeout=60) as answer:
            assert answer.status == 200 and json.load(answer), name

    inside = ("nsenter", "-t", booted.shows("MainPID", PAGE), "-m")
    assert "store.sqlite" in booted.must(*inside, "ls", STATE)
    assert booted.run(*inside, "cat", f"{STATE}/keys/device.key").returncode != 0
    assert booted.must("stat", "-c", "%s", f"{STATE}/keys/device.key") != "0\n"  # for the agent it is there
    assert "Read-only file system" in booted.run(*inside, "touch", f"{STATE}/store.sqlite").stderr
    booted.must(*inside, "touch", f"{STATE}/page/codes.lock")
    program = ("/opt/openmg-agent/bin/python3", "-I", "-c", IN_SANDBOX)
    assert "loaded 3" in booted.must("systemd-run", "--wait", "--pipe", *booted.sandbox(PAGE), *program)

    booted.must("systemctl", "disable", "--now", PAGE)
    assert booted.shows("Result", PAGE) == "success" and booted.shows("ActiveState") == "active"
    booted.must("systemctl", "stop", "openmg-agent")
    assert booted.must("find", STATE, "!", "-user", "openmg-agent") == ""


def _answers(browser: urllib.request.OpenerDirector, port: int) -> bool:
    try:
        browser.open(f"http://127.0.0.1:{port}/", timeout=10).close()
    except OSError:
        return False
    return True


def test_a_passphrase_is_handed_over_by_systemd(
    booted: Booted, repo_root: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """As docs/INSTALL_METER.md says it: the key that the service makes is sealed, and opens at the next start."""
    document = (repo_root / "docs/INSTALL_METER.md").read_text(encoding="utf-8")
    configure(booted, agent_toml(tmp_path, free_port(), f"mqtt://127.0.0.1:{free_port()}").read_text(encoding="utf-8"))
    booted.must("rm", "-rf", f"{STATE}/keys")
    booted.must("sh", "-c", _said(document, "sudo (install .+credstore)\n"))
    typed = _said(document, r"sudo sh -c '(umask 077; cat > \S+)'")
    booted.must("sh", "-c", f"echo long enough to keep | sh -c '{typed}'")
    assert booted.must("stat", "-c", "%U %a", _said(typed, r"> (\S+)")) == "root 600\n"
    for _ in ("made", "opened"):
        booted.must("systemctl", "start", "openmg-agent")
        assert booted.must("stat", "-c", "%s", f"{STATE}/keys/device.key") == f"{SEALED_BYTES}\n"
        booted.must("systemctl", "stop", "openmg-agent")
    booted.must("rm", _said(typed, r"> (\S+)"))
    failed = booted.run("systemctl", "start", "openmg-agent")
    assert failed.returncode != 0 and "is sealed and nothing gives its passphrase" in booted.journal("openmg-agent")
    booted.must("systemctl", "stop", "openmg-agent")
    booted.must("rm", "-r", f"{STATE}/keys")


async def test_the_tls_key_may_be_a_credential(
    booted: Booted, repo_root: Path, tmp_path: Path, operator: Operator, server: EnrolmentServer, tls_broker: TlsBroker
) -> None:
    """As docs/ENROLMENT.md says it. The agent connects with it and renews its certificate, which is near its end."""
    says = re.sub(r" {2,}", " ", (repo_root / "docs/ENROLMENT.md").read_text(encoding="utf-8"))
    meter = Meter(tmp_path, "home-1", 1)
    operator.clock.offset_s = -70 * SECONDS_PER_DAY
    await meter.enrol(place_of(server), operator)
    operator.clock.offset_s = 0.0
    tls_broker.reload()
    state = booted.root.path / STATE.lstrip("/")
    for file in (meter.files.ca, meter.files.certificate, meter.files.key):
        shutil.copy(file, state)
        booted.must("chown", "openmg-agent:", f"{STATE}/{file.name}")
    booted.must("install", "-d", "-o", "openmg-agent", "-m", "700", f"{STATE}/keys")
    (state / "keys/device.key").write_bytes(meter.key.root)
    booted.must("chown", "openmg-agent:", f"{STATE}/keys/device.key")
    booted.must("chmod", "600", f"{STATE}/keys/device.key")
    old = (state / "tls.crt").read_bytes()
    meter.files = TlsFiles(Path(STATE, "ca.crt"), Path(STATE, "tls.crt"), Path(_said(says, r'key_file = "([^"]+)"; then')))
    configure(booted, tls_agent_toml(tmp_path / "agents", 1, tls_broker, meter, place_of(server)).read_text(encoding="utf-8"))

    booted.must("sh", "-c", _said(says, "sudo (install .+credstore.encrypted)\n"))
    booted.must("sh", "-c", _said(says, "sudo (systemd-creds encrypt .+)\n"))
    drop_in = booted.root.path / "etc/systemd/system/openmg-agent.service.d/override.conf"
    drop_in.parent.mkdir(exist_ok=True)
    setting = _said(says, r"# \[Service\] (LoadCredentialEncrypted=\S+)")
    drop_in.write_text(f"[Service]\n{setting}\n", encoding="utf-8")
    booted.must("rm", _said(says, r"then remove (\S+)"))
    booted.must("systemctl", "daemon-reload")
    await asyncio.to_thread(booted.must, "systemctl", "start", "openmg-agent")

    def connected() -> bool:
        # `running` cannot be told here: systemd-nspawn shows another boot id to services with a /proc of their own.
        told = json.loads(booted.run("openmg-agent", "status", "--config", CONFIG, "--json").stdout or "{}")
        return bool((told.get("agent") or {}).get("broker", {}).get("connected"))

    await asyncio.to_thread(wait_for, connected, 120)
    await asyncio.to_thread(wait_for, lambda: (state / "tls.crt").read_bytes() != old, 60)
    assert not (state / "tls.key").exists(), "the agent wrote the key in clear"
    told = booted.run("openmg-agent", "doctor", "--config", CONFIG, "--json")
    findings = {item["check"]: item for item in json.loads(told.stdout)}
    assert findings["certificate"]["ok"] and findings["broker"]["ok"], findings
    booted.must("systemctl", "stop", "openmg-agent")


def _said(document: str, pattern: str) -> str:
    """The words of the document that fit."""
    found = re.search(pattern, document)
    assert found, f"the document does not say {pattern}"
    return found[1]
