"""The command openmg-hub: one sentence and the right exit code for everything that an operator may get wrong."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import app_world
import pytest
from market_world import MarketWorld

from hub.chain.deploy import RootContracts, contract_at
from hub.chain.deployment import Deployment
from hub.chain.verifiers import CIRCUITS
from hub.cli import main
from hub.config import HubConfig
from hub.keys import HubKeys
from hub.node import HubNode
from hub.ppdl.genesis import make_genesis
from openmg.config import CONFIG_EXIT_CODE, load_toml
from openmg.signing import address_of

CONFIG = """\
[hub]
name = "hub-1"
key_file = "hub.key"
state_dir = "state"
roles = []

[ppdl]
genesis_file = "genesis.cbor"
listen = "127.0.0.1:1"
peers = []

[chains]
root_url = "http://127.0.0.1:1"
plasma_url = "http://127.0.0.1:1"
deployment_file = "deployment.json"

[zk]
demo = true
"""


def device(name: str, address: int, microgrid: int, role: str = "home") -> str:
    """A `[[device]]` table."""
    return f'[[device]]\nname = "{name}"\naddress = "0x{address:040x}"\nmicrogrid = {microgrid}\nrole = "{role}"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "genesis.cbor").write_bytes(app_world.genesis().encode())
    path = tmp_path / "hub.toml"
    path.write_text(CONFIG)
    return path


def keys(*circuits: str) -> str:
    """The keys of ceremonies for these circuits."""
    return "[zk.verifying_keys]\n" + "".join(f'{name} = "0x{"ab" * 32}"\n' for name in circuits)


def sentence(text: str) -> str:
    """The only line of the text."""
    (line,) = text.strip().splitlines()
    return line


@pytest.mark.parametrize("command", ["run", "init", "check", "identity"])
def test_an_unknown_key_is_named_with_file_and_line(config, capsys, command):
    config.write_text(CONFIG.replace("listen = ", "listn = "))
    assert main([command, "--config", str(config)]) == CONFIG_EXIT_CODE
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence(err) == f"{config}:9: ppdl.listn: unknown key; did you mean 'listen'?"
    assert not (config.parent / "hub.key").exists()


@pytest.mark.parametrize(
    ("old", "new", "where", "why"),
    [
        ("roles = []", 'roles = ["mint"]', "5: hub.roles", "'mint'"),
        ("roles = []", 'roles = ["ingest"]', "1:", "mqtt is missing"),
        ("[zk]\ndemo = true\n", "", "1:", "zk is missing; write [zk.verifying_keys]"),
        ("demo = true", "demo = false", "17: zk.", "or demo = true, and not both"),
        ("demo = true", '[zk.verifying_keys]\ntransfer = "0x12"', "", "64 hex digits"),
        ("demo = true", keys("transfer"), "", "no key of merge; every circuit moves money"),
        ("demo = true", keys(*CIRCUITS, "commit"), "", "names 'commit'"),
        ("[chains]", '[appender]\nprover = "fast"\n[chains]', "13: appender.prover", "native, portable, auto"),
        ("[chains]", '[appender]\nkey_file = "append.pk"\n[chains]', "12: appender", "write both or none"),
        ("[chains]", '[appender]\nkey_file = "a"\nkey_sha256 = "12"\n[chains]', "14: appender.key_sha256", "64 hex digits"),
        ("[chains]", "[chains]\nplasma_confirmations = -1", "13: chains.plasma_confirmations", "0 or more"),
        ('name = "hub-1"', "name = 5", "2: hub.name", "text in quotes"),
        ('name = "hub-1"\n', "", "1: hub.name", "is missing"),
        ("peers = []", "peers = [", "", ""),
        ("[chains]", '[mqtt]\nurl = "http://x"\n[chains]', "13: mqtt.url", "mqtt://host:port"),
        ("roles = []", 'roles = ["relayer", "relayer"]', "5: hub.roles", "names one twice"),
        ("roles = []", 'roles = ["market"]', "5: hub.roles", "without 'ingest'"),
        ('name = "hub-1"', 'name = ""', "2: hub.name", "is empty"),
        ('listen = "127.0.0.1:1"', 'listen = "127.0.0.1:99999"', "9: ppdl.listen", "port from 1 to 65535"),
        ("peers = []", "peers = []\nblock_interval_s = 0", "11: ppdl.block_interval_s", "above 0"),
        ('root_url = "http://127.0.0.1:1"', 'root_url = "127.0.0.1:1"', "13: chains.root_url", "write http://host:port"),
        ("[chains]", "[clock]\nspeed = 0\n[chains]", "13: clock.speed", "above 0"),
        ("[chains]", "[console]\nport = 99999\n[chains]", "13: console.port", "1 to 65535"),
        ("[chains]", "[market]\nretail_wei_per_wh = -1\n[chains]", "13: market.retail_wei_per_wh", "not below 0"),
        ("[chains]", "[grid]\ngroup_size = 4\n[chains]", "13: grid.group_size", "give 5 to 96"),
        ("[chains]", device("Home 1", 1, 1) + "[chains]", "13: device.name", "lower-case"),
        ("[chains]", device("a", 1, 0) + "[chains]", "15: device.microgrid", "from 1"),
        ("[chains]", device("a", 1, 1, "feder") + "[chains]", "16: device.role", "home or feeder"),
        ("[chains]", device("a", 1, 1) + device("a", 2, 1) + "[chains]", "", "the name a twice"),
        ("[chains]", device("a", 1, 1) + device("b", 1, 1) + "[chains]", "", "the address 0x"),
        ("[chains]", '[[device]]\nname = "a"\naddress = "0x1"\nmicrogrid = 1\n[chains]', "", "40 hex digits"),
    ],
)
def test_wrong_values_are_one_sentence(config, capsys, old, new, where, why):
    config.write_text(CONFIG.replace(old, new))
    assert main(["check", "--config", str(config)]) == CONFIG_EXIT_CODE
    line = sentence(capsys.readouterr().err)
    assert line.startswith(f"{config}:{where}") and why in line


def test_an_appender_outside_a_demonstration_needs_its_ceremonys_key(config, capsys):
    real = CONFIG.replace("roles = []", 'roles = ["appender"]').replace("[zk]\ndemo = true\n", keys(*CIRCUITS))
    config.write_text(real)
    assert main(["check", "--config", str(config)]) == CONFIG_EXIT_CODE
    assert "key_file and key_sha256 of the ceremony of append" in sentence(capsys.readouterr().err)
    config.write_text(f'{real}[appender]\nkey_file = "append.pk"\nkey_sha256 = "{"cd" * 32}"\n')
    assert main(["check", "--config", str(config)]) == 0


def test_a_missing_file_is_one_sentence(tmp_path, capsys):
    assert main(["check", "--config", str(tmp_path / "none.toml")]) == CONFIG_EXIT_CODE
    assert "cannot be read" in sentence(capsys.readouterr().err)


def test_a_right_configuration_is_said(config, capsys):
    assert main(["check", "--config", str(config)]) == 0
    assert sentence(capsys.readouterr().out) == f"{config}: right; hub-1 with roles validator only"
    config.write_text(CONFIG.replace("roles = []", 'roles = ["relayer", "envelope-relay"]'))
    assert main(["check", "--config", str(config)]) == 0
    assert "roles relayer, envelope-relay" in capsys.readouterr().out


def test_init_makes_a_hub_once(config, capsys):
    assert main(["init", "--config", str(config)]) == 0
    keys = HubKeys.load(config.parent / "hub.key")
    line = sentence(capsys.readouterr().out)
    assert "0x" + keys.validator.hex() in line and str(app_world.CHAIN_ID) in line
    store = config.parent / "state" / "ppdl.sqlite"
    before = store.read_bytes()
    assert stat.S_IMODE((config.parent / "hub.key").stat().st_mode) == 0o600
    assert main(["init", "--config", str(config)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "initialised already" in sentence(err) and str(store) in err
    assert store.read_bytes() == before


def test_init_without_a_genesis_says_so_and_makes_nothing(config, capsys):
    (config.parent / "genesis.cbor").unlink()
    assert main(["init", "--config", str(config)]) == 1
    assert "genesis.cbor" in sentence(capsys.readouterr().err)
    assert not (config.parent / "state").exists()


def write_deployment(config: Path, world: MarketWorld) -> None:
    root = RootContracts(1_337, contract_at("PlasmaRoot", b"\1" * 20))
    (config.parent / "deployment.json").write_text(json.dumps(Deployment(root, world.contracts).to_json()))


async def test_a_hub_without_its_votes_says_that_it_is_silent_and_names_the_command(config, world, caplog):
    """It may have voted before it lost them; whoever is new is told how to begin."""
    write_deployment(config, world)
    validators = [HubKeys.load(config.parent / "hub.key").validator, *map(address_of, app_world.VALIDATOR_KEYS[:3])]
    genesis = make_genesis(app_world.CHAIN_ID, validators, app_world.app_genesis().encode(), 1_781_485_200_000)
    (config.parent / "genesis.cbor").write_bytes(genesis.encode())
    settings = load_toml(config, HubConfig)
    settings.hub.state_dir.mkdir()
    node = HubNode(settings)
    node.app.close()
    (said,) = [record.getMessage() for record in caplog.records if "ppdl.sqlite is missing" in record.getMessage()]
    assert "silent until it has caught up" in said and "openmg-hub init" in said


def test_running_as_a_stranger_to_the_genesis_names_the_address(config, world, capsys):
    write_deployment(config, world)
    assert main(["init", "--config", str(config)]) == 0
    capsys.readouterr()
    assert main(["run", "--config", str(config)]) == 1
    line = sentence(capsys.readouterr().err)
    assert "0x" + HubKeys.load(config.parent / "hub.key").validator.hex() in line and "is not a validator" in line


def test_a_state_folder_that_is_a_file_is_one_sentence(config, world, capsys):
    write_deployment(config, world)
    (config.parent / "state").write_text("")
    assert main(["run", "--config", str(config)]) == 1
    line = sentence(capsys.readouterr().err)
    assert line.startswith("hub-1: ") and "state cannot be used" in line


def test_running_without_a_deployment_says_so(config, capsys):
    assert main(["run", "--config", str(config)]) == 1
    line = sentence(capsys.readouterr().err)
    assert line.startswith("hub-1: ") and "deployment.json" in line


def test_a_key_file_that_is_none_is_one_sentence(config, capsys):
    (config.parent / "hub.key").write_bytes(b"short")
    (config.parent / "hub.key").chmod(0o600)
    assert main(["identity", "--config", str(config)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "hub.key" in sentence(err)


def test_identity_is_json_and_stays_the_same(config, capsys):
    answers = []
    for _ in range(2):
        assert main(["identity", "--config", str(config)]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    keys = HubKeys.load(config.parent / "hub.key")
    assert (
        answers[0]
        == answers[1]
        == {
            "name": "hub-1",
            "validator": "0x" + keys.validator.hex(),
            "account": "0x" + keys.account.hex(),
            "envelope_key": keys.envelope_public.hex(),
        }
    )
    assert keys.root.hex() not in json.dumps(answers)


def test_the_program_ends_with_these_codes(config):
    """The same as a process of its own: nothing but the sentence is on standard error."""
    config.write_text(CONFIG.replace('state_dir = "state"', 'state_dirs = "state"'))
    command = [sys.executable, "-m", "hub.cli", "check", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (CONFIG_EXIT_CODE, "")
    assert sentence(done.stderr) == f"{config}:4: hub.state_dirs: unknown key; did you mean 'state_dir'?"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("peers = []", 'peers = ["127.0.0.1:5"]'),
        ('listen = "127.0.0.1:1"', 'listen = "nowhere"'),
        ("[chains]", '[relay]\nenvelope_keys = ["zz"]\n[chains]'),
    ],
)
def test_check_finds_malformed_addresses_and_keys(config, old, new):
    config.write_text(CONFIG.replace(old, new))
    assert main(["check", "--config", str(config)]) == CONFIG_EXIT_CODE
