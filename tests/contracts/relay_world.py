"""A light client on a real node with the keys of its validators, and what attackers do with these keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from evm_world import ETHER, GENESIS_HASH, PPDL_CHAIN_ID, Chain, PpdlChain, validator_keys

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient, Receipt
from openmg.signing import address_of

DAY = 86_400
REWARD_WEI = 7
DRIFT_MS = 60_000
GAS = 12_000_000
Certificate = tuple[bytes, int, bytes]


@dataclass
class RelayWorld:
    """`client` has deployed and is the guardian."""

    chain: Chain
    client: EvmClient
    ppdl: PpdlChain
    relay: Contract
    blocks: list[bytes] = field(default_factory=list)

    def call(self, function: str, *arguments: object) -> object:
        return self.client.call(self.relay, function, *arguments)

    def transact(self, function: str, *arguments: object, value: int = 0, client: EvmClient | None = None) -> Receipt:
        return (client or self.client).transact(self.relay, function, *arguments, value=value)

    def submit(self, count: int = 1, client: EvmClient | None = None, behind: int = 0, **changed: int | bytes) -> Receipt:
        """New headers as one batch in the long form, with the last `behind` before them."""
        first = len(self.ppdl.headers) + 1 - behind
        for _ in range(count):
            self.ppdl.extend(**changed)
        batch = b"".join(self.ppdl.headers[first - 1 :])
        seals = self.ppdl.seals(self.ppdl.headers[-1], len(self.ppdl.headers))
        return self.transact("submitHeaders", batch, 0, seals, client=client)

    def short(self, header: bytes, seals: bytes, view: int = 0, client: EvmClient | None = None, **changed: bytes) -> Receipt:
        """A header in the short form."""
        word = [header[i : i + 32] for i in range(0, 320, 32)]
        numbers = int.from_bytes(word[4], "big") << 192 | view << 160 | int.from_bytes(word[5], "big")
        fields = {"tx_root": word[6], "app_hash": word[7], "set_hash": word[8]} | changed
        sender = client or self.client
        data = sender.call_data(self.relay, "submitHeader", (numbers, *fields.values())) + seals
        return sender.wait(sender.send_raw_call(self.relay.address, data))

    def certificate(self, header: bytes, view: int = 0, keys: list[bytes] | None = None) -> Certificate:
        height = int.from_bytes(header[64:96], "big")
        return header, view, self.ppdl.seals(header, height, view, keys)

    def fork(self, views: tuple[int, int] = (0, 0), keys: list[bytes] | None = None) -> tuple[Certificate, Certificate]:
        """Certificates for two headers of the height after the last relayed one."""
        headers = self.ppdl.header(), self.ppdl.header(tx_root=b"\1" * 32)
        one, other = (self.certificate(header, view, keys) for header, view in zip(headers, views, strict=True))
        return one, other

    def change_set(self, keys: list[bytes]) -> None:
        """Let another set reign from the next height on."""
        self.ppdl.next_keys = keys
        self.submit()
        self.ppdl.keys, self.ppdl.next_keys = keys, None
        self.transact("applyValidators", [address_of(key) for key in keys])

    def now_ms(self) -> int:
        return self.client.block("latest").timestamp * 1_000


def new_relay_world(chain: Chain, validators: int = 4, fund_wei: int = 0) -> RelayWorld:
    ppdl = PpdlChain(validator_keys(validators))
    client = chain.client("guardian")
    chain.give(client.address, 10 * ETHER)
    members = [address_of(key) for key in ppdl.keys]
    arguments = PPDL_CHAIN_ID, GENESIS_HASH, members, REWARD_WEI, DRIFT_MS
    relay, tx_hash = client.create(load_artifact("PpdlRelay"), *arguments, value=fund_wei, gas=GAS)
    client.wait(tx_hash)
    return RelayWorld(chain, client, ppdl, relay)
