"""A private round in one process: members with keys and updates, and the steps each of them takes."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

import numpy as np
from numpy.typing import NDArray

from openmg.hashing import keccak256, word
from openmg.identity import DeviceKey
from openmg.learning.secure import device
from openmg.learning.secure.hub import OpenedSum, SecureHub
from openmg.learning.secure.terms import RoundTerms, make_terms
from openmg.messages.secure import Delivery, SurvivorSet

I16 = NDArray[np.int16]
I64 = NDArray[np.int64]

CHAIN_ID = 7
CLIP_UNITS = 1 << 18
SEED = keccak256(b"a block hash")


@cache
def key_of(number: int) -> DeviceKey:
    return DeviceKey(keccak256(b"member" + word(number)))


def updates_of(addresses: Collection[bytes], parameters: int, seed: int = 1) -> dict[bytes, I16]:
    """Updates whose values reach both ends of int16, within the clipping norm."""
    random = np.random.default_rng(seed)
    values = {address: random.integers(-900, 901, parameters).astype(np.int16) for address in sorted(addresses)}
    for place, update in enumerate(values.values()):
        update[0] = (32_767, -32_767)[place % 2]
    return values


class World:
    """A hub and its members; `leave_*` are members that do not take the step any more."""

    def __init__(self, members: int, parameters: int = 40, number: int = 3) -> None:
        keys = [key_of(place) for place in range(members)]
        self.keys = {key.address: key for key in sorted(keys, key=lambda key: key.address)}
        publics = {address: key.mask_public for address, key in self.keys.items()}
        self.terms: RoundTerms = make_terms(CHAIN_ID, number, bytes(32), SEED, publics, parameters, CLIP_UNITS)
        self.updates = updates_of(self.keys, parameters)
        self.hub = SecureHub(self.terms)
        self.memories: dict[bytes, device.DeviceMemory] = {}
        self.deliveries: dict[bytes, tuple[Delivery, ...]] = {}

    @property
    def addresses(self) -> list[bytes]:
        return list(self.keys)

    def deal(self, leave: Collection[bytes] = ()) -> None:
        for address, key in self.keys.items():
            if address not in leave:
                self.memories[address], dealing = device.deal(key, self.terms, keccak256(b"chance" + address))
                self.hub.take_dealing(address, dealing)
        self.deliveries = self.hub.close_dealing()

    def mask(self, leave: Collection[bytes] = (), noise: dict[bytes, I64] | None = None) -> SurvivorSet:
        for address, deliveries in self.deliveries.items():
            if address not in leave:
                own = None if noise is None else noise[address]
                self.memories[address], masked = device.mask(
                    self.keys[address], self.terms, self.memories[address], deliveries, self.updates[address], own
                )
                self.hub.take_masked(address, masked)
        return self.hub.close_masking()

    def sign(self, survivors: SurvivorSet, leave: Collection[bytes] = ()) -> dict[bytes, bytes]:
        for address in survivors.survivors:
            if address not in leave:
                self.memories[address], signature = device.sign(
                    self.keys[address], self.terms, self.memories[address], survivors
                )
                self.hub.take_signature(address, signature)
        return self.hub.close_signing()

    def unmask(self, survivors: SurvivorSet, signatures: dict[bytes, bytes], leave: Collection[bytes] = ()) -> None:
        for address in signatures:
            if address not in leave:
                unmasking = device.unmask(self.keys[address], self.terms, self.memories[address], survivors, signatures)
                self.hub.take_unmasking(address, unmasking)

    def run(self, leave: tuple[Collection[bytes], ...] = ((), (), (), ())) -> OpenedSum:
        """The whole round; `leave` holds who is gone from each of the four steps on."""
        gone = [set().union(*map(set, leave[: step + 1])) for step in range(4)]
        self.deal(gone[0])
        survivors = self.mask(gone[1])
        signatures = self.sign(survivors, gone[2])
        self.unmask(survivors, signatures, gone[3])
        return self.hub.open()

    def plain_sum(self, addresses: Collection[bytes]) -> I64:
        return np.sum([self.updates[address].astype(np.int64) for address in addresses], axis=0)
