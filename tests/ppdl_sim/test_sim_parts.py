"""Signatures, clock and network of the simulated world."""

from __future__ import annotations

import gc
import random
import weakref

import pytest

from hub.ppdl.consensus.certs import CertError
from hub.ppdl.consensus.effects import Received
from hub.ppdl.consensus.messages import Kind, Message, Status
from hub.ppdl.sim.clock import Clock
from hub.ppdl.sim.faults import NO_FAULTS, Faults
from hub.ppdl.sim.keys import make_scheme, validator_addresses
from hub.ppdl.sim.network import Fate, Network
from hub.ppdl.sim.world import World


@pytest.mark.parametrize("real", [False, True])
def test_a_signature_names_its_signer_and_binds_every_field(real: bool) -> None:
    scheme, (first, second, *_) = make_scheme(4, real), validator_addresses(4)
    domain, place = scheme.domain, (Kind.PREPARE, 3, 1, bytes(32))
    signature = scheme.signers[first](domain.digest(*place))
    assert len(signature) == 65 and domain.signer(*place, signature) == first
    others = [(Kind.COMMIT, 3, 1, bytes(32)), (Kind.PREPARE, 4, 1, bytes(32)), (Kind.PREPARE, 3, 2, bytes(32))]
    for other in (*others, (Kind.PREPARE, 3, 1, b"\1" * 32)):
        assert signer_of(domain, other, signature) != first
    for i in range(65):
        broken = signature[:i] + bytes([signature[i] ^ 1]) + signature[i + 1 :]
        assert signer_of(domain, place, broken) not in (first, second)


def signer_of(domain, place, signature: bytes) -> bytes | None:  # type: ignore[no-untyped-def]
    try:
        return domain.signer(*place, signature)
    except CertError:
        return None


def test_the_clock_keeps_order_and_stops_at_its_limits() -> None:
    clock, seen = Clock(), []
    for delay, name in ((5, "c"), (1, "a"), (1, "b"), (9, "d")):
        clock.after(delay, seen.append, name)
    assert not clock.run(5, 100) and seen == ["a", "b", "c"] and clock.now == 5
    assert not clock.run(100, 3) and seen == ["a", "b", "c"]
    assert not clock.run(100, 100) and seen == ["a", "b", "c", "d"] and len(clock) == 0


class Ear:
    """Hears and remembers when."""

    def __init__(self, number: int, clock: Clock) -> None:
        self.number, self.address, self.clock = number, bytes([number]) * 20, clock
        self.heard: list[tuple[int, Message]] = []

    def deliver(self, parcel: Received) -> None:
        self.heard.append((self.clock.now, parcel.message))


def spoken(faults: Faults, count: int = 200) -> tuple[Network, list[int]]:
    """Heights as node 1 hears them, of messages 1 .. count from node 0, one each ms."""
    clock = Clock()
    network, ears = Network(clock, random.Random(1), faults, 2), [Ear(i, clock) for i in (0, 1)]
    for height in range(1, count + 1):
        clock.after(height, lambda h: network.send(ears[0], ears[1:], Status(h)), height)
    clock.run(10**6, 10**6)
    return network, [message.height for _, message in ears[1].heard if isinstance(message, Status)]


def test_links_keep_order_unless_told_otherwise() -> None:
    everything = list(range(1, 201))
    assert spoken(Faults(reorder=False, delay_ms=(1, 50)))[1] == everything
    shuffled = spoken(Faults(reorder=True, delay_ms=(1, 50)))[1]
    assert shuffled != everything and sorted(shuffled) == everything


def test_loss_and_doubles_have_their_rates() -> None:
    network, heard = spoken(Faults(drop_percent=30, delay_ms=(1, 5)))
    assert 100 < len(heard) < 180 and network.lost == 200 - len(heard)
    assert 210 < len(spoken(Faults(duplicate_percent=20))[1]) < 280
    assert spoken(Faults(drop_percent=100))[1] == []


def test_a_partition_cuts_and_healing_mends() -> None:
    clock = Clock()
    network, ears = Network(clock, random.Random(1), Faults(), 3), [Ear(i, clock) for i in range(3)]
    network.sides = [0, 0, 1]
    network.send(ears[0], ears[1:], Status(1))
    clock.run(1_000, 100)
    network.heal()
    network.send(ears[0], ears[1:], Status(2))
    clock.run(2_000, 100)
    assert [len(ear.heard) for ear in ears] == [0, 2, 1]


def test_a_filter_holds_back_until_release() -> None:
    clock = Clock()
    network, ears = Network(clock, random.Random(1), Faults(), 2), [Ear(i, clock) for i in range(2)]
    network.filter = lambda sender, to, message: Fate.HOLD if message == Status(1) else Fate.LOSE
    for height in (1, 2):
        network.send(ears[0], ears[1:], Status(height))
    clock.run(1_000, 100)
    assert ears[1].heard == [] and network.lost == 1
    network.release()
    clock.run(2_000, 100)
    assert [message for _, message in ears[1].heard] == [Status(1)]


def test_a_dismantled_world_leaves_nothing_to_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for faults in (NO_FAULTS, Faults(drop_percent=5, crash_per_mille=5, delay_ms=(1, 60), until_ms=3_000)):
            world = World(4, 1, faults)
            gone = [weakref.ref(world.nodes[0]), weakref.ref(world.around)]
            world.run(3)
            world.dismantle()
            del world
            assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()
