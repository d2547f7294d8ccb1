"""The embedded EVM node: where its binary is, its command line, and a running one.

Rules: loopback only; quiet, because anvil prints its accounts' keys; bounded history (`--prune-history`), so that its
memory stays flat; on the plasma chain a base fee of 0, which anvil then keeps at 0 for ever.
The genesis account's key is the published development key of anvil's default mnemonic: it holds value only until
`hub.chain.deploy` has given all of it to the bridge. Production runs another engine behind the same RPC.
Not here: what is deployed.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from hub.chain.errors import ChainError

ANVIL_VARIABLE = "OPENMG_ANVIL"
DEVELOPMENT_KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
"""Account 0 of the mnemonic "test test test test test test test test test test test junk"."""
GENESIS_ETH = 1_000_000_000
"""PETH that exists, far more than is ever deposited, and still a note amount (96 bits) in wei."""
GAS_LIMIT = 60_000_000
HISTORY_BLOCKS = 64
"""States kept: anvil 1.7.1 holds a snapshot of the whole state per block."""
START_SECONDS = 20
STOP_SECONDS = 10
_NODE_MODULES = Path(__file__).resolve().parents[2] / "contracts" / "node_modules" / "@foundry-rs"


class AnvilError(ChainError):
    """The node cannot be found or started; the text says what to do."""


@dataclass(frozen=True)
class AnvilOptions:
    """How a node runs; `block_seconds` 0 mines at every transaction, `free_gas` makes gas cost nothing."""

    chain_id: int
    port: int
    block_seconds: float = 1.0
    free_gas: bool = True
    accounts: int = 1
    state_file: Path | None = None
    state_interval_seconds: int = 5
    history_blocks: int = HISTORY_BLOCKS


def anvil_binary() -> Path:
    """The anvil binary: $OPENMG_ANVIL, else the npm platform package, else the one on the PATH."""
    named = os.environ.get(ANVIL_VARIABLE)
    if named:
        if not os.access(named, os.X_OK):
            raise AnvilError(f"{ANVIL_VARIABLE} names {named}, which is not a program; correct or unset it")
        return Path(named)
    for candidate in sorted(_NODE_MODULES.glob("anvil-*/bin/anvil")):
        if os.access(candidate, os.X_OK):
            return candidate
    found = shutil.which("anvil")
    if found is None:
        raise AnvilError(
            "anvil was not found; install nodejs (18 or newer) and npm and run `make setup`, or set "
            f"{ANVIL_VARIABLE} to an anvil of your own"
        )
    return Path(found)


def anvil_command(options: AnvilOptions) -> list[str]:
    """The command line of a node with these options."""
    command = [str(anvil_binary()), "--host", "127.0.0.1", "--port", str(options.port)]
    command += ["--chain-id", str(options.chain_id), "--hardfork", "prague", "--quiet", "--no-cors"]
    command += ["--accounts", str(options.accounts), "--balance", str(GENESIS_ETH)]
    command += ["--gas-limit", str(GAS_LIMIT), "--prune-history", str(options.history_blocks)]
    if options.block_seconds > 0:
        command += ["--block-time", f"{options.block_seconds:g}"]
    if options.free_gas:
        command += ["--block-base-fee-per-gas", "0", "--gas-price", "0"]
    if options.state_file is not None:
        command += ["--state", str(options.state_file), "--state-interval", str(options.state_interval_seconds)]
    return command


class AnvilNode:
    """A running node; stop it with `stop()` or by leaving the `with` block."""

    def __init__(self, options: AnvilOptions, process: subprocess.Popen[bytes]) -> None:
        self.options = options
        self.process = process
        self.url = f"http://127.0.0.1:{options.port}"

    def __enter__(self) -> AnvilNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process; with a state file it writes its state first."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_SECONDS)


def start_anvil(options: AnvilOptions, log_path: Path | None = None) -> AnvilNode:
    """Start a node and wait until it answers; AnvilError when the port is taken or it does not come up."""
    _require_free(options.port)
    command = anvil_command(options)
    with open(log_path or os.devnull, "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    node = AnvilNode(options, process)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            where = f"; see {log_path}" if log_path else ""
            raise AnvilError(f"anvil on port {options.port} ended at once with code {process.returncode}{where}")
        if answers(node.url, options.chain_id):
            return node
        time.sleep(0.05)
    node.stop()
    raise AnvilError(f"anvil on port {options.port} did not answer within {START_SECONDS} s; is the machine overloaded?")


def answers(url: str, chain_id: int) -> bool:
    """Whether a node of this chain answers at the URL; proxies are never used."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=2) as reply:
            return int(json.loads(reply.read())["result"], 16) == chain_id
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return False


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise AnvilError(f"port {port} of 127.0.0.1 is in use; stop what uses it or choose another") from error
