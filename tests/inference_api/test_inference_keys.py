"""API keys from the shell, and what their calls cost: shown once, kept as a digest, refused when revoked, charged in wei."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.cli import main
from hub.inference import keys as keys_module
from hub.inference import ledger as ledger_module
from hub.inference.api.gate import Gate, Refusal, bearer, network
from hub.inference.keys import MAX_FEE_WEI, KeyRefused, KeyStore
from hub.inference.ledger import Ledger

DAY_S = 86_400


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyStore]:
    store = KeyStore(tmp_path / "api-keys.sqlite")
    yield store
    store.close()


def test_a_key_opens_until_it_is_revoked_and_nothing_else_does(keys: KeyStore):
    key, text = keys.create("utility", 5, 100, 3, 1_000)
    other, _ = keys.create("other", 5, 100, 3, 1_000)
    assert keys.find(text) == key and key != other
    secret = text.rpartition("_")[2] if "_" not in text[13:] else text[13:]
    for wrong in ("", "omg_", text[:-1], text + "A", text[:-1] + ("A" if text[-1] != "A" else "B"), "Bearer " + text):
        assert keys.find(wrong) is None
    assert keys.find(f"omg_{other.id}_{secret}") is None  # another key's id
    assert keys.find(f"omg_00000000_{secret}") is None
    revoked = keys.revoke("utility", 2_000)
    assert revoked.revoked_s == 2_000 and keys.find(text) is None
    assert keys.revoke("utility", 3_000).revoked_s == 2_000  # the first time counts
    assert [item.name for item in keys.list()] == ["other", "utility"]


def test_the_file_is_its_owners_and_holds_no_secret(keys: KeyStore, tmp_path: Path):
    _, text = keys.create("utility", 5, 100, 3, 1_000)
    secret = text[len("omg_01234567_") :]
    path = tmp_path / "api-keys.sqlite"
    for file in (path, Path(f"{path}-wal")):
        assert file.stat().st_mode & 0o777 == 0o600
        assert secret.encode() not in file.read_bytes()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT digest FROM keys").fetchone()[0] == hashlib.sha256(secret.encode()).digest()
    db.close()


def test_secrets_are_compared_in_constant_time_also_for_ids_that_do_not_exist(keys, monkeypatch: pytest.MonkeyPatch):
    compared = []
    real = keys_module.hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return bool(real(a, b))

    monkeypatch.setattr(keys_module.hmac, "compare_digest", compare)
    _, text = keys.create("utility", 5, 100, 3, 1_000)
    for tried in (text, "omg_00000000_" + "A" * 43, "nonsense", ""):
        keys.find(tried)
    assert compared == [(32, 32)] * 4


@pytest.mark.parametrize(
    ("name", "per_minute", "daily", "fee_wei"),
    [("", 1, 1, 0), ("a\nb", 1, 1, 0), ("x" * 65, 1, 1, 0), ("a", 0, 1, 0), ("a", 1, 0, 0), ("a", 1, 1, -1),
     ("a", 1, 1, MAX_FEE_WEI + 1), ("a", 60_001, 1, 0), ("a", 1, 10_000_001, 0)],
)  # fmt: skip
def test_impossible_keys_are_refused(keys: KeyStore, name: str, per_minute: int, daily: int, fee_wei: int):
    with pytest.raises(KeyRefused):
        keys.create(name, per_minute, daily, fee_wei, 1)
    assert keys.list() == []


def test_names_are_used_once_and_keys_are_bounded(keys: KeyStore, monkeypatch: pytest.MonkeyPatch):
    keys.create("a", 1, 1, 0, 1)
    with pytest.raises(KeyRefused, match="named 'a' exists"):
        keys.create("a", 1, 1, 0, 1)
    monkeypatch.setattr(keys_module, "MAX_KEYS", 1)
    with pytest.raises(KeyRefused, match="1 keys exist"):
        keys.create("b", 1, 1, 0, 1)
    with pytest.raises(KeyRefused, match="no key is named 'c'"):
        keys.revoke("c", 1)


# Calls and fees


def test_a_days_allowance_ends_and_begins_again(keys: KeyStore):
    key, _ = keys.create("a", 100, 2, 5, 0)
    ledger = Ledger(keys)
    assert [ledger.admit(key, "demand", 10), ledger.admit(key, "price", 11), ledger.admit(key, "demand", 12)] == [
        True,
        True,
        False,
    ]
    assert ledger.calls_on(key, 0) == 2
    assert ledger.admit(key, "demand", DAY_S) and ledger.calls_on(key, 1) == 1


def test_fees_are_calls_times_fee_exactly_and_only_for_charged_calls(keys: KeyStore):
    fee_wei = 123_456_789_012_345_678
    key, _ = keys.create("a", 100, 1_000, fee_wei, 0)
    other, _ = keys.create("b", 100, 1_000, 1, 0)
    ledger = Ledger(keys)
    for _ in range(100):
        assert ledger.admit(key, "demand", 5)
    for _ in range(99):
        ledger.charge(key, "demand", 5)
    ledger.admit(key, "usage", 5)
    ledger.admit(other, "demand", 5)
    ledger.charge(other, "demand", 5)
    lines = ledger.lines(0, 0, key.id)
    assert [(line.endpoint, line.calls, line.charged, line.fee_wei) for line in lines] == [
        ("demand", 100, 99, 99 * fee_wei),
        ("usage", 1, 0, 0),
    ]
    assert 99 * fee_wei > 2**63  # beyond a database's integers, so it is multiplied here
    assert sum(line.fee_wei for line in ledger.lines(0, 0)) == 99 * fee_wei + 1
    assert ledger.lines(1, 9) == []


def test_what_was_not_admitted_cannot_be_charged(keys: KeyStore):
    key, _ = keys.create("a", 100, 10, 5, 0)
    ledger = Ledger(keys)
    ledger.charge(key, "demand", 5)
    ledger.admit(key, "demand", 5)
    for _ in range(3):
        ledger.charge(key, "demand", 5)
    assert [(line.calls, line.charged) for line in ledger.lines(0, 0)] == [(1, 1)]


def test_old_days_go(keys: KeyStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ledger_module, "KEEP_DAYS", 2)
    key, _ = keys.create("a", 100, 10, 5, 0)
    ledger = Ledger(keys)
    for day in range(5):
        ledger.admit(key, "demand", day * DAY_S)
    assert [line.day for line in ledger.lines(0, 9)] == [2, 3, 4]


# The gate, with a clock of its own


def test_a_key_waits_as_long_as_it_is_told(keys: KeyStore):
    now = [1_000.0]
    gate = Gate(keys, Ledger(keys), lambda: now[0])
    _, text = keys.create("a", 2, 100, 0, 0)
    header = f"Bearer {text}"
    assert gate.admit(header, "::1", "demand")[0].name == "a"
    gate.admit(header, "::1", "demand")
    with pytest.raises(Refusal) as refused:
        gate.admit(header, "::1", "demand")
    assert (refused.value.status, refused.value.retry_after_s) == (429, 30)
    now[0] += 29
    with pytest.raises(Refusal):
        gate.admit(header, "::1", "demand")
    now[0] += 1
    assert gate.admit(header, "::1", "demand")[1] == 1_030


def test_refused_calls_do_not_count_against_the_day(keys: KeyStore):
    ledger = Ledger(keys)
    gate = Gate(keys, ledger, lambda: 1_000.0)
    key, text = keys.create("a", 1, 100, 0, 0)
    gate.admit(f"Bearer {text}", "::1", "demand")
    for _ in range(3):
        with pytest.raises(Refusal):
            gate.admit(f"Bearer {text}", "::1", "demand")
    assert ledger.calls_on(key, 0) == 1


def test_strangers_use_up_their_own_address_and_not_a_neighbours_key(keys: KeyStore):
    gate = Gate(keys, Ledger(keys), lambda: 1_000.0)
    _, text = keys.create("a", 50, 100, 0, 0)
    statuses = []
    for _ in range(25):
        with pytest.raises(Refusal) as refused:
            gate.admit("Bearer omg_guess", "10.0.0.1", "demand")
        statuses.append(refused.value.status)
    assert statuses == [401] * 20 + [429] * 5
    assert gate.admit(f"Bearer {text}", "10.0.0.1", "demand")  # the same address, with a key
    with pytest.raises(Refusal) as refused:
        gate.admit(None, "10.0.0.2", "demand")
    assert refused.value.status == 401


def test_addresses_of_one_ipv6_network_are_one_caller():
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("10.0.0.1") == "10.0.0.1" and network("::ffff:10.0.0.1") != network("::ffff:10.0.0.2")
    assert network("") == network("nonsense") == "unknown"


def test_only_a_bearer_header_carries_a_key():
    assert bearer("Bearer abc") == bearer("bearer  abc") == "abc"
    assert bearer(None) == bearer("Basic abc") == bearer("abc") == ""
    assert len(bearer("Bearer " + "x" * 10_000)) < 256


# From the shell


def test_the_life_of_a_key_from_the_shell(hub_toml: Callable[..., Path], tmp_path: Path, capsys):
    config = str(hub_toml())
    limits = ["--requests-per-minute", "5", "--daily", "9", "--fee-wei-per-call", "12"]
    assert main(["api-key", "create", "--config", config, "--name", "utility", *limits]) == 0
    shown = capsys.readouterr().out
    text = shown.rpartition("key, shown this once: ")[2].strip()
    store = KeyStore(tmp_path / "state" / "api-keys.sqlite")
    key = store.find(text)
    assert key is not None and (key.per_minute, key.daily, key.fee_wei) == (5, 9, 12)
    Ledger(store).admit(key, "demand", 40 * DAY_S)
    Ledger(store).charge(key, "demand", 40 * DAY_S)
    store.close()

    assert main(["api-key", "list", "--config", config, "--json"]) == 0
    listed = capsys.readouterr().out
    assert json.loads(listed)[0]["name"] == "utility" and text[13:] not in listed
    span = ["--from", "1970-02-01", "--to", "1970-02-28"]
    assert main(["api-key", "usage", "--config", config, "--json", *span]) == 0
    (invoice,) = json.loads(capsys.readouterr().out)
    assert invoice["fees_wei"] == "12" and invoice["lines"] == [
        {"day": "1970-02-10", "endpoint": "demand", "calls": 1, "charged": 1, "fee_wei_per_call": "12", "fee_wei": "12"}
    ]
    assert main(["api-key", "usage", "--config", config, "--name", "utility", *span]) == 0
    assert "day 1970-02-10" in capsys.readouterr().out
    assert main(["api-key", "revoke", "--config", config, "--name", "utility"]) == 0
    capsys.readouterr()
    store = KeyStore(tmp_path / "state" / "api-keys.sqlite")
    assert store.find(text) is None
    store.close()
    for wrong in (["revoke", "--name", "nobody"], ["usage", "--name", "nobody"], ["create", "--name", "utility"]):
        assert main(["api-key", *wrong, "--config", config]) == 1
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
