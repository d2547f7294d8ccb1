"""Development keys: the same bytes everywhere, cached safely, refused for value; key files that are damaged."""

import errno
import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from openmg.zk import keys
from openmg.zk.backend import BackendError, get_backend
from openmg.zk.circuits import commit, period, transfer
from openmg.zk.circuits.registry import CIRCUITS, circuit_named
from openmg.zk.keys import KeysError, ensure_keys, key_path, make_development_key
from openmg.zk.proving_key import HEADER, KeyFileError, ProvingKeyFile
from openmg.zk.r1cs import system_bytes

CIRCUIT = CIRCUITS[transfer.NAME]
MADE_ALWAYS = {commit.NAME, period.NAME, transfer.NAME}
"""Of these the native backend makes the key in every run; the others take up to 10 s each."""


@pytest.mark.slow
def test_portable_keys_are_the_written_down_ones(portable, transfer_key):
    data = make_development_key(CIRCUIT, portable)
    assert hashlib.sha256(data).digest() == transfer.DEVELOPMENT_KEY_SHA256
    assert data == transfer_key.path.read_bytes()


@pytest.mark.native
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in MADE_ALWAYS else pytest.mark.slow) for name in sorted(CIRCUITS)]
)
def test_native_keys_are_the_written_down_ones(native, name):
    data = make_development_key(CIRCUITS[name], native)
    assert hashlib.sha256(data).digest() == CIRCUITS[name].development_key_sha256


def test_the_cache_is_used(transfer_key, key_cache):
    again = ensure_keys(transfer.NAME, key_cache, progress=pytest.fail)
    assert again == replace(transfer_key, setup_seconds=0.0)
    assert transfer_key.path == key_path(CIRCUIT, key_cache) and transfer_key.verifying_key.n_public == 9


def test_a_damaged_cache_is_made_again(transfer_key, tmp_path, monkeypatch, caplog):
    data = transfer_key.path.read_bytes()
    made = []
    monkeypatch.setattr(keys, "make_development_key", lambda circuit, backend: made.append(backend.name) or data)
    path = key_path(CIRCUIT, tmp_path)
    path.parent.mkdir()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    said = []
    info = ensure_keys(transfer.NAME, tmp_path, get_backend("portable"), said.append)
    assert made == ["portable"] and path.read_bytes() == data and info.setup_seconds > 0
    assert "damaged" in caplog.text and said == ["making development keys of the transfer circuit (portable)"]
    assert os.listdir(path.parent) == [path.name]


def test_other_keys_than_the_written_down_ones_are_never_used(portable, monkeypatch):
    monkeypatch.setattr(keys.groth16, "setup", lambda *arguments: b"other bytes")
    with pytest.raises(KeysError, match="not the written-down ones"):
        make_development_key(CIRCUIT, portable)


def test_a_changed_circuit_needs_a_new_hash(portable):
    with pytest.raises(KeysError, match="hash must be renewed"):
        make_development_key(replace(CIRCUIT, circuit_hash=bytes(32)), portable)


def test_an_unwritable_cache_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "make_development_key", lambda circuit, backend: b"")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(KeysError, match="set OPENMG_CACHE"):
        ensure_keys(transfer.NAME, blocked)


def test_default_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENMG_CACHE", str(tmp_path))
    assert keys.default_cache_dir() == tmp_path
    monkeypatch.delenv("OPENMG_CACHE")
    assert keys.default_cache_dir().parts[-2:] == (".cache", "openmg")


def test_unknown_circuit_and_backend():
    with pytest.raises(ValueError, match="known are append, .*, transfer"):
        circuit_named("teleport")
    with pytest.raises(BackendError, match="native, portable, auto"):
        get_backend("fast")


def test_command_line_ensures_keys(transfer_key, key_cache):
    command = [sys.executable, "-m", "openmg.zk.keys", "ensure", "--backend", "portable", "--cache-dir", str(key_cache)]
    command += ["--circuit", transfer.NAME]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"transfer: {transfer_key.path} (17 MiB, cached)\n"


# Key files


def test_the_file_holds_header_and_matrices(transfer_key, system):
    file = ProvingKeyFile(transfer_key.path)
    header = file.header
    assert header.circuit_hash == transfer.CIRCUIT_HASH
    assert (header.n_wires, header.n_public, header.domain_log2, header.n_constraints) == (13870, 9, 14, 13829)
    assert system_bytes(file.constraint_system()) == system_bytes(system)
    assert transfer_key.path.read_bytes().endswith(system_bytes(system))
    sizes = dict(header.sections())
    assert sizes["B2"] == 128 * 13870 and sizes["L"] == 64 * 13860 and sizes["H"] == 64 * 16383
    assert all(len(file.section(name)) == length for name, length in sizes.items())


def damaged(data, cut=None, **fields):
    values = list(HEADER.unpack(data[: HEADER.size]))
    for place, value in fields.items():
        values[int(place[1:])] = value
    return (HEADER.pack(*values) + data[HEADER.size :])[:cut]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (dict(_0=b"OMGPK\0\0\2"), "does not start as one"),
        (dict(cut=HEADER.size - 1), "does not start as one"),
        (dict(cut=HEADER.size + 5000), "cut off"),
        (dict(_2=1 << 22), "sizes are impossible"),
        (dict(_4=40), "sizes are impossible"),
        (dict(_4=13), "domain is too small"),
    ],
)
def test_damaged_files_are_refused(transfer_key, tmp_path, how, why):
    path = tmp_path / "damaged.pk"
    path.write_bytes(damaged(transfer_key.path.read_bytes(), **how))
    with pytest.raises(KeyFileError, match=why):
        ProvingKeyFile(path)


def test_damaged_matrices_are_refused(transfer_key, tmp_path):
    data = transfer_key.path.read_bytes()
    path = tmp_path / "damaged.pk"
    for bad, why in ((data[:-1], "cut off"), (data + b"\0", "longer")):
        path.write_bytes(bad)
        with pytest.raises(KeyFileError, match=why):
            ProvingKeyFile(path).constraint_system()


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(KeyFileError, match="cannot be read"):
        ProvingKeyFile(tmp_path / "none.pk")


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path, monkeypatch):
    """A key has 18 MB: half of one, left at every attempt, would keep the disk full."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(keys, "make_development_key", lambda circuit, backend: b"half a key")
    monkeypatch.setattr(keys.os, "fsync", full)
    with pytest.raises(KeysError, match="No space left"):
        ensure_keys(transfer.NAME, tmp_path)
    assert os.listdir(key_path(CIRCUIT, tmp_path).parent) == []
