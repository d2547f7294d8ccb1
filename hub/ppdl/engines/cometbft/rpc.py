"""CometBFT's JSON-RPC over its Unix socket, as far as the engine asks: submit, commit, status.

A few worker threads that share the kept connections; an answer is bounded and a call ends within its time.
Not here: what the answers mean for the engine.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import socket
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from hub.ppdl.engines.cometbft.commit import BlockId, CometHeader, Time, seal_of, seal_signer
from hub.ppdl.store import SignedHeader
from openmg.signing import SIGNATURE_BYTES

WORKERS = 4
CALL_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024
FOR_THIS_BLOCK = 2  # BlockIDFlag of a precommit for the block that was decided


class RpcError(RuntimeError):
    """CometBFT answered with an error; `detail` is its own word."""

    def __init__(self, method: str, detail: str) -> None:
        super().__init__(f"CometBFT refused {method}: {detail}")
        self.detail = detail


class RpcUnavailable(RuntimeError):
    """CometBFT does not answer, or not in a form that is known."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CALL_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Dial the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CALL_TIMEOUT_S)
        self.sock.connect(str(self._path))


class Rpc:
    """Calls of one node."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="comet-rpc")
        self._idle: deque[_Connection] = deque()  # at most one for each worker

    def close(self) -> None:
        """End the workers and the connections."""
        self._threads.shutdown()
        while self._idle:
            self._idle.pop().close()

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """The result of one method. Raises RpcError or RpcUnavailable."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._call, method, parameters)

    def _call(self, method: str, parameters: dict[str, object]) -> dict[str, Any]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        try:
            answer = json.loads(self._post(body))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RpcUnavailable(f"CometBFT does not answer {method} ({error})") from error
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            refusal = answer["error"]
            raise RpcError(method, str(refusal.get("data") or refusal.get("message")))
        if not isinstance(answer, dict) or not isinstance(answer.get("result"), dict):
            raise RpcUnavailable(f"CometBFT answered {method} in an unknown form")
        result: dict[str, Any] = answer["result"]
        return result

    def _post(self, body: str) -> bytes:
        known: _Connection | None = None
        with contextlib.suppress(IndexError):  # another worker may take the last one
            known = self._idle.pop()
        connection = known or _Connection(self._path)
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer: bytes = connection.getresponse().read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException):
            connection.close()
            if known is None:
                raise
            return self._post(body)  # the node had closed a connection that lay idle: at most WORKERS of them
        self._idle.append(connection)
        return answer

    async def submit(self, tx: bytes) -> tuple[int, str]:
        """(code, reason) of CheckTx. Raises RpcError, also for a transaction that waits already."""
        result = await self.call("broadcast_tx_sync", tx=base64.b64encode(tx).decode())
        return int(result["code"]), str(result["log"])

    async def signed_header(self, height: int) -> SignedHeader:
        """Header `height` and its commit."""
        result = await self.call("commit", height=str(height))
        try:
            return signed_header(result["signed_header"])
        except (KeyError, TypeError, ValueError) as error:
            raise RpcUnavailable(f"CometBFT answered commit {height} in an unknown form ({error})") from error


def parse_time(text: str) -> Time:
    """An RFC 3339 time in UTC with up to nine digits of a second. Raises ValueError."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return Time(seconds, int(fraction.ljust(9, "0")) if fraction else 0)


def _block_id(value: dict[str, Any]) -> BlockId:
    parts = value["parts"]
    return BlockId(bytes.fromhex(value["hash"]), int(parts["total"]), bytes.fromhex(parts["hash"]))


def signed_header(value: dict[str, Any]) -> SignedHeader:
    """From CometBFT's JSON; signatures of precommits for nil are left out. Raises KeyError, TypeError or ValueError."""
    header, commit = value["header"], value["commit"]
    names = (
        "last_commit_hash", "data_hash", "validators_hash", "next_validators_hash", "consensus_hash", "app_hash",
        "last_results_hash", "evidence_hash",
    )  # fmt: skip
    version, block_id = header["version"], _block_id(commit["block_id"])
    made = CometHeader(
        int(version.get("block", 0)),
        int(version.get("app", 0)),
        header["chain_id"],
        int(header["height"]),
        parse_time(header["time"]),
        _block_id(header["last_block_id"]),
        tuple(bytes.fromhex(header[name]) for name in names),
        bytes.fromhex(header["proposer_address"]),
        block_id.parts,
        block_id.parts_hash,
    )
    if made.hash != block_id.hash:
        raise ValueError("the commit is for another header than the one beside it")
    view = int(commit["round"])
    votes = [vote for vote in commit["signatures"] if vote["block_id_flag"] == FOR_THIS_BLOCK]
    pairs = [(parse_time(vote["timestamp"]), base64.b64decode(vote["signature"])) for vote in votes]
    if any(len(signature) != SIGNATURE_BYTES for _, signature in pairs):
        raise ValueError("a precommit is not signed with a secp256k1eth key")
    seals = [seal_of(time, signature) for time, signature in pairs]
    return SignedHeader(made.encoded, view, tuple(sorted(seals, key=lambda seal: seal_signer(made, view, seal))))
