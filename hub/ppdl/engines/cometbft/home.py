"""The folder of one CometBFT node: made once (`initialise_home`), its configuration written at every start.

The validator's key is the hub's own secp256k1 key, so that one address serves both kinds of chain; CometBFT reads it
from a file of mode 0600 that is there only while it starts. `data/priv_validator_state.json` says what was signed last
and is never made anew: without it the node must not vote, as a PBFT validator without its vote log.
The key of the node in CometBFT's network (Ed25519) is derived from the validator's, so that it needs no file to keep.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coincurve import PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hub.ppdl.consensus.block import MAX_BLOCK_BYTES, MAX_TX_BYTES
from hub.ppdl.engines.cometbft.bridge import chain_name
from hub.ppdl.engines.cometbft.chainfile import ChainFile
from hub.ppdl.genesis import Genesis
from hub.ppdl.mempool import MEMPOOL_MAX_BYTES, MEMPOOL_MAX_TXS
from hub.ppdl.store import StoreError
from openmg.durable import replace_durably
from openmg.hashing import keccak256

NODE_KEY_TAG = b"openmg.ppdl.comet.node.v1"
KEY_TYPE = "secp256k1eth"
COMMIT_ROOM_BYTES = 1024 * 1024  # last commit, evidence and header beside the transactions of a block
MEMPOOL_CACHE_TXS = 10_000
NODE_ID_BYTES = 20


@dataclass(frozen=True, slots=True)
class CometPeer:
    """Another node: its id (40 hexadecimal digits, `node_id`), host and TCP port."""

    node_id: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Timing:
    """As for PBFT: least time between blocks that are wanted, time between blocks nobody wants, patience with a
    proposer.
    """

    block_interval_s: float
    heartbeat_s: float
    view_timeout_s: float


def public_key_of(private_key: bytes) -> bytes:
    """The 33-byte public key to configure for a validator."""
    return PrivateKey(private_key).public_key.format(compressed=True)


def _node_key(private_key: bytes) -> tuple[bytes, bytes]:
    seed = keccak256(NODE_KEY_TAG + private_key)
    return seed, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def node_id(private_key: bytes) -> str:
    """The name under which the peers of this node know it."""
    return hashlib.sha256(_node_key(private_key)[1]).digest()[:NODE_ID_BYTES].hex()


def chain_file(home: Path) -> Path:
    """Where the adapter keeps headers and sets."""
    return home / "openmg.sqlite"


def _state_file(home: Path) -> Path:
    return home / "data" / "priv_validator_state.json"


def key_file(home: Path) -> Path:
    """The validator's key while CometBFT starts."""
    return home / "config" / "priv_validator_key.json"


def initialise_home(home: Path, genesis: Genesis) -> None:
    """Make the home of a new validator, which has signed nothing yet.

    Call it once, when provisioning; a home that exists is left as it is.
    """
    if _state_file(home).exists():
        return
    for folder in (home, home / "config", home / "data"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ChainFile(chain_file(home), genesis.hash, create=True).close()
    _write(_state_file(home), {"height": "0", "round": 0, "step": 0})


def check_home(home: Path) -> None:
    """Raises StoreError when the node does not know what it signed."""
    if not _state_file(home).exists():
        raise StoreError(
            f"{_state_file(home)} is missing: run initialise_home if this validator has never voted; if it has, give it"
            " a new key, because a validator that forgot its votes must not vote"
        )


def _write(path: Path, content: object) -> None:
    """JSON, whole or not at all, for this user only."""
    replace_durably(path, json.dumps(content, indent=1).encode())


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def genesis_document(genesis: Genesis, public_keys: Mapping[bytes, bytes]) -> dict[str, object]:
    """CometBFT's genesis, the same on every node; block 1 carries its time, one millisecond after ours.

    Raises ValueError when a validator's public key is missing.
    """
    missing = [address.hex() for address in genesis.validators if address not in public_keys]
    if missing:
        raise ValueError(f"the public key of validator 0x{missing[0]} is not configured: CometBFT needs it")
    time_ms = genesis.genesis_time_ms + 1
    moment = datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    members = [
        {
            "address": address.hex().upper(),
            "pub_key": {"type": "tendermint/PubKeySecp256k1eth", "value": _b64(public_keys[address])},
            "power": "1",
            "name": "",
        }
        for address in genesis.validators
    ]
    evidence = {"max_age_num_blocks": "100000", "max_age_duration": "172800000000000", "max_bytes": "1048576"}
    return {
        "genesis_time": f"{moment}.{time_ms % 1000:03d}Z",
        "chain_id": chain_name(genesis),
        "initial_height": "1",
        "consensus_params": {
            "block": {"max_bytes": str(MAX_BLOCK_BYTES + COMMIT_ROOM_BYTES), "max_gas": "-1"},
            "evidence": evidence,
            "validator": {"pub_key_types": [KEY_TYPE]},
            "version": {"app": "0"},
            "abci": {"vote_extensions_enable_height": "0"},
        },
        "validators": members,
        "app_hash": "",
        "app_state": {"genesis": genesis.hash.hex()},
    }


def write_node_files(
    home: Path, genesis: Genesis, public_keys: Mapping[bytes, bytes], private_key: bytes, settings: dict[str, object]
) -> None:
    """Everything CometBFT reads at start."""
    config = home / "config"
    public = {"type": "tendermint/PubKeySecp256k1eth", "value": _b64(public_key_of(private_key))}
    private = {"type": "tendermint/PrivKeySecp256k1eth", "value": _b64(private_key)}
    address = keccak256(PrivateKey(private_key).public_key.format(compressed=False)[1:])[12:].hex().upper()
    _write(key_file(home), {"address": address, "pub_key": public, "priv_key": private})
    seed, node_public = _node_key(private_key)
    node = {"type": "tendermint/PrivKeyEd25519", "value": _b64(seed + node_public)}
    _write(config / "node_key.json", {"priv_key": node})
    _write(config / "genesis.json", genesis_document(genesis, public_keys))
    (config / "config.toml").write_text(_toml(settings))


def settings(
    abci_socket: Path, rpc_socket: Path, listen: tuple[str, int], peers: Sequence[CometPeer], timing: Timing
) -> dict[str, object]:
    """The values of config.toml that differ from CometBFT's own, by dotted name."""
    view = _duration(timing.view_timeout_s)
    return {
        "proxy_app": f"unix://{abci_socket}",
        "moniker": "openmg",
        "log_level": "error",
        "rpc.laddr": f"unix://{rpc_socket}",
        "p2p.laddr": f"tcp://{listen[0]}:{listen[1]}",
        "p2p.persistent_peers": ",".join(f"{peer.node_id}@{peer.host}:{peer.port}" for peer in peers),
        "p2p.pex": False,  # the operators know each other
        "p2p.addr_book_strict": False,
        "p2p.allow_duplicate_ip": True,
        "p2p.flush_throttle_timeout": "2ms",  # a few operators near each other: CometBFT's 100 ms is for a wide network
        "consensus.peer_gossip_sleep_duration": "5ms",
        "mempool.size": MEMPOOL_MAX_TXS,
        "mempool.max_txs_bytes": MEMPOOL_MAX_BYTES,
        "mempool.max_tx_bytes": MAX_TX_BYTES,
        "mempool.cache_size": MEMPOOL_CACHE_TXS,
        "consensus.timeout_propose": view,
        "consensus.timeout_prevote": view,
        "consensus.timeout_precommit": view,
        "consensus.timeout_commit": _duration(timing.block_interval_s),
        "consensus.skip_timeout_commit": timing.block_interval_s == 0,
        "consensus.create_empty_blocks": False,
        "consensus.create_empty_blocks_interval": _duration(timing.heartbeat_s),
        "tx_index.indexer": "null",  # the application answers queries
    }


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _toml(values: dict[str, object]) -> str:
    """Strings, numbers and booleans only, which JSON writes as TOML does; top-level names come first."""
    lines, table = [], ""
    for name, value in sorted(values.items(), key=lambda item: (item[0].rpartition(".")[0], item[0])):
        head, _, leaf = name.rpartition(".")
        if head != table:
            lines.append(f"[{head}]")
            table = head
        lines.append(f"{leaf} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"
