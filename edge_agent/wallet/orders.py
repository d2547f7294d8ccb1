"""From decisions to signed transactions: the calls an owner makes on the energy token and the exchange.

Pure: the caller gives nonce, time and state, and gets raw transactions in the order in which they must run. A meter's
reading enters a call with the device key's EIP-712 signature, the call itself is signed by the owner's account key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.trading import Buy, Provide, Redeem, Sell, Share
from openmg.evm.abi import encode_call
from openmg.evm.eip712 import domain_separator, typed_digest
from openmg.evm.transaction import Transaction
from openmg.identity import DeviceKey
from openmg.messages.market import EnergyMarket
from openmg.signing import sign_digest

GAS_LIMIT = 500_000
"""Twice what the dearest of an order's calls uses; gas is free and unused gas is not taken."""
NOTE_GAS_LIMIT = 3_000_000
"""For a call that adds a note: the tree hashes twenty times on chain."""
KIND_EXPORT, KIND_IMPORT = 1, 2
_READING = "MeterReading(uint8 kind,address meter,uint256 slot,uint256 energyWh)"
_UNLIMITED = 2**256 - 1


@dataclass(frozen=True)
class Call:
    """A call to a contract with the native coin it carries."""

    to: bytes
    data: bytes
    value_wei: int = 0
    gas_limit: int = GAS_LIMIT


@dataclass(frozen=True)
class Partner:
    """Whom a home shares surplus with: an account in another microgrid, which may use it against its import."""

    account: bytes
    microgrid: int


@dataclass(frozen=True)
class Desk:
    """Everything constant that orders of one home need."""

    keys: OwnerKeys
    device: DeviceKey
    market: EnergyMarket
    chain_id: int

    def _reading(self, kind: int, slot: int, energy_wh: int) -> bytes:
        domain = domain_separator("OpenMG EnergyToken", "1", self.chain_id, self.market.token)
        return sign_digest(self.device.signing_key, typed_digest(domain, _READING, kind, self.device.address, slot, energy_wh))

    def mint(self, slot: int, export_wh: int) -> Call:
        """Turn the export of a recorded slot into energy of the owner."""
        signature = self._reading(KIND_EXPORT, slot, export_wh)
        arguments = (self.device.address, slot, export_wh, signature)
        return Call(self.market.token, encode_call("mint(address,uint256,uint256,bytes)", *arguments))

    def burn(self, slot: int, amount_wh: int, import_wh: int) -> Call:
        """Use bought energy up against the metered import of a recorded slot."""
        signature = self._reading(KIND_IMPORT, slot, import_wh)
        arguments = (self.device.address, slot, amount_wh, import_wh, signature)
        return Call(self.market.token, encode_call("burn(address,uint256,uint256,uint256,bytes)", *arguments))

    def approve(self) -> Call:
        """Let the exchange collect energy when the owner sells; once for the account's life."""
        return Call(self.market.token, encode_call("approve(address,uint256)", self.market.exchange, _UNLIMITED))

    def order(self, order: Sell | Redeem | Provide | Buy, deadline: int) -> Call:
        """The call that carries out a decision; it reverts after `deadline` (Unix seconds, wall)."""
        match order:
            case Sell(energy_wh, min_wei):
                signature = "tokenToEthSwapInput(uint256,uint256,uint256)"
                return Call(self.market.exchange, encode_call(signature, energy_wh, min_wei, deadline))
            case Buy(energy_wh, max_wei):
                data = encode_call("ethToTokenSwapOutput(uint256,uint256)", energy_wh, deadline)
                return Call(self.market.exchange, data, max_wei)
            case Provide(energy_wh, value_wei):
                data = encode_call("addLiquidity(uint256,uint256,uint256)", 0, energy_wh, deadline)
                return Call(self.market.exchange, data, value_wei)
            case Redeem(energy_wh):
                return Call(self.market.token, encode_call("redeem(uint256)", energy_wh))

    def share(self, order: Share, partner: Partner, token: bytes, deadline: int) -> Call:
        """Swap energy for that of the partner's microgrid (`token`), delivered to the partner."""
        signature = "tokenToTokenTransferInput(uint256,uint256,uint256,uint256,address,address)"
        arguments = (order.energy_wh, order.min_wh, order.min_wei, deadline, partner.account, token)
        return Call(self.market.exchange, encode_call(signature, *arguments))

    def sign(self, calls: Iterable[Call], nonce: int) -> tuple[bytes, ...]:
        """The calls as raw transactions with consecutive nonces."""
        return tuple(
            Transaction(self.chain_id, nonce + i, call.to, call.data, call.gas_limit, call.value_wei).sign(
                self.keys.account_key
            )
            for i, call in enumerate(calls)
        )
