"""A thin client of one EVM chain: calls, signed transactions, receipts, events.

Rules: nonces are counted here, so that transactions can be sent without waiting for each other; one client per account
and role, used by one thread at a time. The count is given up, and the node asked again, whenever the node was silent,
refused a transaction or did not mine one in time: it may have restarted with an older state. Proxies of the environment
are never used. A refused call raises CallReverted with the contract's own error name; a node that does not answer raises
ChainUnreachable; an answer that makes no sense is a ChainError too.
Not here: encoding (`hub.chain.abi`), what the contracts mean (`hub.plasma`, `hub.relay`), asyncio (roles call these
methods in a thread).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import requests
from eth_abi.exceptions import DecodingError
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3 import HTTPProvider
from web3.exceptions import Web3Exception

from hub.chain.abi import (
    BlockInfo,
    Contract,
    Event,
    EventDecoder,
    Receipt,
    create_address,
    decode_result,
    encode_call,
    encode_constructor,
    function_abi,
    refusal,
    selector_of,
    to_bytes,
    to_hex,
)
from hub.chain.artifacts import Artifact
from hub.chain.errors import CallReverted, ChainError, ChainUnreachable, NotMined

RPC_SECONDS = 10.0
RECEIPT_SECONDS = 60.0
RECEIPT_POLL_SECONDS = 0.1
GAS_MARGIN_PERCENT = 25
GAS_MARGIN = 30_000
"""Added to an estimate, because until inclusion a storage word that was to be kept may have to be written anew."""
TIP_WEI = 10**9
"""Priority fee on a chain whose gas is not free."""
MAX_LOG_BLOCKS = 2_000
"""Blocks asked for in one eth_getLogs call."""

__all__ = ["BlockInfo", "Contract", "Event", "EvmClient", "Receipt", "create_address"]


class EvmClient:
    """See the module. `private_key` (32 bytes) is needed to send; `free_gas` is for a chain with base fee 0."""

    def __init__(
        self,
        url: str,
        private_key: bytes | None = None,
        *,
        free_gas: bool = True,
        timeout_seconds: float = RPC_SECONDS,
    ) -> None:
        session = requests.Session()
        session.trust_env = False
        provider = HTTPProvider(
            url,
            request_kwargs={"timeout": timeout_seconds},
            session=session,
            exception_retry_configuration=None,
        )
        self.url = url
        self._provider = provider
        self.free_gas = free_gas
        self._account: LocalAccount | None = Account.from_key(private_key) if private_key else None
        self._nonce: int | None = None
        self._chain_id: int | None = None

    # ---- the chain --------------------------------------------------------------------------------------------

    @property
    def address(self) -> bytes:
        """The 20-byte address that signs; ChainError when the client has no key."""
        return bytes.fromhex(self._signer().address[2:])

    def chain_id(self) -> int:
        """The chain's id, asked once."""
        if self._chain_id is None:
            self._chain_id = self.rpc_int("eth_chainId")
        return self._chain_id

    def block_number(self) -> int:
        """Number of the newest block."""
        return self.rpc_int("eth_blockNumber")

    def block(self, number: int | str) -> BlockInfo:
        """A block by number or tag; ChainError when there is none."""
        raw = self.rpc("eth_getBlockByNumber", number if isinstance(number, str) else hex(number), False)
        if raw is None:
            raise ChainError(f"{self.url} has no block {number}")
        with self._reading("eth_getBlockByNumber"):
            return BlockInfo(
                number=int(raw["number"], 16),
                hash=to_bytes(raw["hash"]),
                state_root=to_bytes(raw["stateRoot"]),
                transactions_root=to_bytes(raw["transactionsRoot"]),
                timestamp=int(raw["timestamp"], 16),
                transaction_count=len(raw["transactions"]),
            )

    def balance(self, address: bytes) -> int:
        """Native coin of an account, in wei."""
        return self.rpc_int("eth_getBalance", to_hex(address), "latest")

    def rpc(self, method: str, *params: Any) -> Any:
        """The result of a JSON-RPC method, as the node sent it."""
        try:
            answer = self._provider.make_request(cast(Any, method), list(params))
        except (requests.RequestException, OSError, ValueError) as error:
            self._nonce = None  # what was sent may be lost, and a restarted node may count fewer transactions
            raise ChainUnreachable(f"the chain at {self.url} does not answer ({type(error).__name__})") from error
        with self._reading(method):
            if "error" in answer:
                raise refusal(method, dict(answer["error"]))
            return answer["result"]

    def rpc_int(self, method: str, *params: Any) -> int:
        """As `rpc`, for a method that answers with a hex number."""
        with self._reading(method):
            return int(self.rpc(method, *params), 16)

    # ---- contracts --------------------------------------------------------------------------------------------

    def call(
        self,
        contract: Contract,
        function: str,
        *args: Any,
        sender: bytes | None = None,
        value: int = 0,
        at: str = "latest",
    ) -> Any:
        """The result of a read-only call: on the newest state, on the next block (at="pending"), or at a block (hex)."""
        params = {"to": to_hex(contract.address), "data": to_hex(encode_call(contract, function, args))}
        if sender or self._account:
            params["from"] = to_hex(sender or self.address)
        if value:
            params["value"] = hex(value)
        where = f"{contract.name}.{function}"
        try:
            with self._reading("eth_call"):
                data = to_bytes(self.rpc("eth_call", params, at))
        except CallReverted as error:
            raise CallReverted(where, error.error, error.detail) from None
        if not data and function_abi(contract, function)["outputs"]:
            raise ChainError(
                f"{where} answered nothing: the chain at {self.url} has no such contract at {to_hex(contract.address)}; "
                "is the deployment file of another chain?"
            )
        with self._reading(where):
            return decode_result(contract, function, data)

    def call_data(self, contract: Contract, function: str, *args: Any) -> bytes:
        """Selector and arguments of a call; addresses are 20 bytes or hex, structs are tuples."""
        return encode_call(contract, function, args)

    @staticmethod
    def selector(contract: Contract, function: str) -> bytes:
        """The four bytes that name a function."""
        return selector_of(contract, function)

    def simulate(self, to: bytes, data: bytes, *, where: str = "call") -> None:
        """Run call data on the newest state; CallReverted when it would fail now."""
        params = {"from": self._signer().address, "to": to_hex(to), "data": to_hex(data)}
        try:
            self.rpc("eth_call", params, "latest")
        except CallReverted as error:
            raise CallReverted(where, error.error, error.detail) from None

    def send(self, contract: Contract, function: str, *args: Any, value: int = 0, gas: int | None = None) -> bytes:
        """Sign and send a transaction and return its hash at once.

        Without `gas` it is estimated first, which raises CallReverted when it would fail now.
        """
        data = self.call_data(contract, function, *args)
        where = f"{contract.name}.{function}"
        return self.send_raw_call(contract.address, data, value=value, gas=gas, where=where)

    def transact(self, contract: Contract, function: str, *args: Any, value: int = 0, gas: int | None = None) -> Receipt:
        """`send` and wait for its success; CallReverted when it was mined and failed."""
        tx_hash = self.send(contract, function, *args, value=value, gas=gas)
        return self.wait(tx_hash, where=f"{contract.name}.{function}")

    def create(
        self,
        artifact: Artifact,
        *args: Any,
        libraries: Mapping[str, bytes] | None = None,
        value: int = 0,
        gas: int | None = None,
    ) -> tuple[Contract, bytes]:
        """Send a contract's creation; returns it with its address to be, and the transaction's hash."""
        code = artifact.creation_code(libraries or {}) + encode_constructor(artifact, args)
        nonce = self._next_nonce()
        contract = Contract(artifact.name, create_address(self.address, nonce), artifact.abi)
        where = f"creation of {artifact.name}"
        return contract, self.send_raw_call(None, code, value=value, gas=gas, where=where)

    def events(self, contract: Contract, name: str, first_block: int, last_block: int) -> list[Event]:
        """The events of one name in a range of blocks, both inclusive, in order."""
        decoder = EventDecoder(contract, name)
        found: list[Event] = []
        for start in range(first_block, last_block + 1, MAX_LOG_BLOCKS):
            stop = min(start + MAX_LOG_BLOCKS - 1, last_block)
            query = {
                "address": contract.checksum_address,
                "fromBlock": hex(start),
                "toBlock": hex(stop),
                "topics": [decoder.topic],
            }
            with self._reading("eth_getLogs"):
                logs = self.rpc("eth_getLogs", query)
                if not isinstance(logs, list):
                    raise TypeError("not a list")
                found += [decoder.decode(raw) for raw in logs]
        return found

    # ---- transactions -----------------------------------------------------------------------------------------

    def send_raw_call(
        self, to: bytes | None, data: bytes, *, value: int = 0, gas: int | None = None, where: str = "transaction"
    ) -> bytes:
        """Sign and send call data (or creation code, when `to` is None); returns the transaction's hash."""
        params: dict[str, Any] = {"from": self._signer().address, "data": to_hex(data), "value": hex(value)}
        if to is not None:
            params["to"] = to_checksum_address(to)
        limit = gas if gas is not None else self._estimate(params, where)
        base_fee, tip = self._fees()
        transaction = {
            "type": 2,
            "chainId": self.chain_id(),
            "nonce": self._next_nonce(),
            "gas": limit,
            "maxFeePerGas": 2 * base_fee + tip,
            "maxPriorityFeePerGas": tip,
            "value": value,
            "data": data,
            **({"to": params["to"]} if to is not None else {}),
        }
        signed = self._signer().sign_transaction(cast(Any, transaction))
        tx_hash = self.send_raw_transaction(bytes(signed.raw_transaction))
        self._nonce = transaction["nonce"] + 1
        return tx_hash

    def send_raw_transaction(self, raw: bytes) -> bytes:
        """Hand a signed transaction to the node; returns its hash."""
        try:
            with self._reading("eth_sendRawTransaction"):
                return to_bytes(self.rpc("eth_sendRawTransaction", to_hex(raw)))
        except ChainError:
            self._nonce = None  # whatever happened, the node knows the next nonce better
            raise

    def receipt(self, tx_hash: bytes) -> Receipt | None:
        """The receipt of a transaction, or None while it has none."""
        raw = self.rpc("eth_getTransactionReceipt", to_hex(tx_hash))
        if raw is None:
            return None
        with self._reading("eth_getTransactionReceipt"):
            created = raw.get("contractAddress")
            return Receipt(
                tx_hash=tx_hash,
                block=int(raw["blockNumber"], 16),
                succeeded=int(raw["status"], 16) == 1,
                gas_used=int(raw["gasUsed"], 16),
                contract_address=to_bytes(created) if created else None,
            )

    def wait(self, tx_hash: bytes, *, seconds: float = RECEIPT_SECONDS, where: str = "transaction") -> Receipt:
        """The receipt of a successful transaction; CallReverted when it failed, NotMined after `seconds`."""
        receipt = self.wait_mined(tx_hash, seconds=seconds)
        if not receipt.succeeded:
            error, detail = self._reason(tx_hash, receipt.block)
            raise CallReverted(where, error, detail)
        return receipt

    def wait_mined(self, tx_hash: bytes, *, seconds: float = RECEIPT_SECONDS) -> Receipt:
        """The receipt, whether it succeeded or not; NotMined after `seconds`."""
        deadline = time.monotonic() + seconds
        while (receipt := self.receipt(tx_hash)) is None:
            if time.monotonic() >= deadline:
                self._nonce = None  # the node may have forgotten it, and then waits for the gap to be filled
                raise NotMined(f"0x{tx_hash.hex()} was not mined at {self.url} within {seconds:g} s")
            time.sleep(RECEIPT_POLL_SECONDS)
        return receipt

    def forget_nonce(self) -> None:
        """The chain was set back: ask the node again how many transactions the account has sent."""
        self._nonce = None

    # ---- inner parts ------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """What the block reads is the node's word: of the wrong shape, it is a ChainError."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, DecodingError, Web3Exception) as error:
            raise ChainError(
                f"{self.url} answered {what} with something else ({type(error).__name__}); is it a node?"
            ) from error

    def _signer(self) -> LocalAccount:
        if self._account is None:
            raise ChainError(f"the client of {self.url} has no key; give one to send transactions")
        return self._account

    def _next_nonce(self) -> int:
        if self._nonce is None:
            self._nonce = self.rpc_int("eth_getTransactionCount", self._signer().address, "pending")
        return self._nonce

    def _fees(self) -> tuple[int, int]:
        if self.free_gas:
            return 0, 0
        with self._reading("eth_getBlockByNumber"):
            head = self.rpc("eth_getBlockByNumber", "latest", False)
            return int(head["baseFeePerGas"], 16), TIP_WEI

    def _estimate(self, params: Mapping[str, Any], where: str) -> int:
        try:
            gas = self.rpc_int("eth_estimateGas", dict(params))
        except CallReverted as error:
            raise CallReverted(where, error.error, error.detail) from None
        return gas + gas * GAS_MARGIN_PERCENT // 100 + GAS_MARGIN

    def _reason(self, tx_hash: bytes, block: int) -> tuple[str, str]:
        """Why a mined transaction failed: run it again on the state before its block."""
        try:
            with self._reading("eth_getTransactionByHash"):
                sent = self.rpc("eth_getTransactionByHash", to_hex(tx_hash))
                params = {key: sent[key] for key in ("from", "to", "value", "gas") if sent.get(key) is not None}
                params["data"] = sent["input"]
            self.rpc("eth_call", params, hex(block - 1))
        except CallReverted as error:
            return error.error, error.detail
        except ChainError:
            pass
        return "unknown", f"transaction 0x{tx_hash.hex()} in block {block}"
