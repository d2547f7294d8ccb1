"""Hashes, signatures, key files and configuration: each rule with an accept and a reject."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmg import hashing, signing
from openmg.clock import VirtualClock, slot_start
from openmg.config import ConfigError, load_toml
from openmg.identity import DeviceKey, KeyFileError, load_or_create_key


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=17), st.data())
def test_merkle_proof_holds_for_its_place_only(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    root, proof = hashing.merkle_root(leaves), hashing.merkle_proof(leaves, index)
    assert hashing.merkle_verify(root, leaves[index], index, len(leaves), proof)
    assert not hashing.merkle_verify(root, leaves[index] + b"!", index, len(leaves), proof)
    assert not hashing.merkle_verify(root, leaves[index], index, len(leaves), [*proof, bytes(32)])
    for other in range(len(leaves)):
        if leaves[other] != leaves[index]:
            assert not hashing.merkle_verify(root, leaves[index], other, len(leaves), proof)


def test_keccak_is_the_ethereum_one():
    assert hashing.keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_signature_binds_purpose_and_chain():
    key = bytes([7]) * 32
    signature = signing.sign_digest(key, signing.domain_digest("slot", 1, b"x"))
    assert signing.recover(signing.domain_digest("slot", 1, b"x"), signature) == signing.address_of(key)
    assert signing.recover(signing.domain_digest("slot", 2, b"x"), signature) != signing.address_of(key)
    assert signing.recover(signing.domain_digest("birth", 1, b"x"), signature) != signing.address_of(key)


def test_high_s_twin_is_refused():
    key, digest = bytes([7]) * 32, hashing.keccak256(b"x")
    good = signing.sign_digest(key, digest)
    s = signing.SECP256K1_ORDER - int.from_bytes(good[32:64], "big")
    with pytest.raises(signing.InvalidSignature):
        signing.recover(digest, good[:32] + s.to_bytes(32, "big") + bytes([55 - good[64]]))
    for bad in (good[:64], good[:64] + b"\x1d", b"\0" * 65):
        with pytest.raises(signing.InvalidSignature):
            signing.recover(digest, bad)


def test_key_file_is_private_and_stable(tmp_path):
    path = tmp_path / "device.key"
    key = load_or_create_key(path)
    assert load_or_create_key(path) == key and os.stat(path).st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_or_create_key(path)
    assert key.hex() not in repr(DeviceKey(key))


def test_a_key_file_that_could_not_be_written_is_not_there(tmp_path):
    """A power cut or a full disk at the first start once left an empty key file, and no start ever succeeded again."""
    path = tmp_path / "device.key"
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom openmg.identity import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        f"try: load_or_create_key(Path({str(path)!r}))\nexcept KeyFileError as error: sys.stdout.write(str(error))"
    )
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-B", "-c", program], capture_output=True, text=True, cwd=root, timeout=30)
    assert "cannot be made: File too large; check folder and free space" in result.stdout, result.stderr
    assert list(tmp_path.iterdir()) == [] and len(load_or_create_key(path)) == 32


def test_two_processes_that_make_a_key_at_once_agree(tmp_path):
    path, start = tmp_path / "device.key", threading.Barrier(8)

    def make():
        start.wait()
        keys.append(load_or_create_key(path))

    keys = []
    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8 and len(set(keys)) == 1 and list(tmp_path.iterdir()) == [path]


def test_clock_maps_both_ways():
    clock = VirtualClock(t0=slot_start(1_979_428), w0=1000.0, speed=225.0)
    assert clock.at(1004.0) == clock.t0 + 900 and clock.wall_at(clock.t0 + 900) == 1004.0
    assert clock.slot_wall_seconds() == 4.0
    with pytest.raises(ValueError, match="speed"):
        VirtualClock(0, 0.0, 0.0)


@dataclass(frozen=True)
class Inner:
    port: int = 502
    key_file: Path = Path("k")
    peers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"port is {self.port}; it must be in 1..65535")


@dataclass(frozen=True)
class Outer:
    name: str
    meter: Inner = field(default_factory=Inner)
    other: tuple[Inner, ...] = ()
    speed: float = 1.0


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('name = "a"\n[meter]\nprot = 1\n', 3, "meter.prot: unknown key; did you mean 'port'?"),
        ('name = "a"\n\n[meter]\nport = "502"\n', 4, "meter.port: is '502'; it must be a whole number"),
        ('name = "a"\n[meter]\nport = 70000\n', 3, "meter.port: port is 70000"),
        ("[meter]\nport = 1\n", 1, "name: is missing"),
        ('name = "a"\n[meter]\npeers = "x"\n', 3, "must be a list"),
        ('name = "a"\n[[other]]\nport = 1\n[[other]]\nport = 2\n[[other]]\nport = 0\n', 7, "other.port: port is 0"),
        ('name = "a"\n[[other]]\nport = 1\n[[other]]\nport = 2\nprot = 0\n[[other]]\n', 6, "other.prot: unknown key"),
        ('name = "a"\n[meter\n', 2, "is not valid TOML"),
        ('name = "a"\nspeed = nan\n', 2, "speed: is nan; it must be a number below"),
    ],
)
def test_config_errors_name_line_key_and_remedy(tmp_path, text, line, words):
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_toml(path, Outer)
    assert str(error.value).startswith(f"{path}:{line}: ") and words in str(error.value)


def test_config_paths_are_relative_to_the_file(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text('name = "a"\n[meter]\nkey_file = "keys/device.key"\npeers = ["x", "y"]\n')
    config = load_toml(path, Outer)
    assert config.meter.key_file == tmp_path / "keys/device.key" and config.meter.peers == ("x", "y")
