"""Where the page listens: what the configuration allows, and TLS with a certificate of its own."""

from __future__ import annotations

import hashlib
import json
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from page_kit import PageProcess, write_config

from edge_agent.config import AgentConfig
from edge_agent.page.certificate import CertificateFileError, fingerprint, tls_context
from edge_agent.page.served import one_meter
from edge_agent.page_section import PageSection
from openmg.config import load_toml


def run_page(repo_root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_agent", "page", *arguments]
    return subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.9", "::1"])
def test_loopback_needs_no_tls(listen: str) -> None:
    assert PageSection(listen=listen).plain_http is False


@pytest.mark.parametrize("listen", ["0.0.0.0", "192.0.2.4", "::", "fe80::1"])
def test_what_others_reach_needs_tls_or_the_owners_word(listen: str) -> None:
    with pytest.raises(ValueError, match="tls = true"):
        PageSection(listen=listen)
    assert PageSection(listen=listen, tls=True).listen == PageSection(listen=listen, plain_http=True).listen == listen


@pytest.mark.parametrize(
    "wrong",
    [
        {"listen": "localhost"},
        {"port": 65_536},
        {"port": -1},
        {"tls": True, "certificate_file": Path("a")},
        {"certificate_file": Path("a"), "key_file": Path("b")},
        {"names": ("Upper.Case",)},
        {"names": ("host:8480",)},
        {"names": tuple(f"n{number}" for number in range(9))},
        {"session_hours": 0},
        {"session_hours": 721},
    ],
)
def test_a_section_that_cannot_be_meant_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        PageSection(**wrong)


def test_the_command_line_cannot_go_round_the_rule(tmp_path: Path, repo_root: Path) -> None:
    result = run_page(repo_root, "--config", str(write_config(tmp_path)), "--listen", "0.0.0.0")
    assert result.returncode == 2 and "which others reach" in result.stderr and result.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path, repo_root: Path, full_page: PageProcess) -> None:
    port = str(urlsplit(full_page.url).port)
    result = run_page(repo_root, "--config", str(write_config(tmp_path)), "--port", port)
    assert result.returncode == 1 and f"cannot listen on 127.0.0.1 port {port}" in result.stderr


def test_tls_with_its_own_certificate(tmp_path: Path, start_page, repo_root: Path) -> None:
    config = write_config(tmp_path, '[page]\ntls = true\nnames = ["meter.home"]\n')
    with pytest.raises(CertificateFileError, match="start the page with tls = true"):
        fingerprint(tmp_path / "state/page/page.crt")
    page: PageProcess = start_page(config)
    certificate, key = tmp_path / "state/page/page.crt", tmp_path / "state/page/page.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and "PRIVATE KEY" not in certificate.read_text()

    trusting = ssl.create_default_context(cafile=str(certificate))
    place = urlsplit(page.url)
    assert place.scheme == "https" and page.ask("/healthz", context=trusting).json == {"status": "ok"}
    with pytest.raises(ssl.SSLCertVerificationError):
        page.ask("/healthz", context=ssl.create_default_context())
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((place.hostname, place.port)))
    shown = json.loads(run_page(repo_root, "fingerprint", "--config", str(config), "--json").stdout)["sha256"]
    assert shown.replace(":", "").lower() == hashlib.sha256(der).hexdigest() and shown in page.log.read_text()

    form = {"Content_Type": "application/x-www-form-urlencoded", "Origin": page.url.rstrip("/")}
    answer = page.ask("/login", "POST", f"code={page.code()}", context=trusting, **form)
    assert answer.status == 303 and "; Secure" in answer.headers["set-cookie"]
    before = certificate.read_bytes(), key.read_bytes()
    assert tls_context(one_meter(load_toml(config, AgentConfig))) is not None
    assert (certificate.read_bytes(), key.read_bytes()) == before, "the next start takes the same"


def test_a_certificate_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    section = '[page]\ntls = true\ncertificate_file = "x.pem"\nkey_file = "x.pem"\n'
    with pytest.raises(CertificateFileError, match="cannot be used"):
        tls_context(one_meter(load_toml(write_config(tmp_path, section), AgentConfig)))
