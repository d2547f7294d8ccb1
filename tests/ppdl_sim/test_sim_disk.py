"""The simulated disk loses what was not synced, and nothing else."""

from __future__ import annotations

import random

import pytest

from hub.ppdl.consensus.effects import LogComplete, Persist, PreparedProof, VoteRecord
from hub.ppdl.consensus.messages import Kind, Prepare, encode_message
from hub.ppdl.sim.disk import Disk, Entry, SaveBlock, SecondVote, TornEntry, frame, unframe
from hub.ppdl.sim.forge import Forger
from hub.ppdl.sim.keys import make_scheme, validator_addresses
from hub.ppdl.sim.world import World


def vote(height: int = 1, view: int = 0, digest: bytes = bytes(32)) -> VoteRecord:
    return VoteRecord(Kind.PREPARE, height, view, digest, encode_message(Prepare(height, view, digest, bytes(65))))


def entries() -> list[Entry]:
    world, forge, who = World(4, 0), Forger(make_scheme(4, False)), tuple(validator_addresses(4))
    genesis = world.around.genesis
    block = forge.block(genesis, who[1], (b"\x01tx",), 5)
    proof = PreparedProof(forge.prepared(who[:3], 0, block), block)
    saved = SaveBlock(forge.decided(who[:3], 0, block), world.around.ledger.execute(genesis, block))
    return [Persist((vote(),)), Persist((vote(), vote(1, 3)), proof), saved, LogComplete()]


def test_what_is_synced_survives_and_what_is_not_may_not() -> None:
    fates = set()
    for seed in range(40):
        disk = Disk()
        disk.write(Persist((vote(),)))
        disk.sync()
        disk.write(Persist((vote(view=1),)))
        fates.add(disk.crash(random.Random(seed)).split(" after ")[0])
        assert (Kind.PREPARE, 1, 0) in disk.votes
        assert disk.crash(random.Random(seed)) == "nothing unsynced"
    assert fates == {"unsynced entry lost", "unsynced entry torn", "unsynced entry survived"}


@pytest.mark.parametrize("number", range(4))
def test_an_entry_is_read_back_whole_or_seen_to_be_torn(number: int) -> None:
    entry = entries()[number]
    data = frame(entry)
    assert unframe(data, entry) == entry and unframe(b"", entry) is None
    for cut in range(1, len(data)):
        with pytest.raises(TornEntry):
            unframe(data[:cut], entry)
    for place in range(0, len(data), 7):
        with pytest.raises(TornEntry):
            unframe(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], entry)


def test_a_second_vote_is_refused() -> None:
    disk = Disk()
    disk.write(Persist((vote(),)))
    disk.sync()
    disk.write(Persist((vote(),)))
    disk.sync()
    with pytest.raises(SecondVote, match="PREPARE height 1 view 0"):
        disk.write(Persist((vote(digest=b"\x01" * 32),)))


def test_a_lost_log_is_told_and_a_decided_height_needs_no_votes() -> None:
    disk = Disk()
    disk.write(Persist((vote(), vote(height=2))))
    disk.sync()
    disk.write(entries()[2])
    disk.sync()
    assert [record.height for record in disk.restored(2).votes] == [2] and disk.restored(2).complete
    disk.lose_votes()
    assert disk.restored(2).votes == () and not disk.restored(2).complete and disk.height == 1
    disk.write(LogComplete())
    disk.sync()
    assert disk.restored(2).complete
