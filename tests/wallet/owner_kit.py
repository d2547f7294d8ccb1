"""A device with an owner, as the commands of keys and wallet find it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.config import AgentConfig
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.service import DATABASE
from openmg.config import load_toml
from openmg.identity import load_or_create_key
from openmg.keys import sealed

ROOT = Path(__file__).resolve().parents[2]
SECRET = "correct horse battery"
SEED = bytes(range(32))
CHAIN_ID, CONTRACT, SOON = 7_095, b"\x31" * 20, 2**40


@pytest.fixture
def nobody_at_a_terminal_and_a_cheap_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "STANDARD", sealed.Cost(4, 1, 1))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr("sys.stdin", None)


def agent_file(folder: Path, extra: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "agent.toml"
    path.write_text(
        '[device]\nname = "home-1"\nkey_file = "device.key"\nstate_dir = "state"\n'
        '[meter]\nhost = "127.0.0.1"\nport = 1502\n[mqtt]\nurl = "mqtt://127.0.0.1:1883"\n'
        f'[hub]\noperator = "0x{"44" * 20}"\nchain_id = 7\n[home]\nmicrogrid = 1\n{extra}'
        '[wallet]\nseed_file = "owner.seed"\ndemo = true\n',
        encoding="utf-8",
    )
    return path


def with_passphrase(folder: Path) -> Path:
    path = agent_file(folder, '[keys]\npassphrase_file = "passphrase"\n')
    (folder / "passphrase").write_text(SECRET + "\n", encoding="utf-8")
    (folder / "passphrase").chmod(0o600)
    return path


def config_of(path: Path) -> AgentConfig:
    return load_toml(path, AgentConfig)


@pytest.fixture
def owner(tmp_path: Path) -> AgentConfig:
    """A device with its keys, as a first start makes them."""
    config = config_of(agent_file(tmp_path / "meter"))
    for path in config.key_files:
        load_or_create_key(path)
    return config


@pytest.fixture
def config_path(owner: AgentConfig) -> Path:
    return owner.device.key_file.parent / "agent.toml"


def seed_of(config: AgentConfig) -> bytes:
    assert config.wallet is not None
    return load_or_create_key(config.wallet.seed_file, config.passphrases)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def make_wallet_database(config: AgentConfig) -> None:
    from edge_agent.wallet.journal import Journal

    config.device.state_dir.mkdir(exist_ok=True)
    journal = Journal(config.device.state_dir / DATABASE)
    journal.claim(OwnerKeys(seed_of(config)).account)
    journal.close()
