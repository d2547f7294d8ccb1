"""Blobs: their commitment and form, the store and its bounds, the exchange and what it refuses."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from round_world import PLAN, SPEC, blob_of, small_update

from hub.learning import exchange as exchange_module
from hub.learning.blobs import BlobStore, BlobStoreError, Promise
from hub.learning.exchange import (
    MAX_WANTED,
    PART_GOSSIP,
    SENT_PER_STEP,
    WANT_GOSSIP,
    BlobExchange,
    BlobPart,
    BlobWant,
    parts_of,
)
from openmg.hashing import keccak256, merkle_proof, merkle_root, word
from openmg.learning.blobs import (
    CHUNK_BYTES,
    MAX_BLOB_BYTES,
    SALT_BYTES,
    blob_hash,
    chunk_count,
    chunks_of,
    commitment_of,
    make_blob,
    open_blob,
)
from openmg.learning.quantise import update_bytes
from openmg.messages import base

BASE = keccak256(b"some model")
PEER = b"\x01" * 20


def promise_of(blob: bytes, round_number: int = 3, device: bytes = b"\xd0" * 20) -> Promise:
    return Promise(device, round_number, BASE, commitment_of(device, round_number, BASE, blob_hash(blob)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    one = BlobStore(tmp_path / "blobs.sqlite")
    yield one
    one.close()


# ---- the form -------------------------------------------------------------------------------------------------------


def test_hash_and_commitment_are_what_their_header_says() -> None:
    blob = blob_of(1)
    leaves = [blob[i : i + CHUNK_BYTES] for i in range(0, len(blob), CHUNK_BYTES)]
    expected = keccak256(keccak256(b"openmg.learning.blob.v1") + word(len(blob)) + merkle_root(leaves))
    assert blob_hash(blob) == expected
    device = b"\xd0" * 20
    preimage = keccak256(b"openmg.learning.commit.v1") + device + word(7) + BASE + expected
    assert commitment_of(device, 7, BASE, expected) == keccak256(preimage)


@pytest.mark.parametrize("change", ["device", "round", "base", "blob"])
def test_a_commitment_opens_to_nothing_else(change: str) -> None:
    blob = blob_of(1)
    promise = promise_of(blob)
    assert promise.opened_by(blob_hash(blob))
    other = {
        "device": dataclasses.replace(promise, device=b"\xd1" * 20),
        "round": dataclasses.replace(promise, round=4),
        "base": dataclasses.replace(promise, base_hash=bytes(32)),
        "blob": promise,
    }[change]
    assert not other.opened_by(blob_hash(blob if change != "blob" else blob[:-1] + bytes([blob[-1] ^ 1])))


def test_a_good_blob_opens_and_each_fault_is_named() -> None:
    salt = bytes(SALT_BYTES)
    assert np.array_equal(open_blob(PLAN, blob_of(1)), small_update(1))
    with pytest.raises(ValueError, match="bytes instead of"):
        open_blob(PLAN, blob_of(1)[:-2])
    with pytest.raises(ValueError, match="-32768"):
        open_blob(PLAN, make_blob(salt, b"\x00\x80" + bytes(SPEC.update_bytes - 2)))
    limit = np.zeros(SPEC.parameters, np.int16)
    limit[:256] = PLAN.clip_units // 16
    open_blob(PLAN, make_blob(salt, update_bytes(limit)))
    limit[256] = 1
    with pytest.raises(ValueError, match="exceeds"):
        open_blob(PLAN, make_blob(salt, update_bytes(limit)))
    with pytest.raises(ValueError, match="the salt has 3 bytes"):
        make_blob(b"abc", b"")


def test_the_largest_update_that_a_chain_agrees_on_fits_a_blob() -> None:
    from openmg.learning.blobs import MAX_RESULT_BYTES

    assert SALT_BYTES + MAX_RESULT_BYTES // 4 <= MAX_BLOB_BYTES <= base.MAX_MESSAGE_BYTES // 2


# ---- the store ------------------------------------------------------------------------------------------------------


def test_only_what_opens_its_commitment_is_kept(store: BlobStore) -> None:
    blob = blob_of(1)
    promise = promise_of(blob)
    assert not store.put(promise, blob_of(2)) and not store.holds(promise) and store.get(promise) is None
    assert store.put(promise, blob) and store.holds(promise) and store.get(promise) == blob
    assert store.put(promise, blob_of(2)), "what is here is not looked at again"
    assert store.get(promise) == blob and store.bytes_held == len(blob)


def test_bytes_are_bounded(tmp_path: Path) -> None:
    blobs = [blob_of(seed) for seed in (1, 2, 3)]
    store = BlobStore(tmp_path / "small.sqlite", max_bytes=2 * len(blobs[0]))
    kept = [store.put(promise_of(blob, device=bytes([i]) * 20), blob) for i, blob in enumerate(blobs)]
    assert kept == [True, True, False] and store.bytes_held == 2 * len(blobs[0])
    huge = bytes(MAX_BLOB_BYTES + 1)
    assert not store.put(promise_of(huge), huge)
    store.close()


def test_old_rounds_are_pruned_and_a_restart_knows_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "blobs.sqlite"
    store = BlobStore(path)
    promises = [promise_of(blob_of(1), number) for number in (3, 4, 5)]
    for promise in promises:
        assert store.put(promise, blob_of(1))
    store.prune(5)
    assert [store.holds(promise) for promise in promises] == [False, True, True]
    store.close()
    again = BlobStore(path)
    assert [again.get(promise) for promise in promises] == [None, blob_of(1), blob_of(1)]
    assert again.bytes_held == 2 * len(blob_of(1))
    again.close()


def test_a_damaged_row_is_dropped_and_can_be_put_again(tmp_path: Path) -> None:
    path, blob = tmp_path / "blobs.sqlite", blob_of(1)
    store, promise = BlobStore(path), promise_of(blob)
    store.put(promise, blob)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE blob SET data = zeroblob(length(data))")
    db.close()
    assert store.get(promise) is None and not store.holds(promise) and store.bytes_held == 0
    assert store.put(promise, blob) and store.get(promise) == blob
    store.close()


@pytest.mark.parametrize("damage", ["torn", "garbage"])
def test_a_damaged_file_is_set_aside_and_an_empty_one_begun(tmp_path: Path, damage: str) -> None:
    path, blob = tmp_path / "blobs.sqlite", blob_of(1)
    store, promise = BlobStore(path), promise_of(blob)
    for number in range(40):
        other = promise_of(blob, number)
        assert store.put(other, blob)
    store.close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 // 4096 * 4096 - 100] if damage == "torn" else b"not a database" * 1000)
    again = BlobStore(path)
    assert again.get(promise) is None and again.put(promise, blob) and again.get(promise) == blob
    again.close()
    assert (tmp_path / "blobs.sqlite.damaged").exists()


def test_a_folder_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BlobStoreError, match="cannot be opened .* check the folder"):
        BlobStore(tmp_path / "missing" / "blobs.sqlite")


# ---- the exchange ---------------------------------------------------------------------------------------------------


class Net:
    """Hubs whose gossip is delivered by hand."""

    def __init__(self, folder: Path, count: int) -> None:
        self.names = [bytes([i + 1]) * 20 for i in range(count)]
        self.queue: list[tuple[bytes, bytes | None, str, bytes]] = []
        self.stores = [BlobStore(folder / f"{i}.sqlite") for i in range(count)]
        self.hubs = [
            BlobExchange(
                store,
                lambda kind, payload, me=name: self.queue.append((me, None, kind, payload)),
                lambda peer, kind, payload, me=name: self.queue.append((me, peer, kind, payload)),
            )
            for name, store in zip(self.names, self.stores, strict=True)
        ]

    def deliver(self, lose: str = "") -> None:
        while self.queue:
            sender, to, kind, payload = self.queue.pop(0)
            if kind == lose:
                continue
            for name, hub in zip(self.names, self.hubs, strict=True):
                if name != sender and to in (None, name):
                    hub.on_gossip(kind, payload, sender)

    def close(self) -> None:
        for store in self.stores:
            store.close()


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    one = Net(tmp_path, 3)
    yield one
    one.close()


def test_a_blob_of_a_meter_reaches_every_hub_at_once(net: Net) -> None:
    blob = blob_of(1)
    promise = promise_of(blob)
    for hub in net.hubs:
        hub.expect([promise])
    assert net.hubs[0].offer(promise.device, promise.round, blob)
    assert not net.hubs[0].offer(promise.device, promise.round, blob), "a repeated reveal is no news"
    net.deliver()
    assert [store.get(promise) for store in net.stores] == [blob] * 3


def test_a_blob_whose_parts_were_lost_is_asked_for(net: Net) -> None:
    blob = blob_of(1)
    promise = promise_of(blob)
    for hub in net.hubs:
        hub.expect([promise])
    net.hubs[0].offer(promise.device, promise.round, blob)
    net.deliver(lose=PART_GOSSIP)
    assert not net.stores[2].holds(promise) and net.hubs[2].missing() == [promise]
    net.hubs[2].step()
    net.deliver()
    assert net.stores[2].get(promise) == blob and net.hubs[2].missing() == []
    assert not net.stores[1].holds(promise), "the answer went to the one that asked"


def test_what_a_meter_did_not_promise_is_not_taken(net: Net) -> None:
    blob, hub = blob_of(1), net.hubs[0]
    promise = promise_of(blob)
    assert not hub.offer(promise.device, 3, blob), "nothing is expected yet"
    hub.expect([promise])
    assert not hub.offer(b"\xd1" * 20, 3, blob)
    assert not hub.offer(promise.device, 2, blob)
    assert not hub.offer(promise.device, 3, blob_of(2)) and hub.refused == 1
    assert net.queue == [] and net.stores[0].bytes_held == 0


def test_every_wrong_part_is_refused_and_the_right_ones_still_count(net: Net) -> None:
    blob, hub = blob_of(1), net.hubs[0]
    promise = promise_of(blob)
    hub.expect([promise])
    first, last = parts_of(promise, blob)
    assert chunk_count(len(blob)) == 2
    chunks = [bytes(CHUNK_BYTES), last.chunk]
    forged_root = merkle_root(chunks)
    wrong = [
        dataclasses.replace(first, chunk=bytes(CHUNK_BYTES)),
        dataclasses.replace(first, index=1),
        dataclasses.replace(first, length=len(blob) - 1),
        dataclasses.replace(first, root=forged_root, chunk=chunks[0], proof=tuple(merkle_proof(chunks, 0))),
        dataclasses.replace(first, proof=()),
    ]
    for part in wrong:
        hub.on_gossip(PART_GOSSIP, base.encode(part), PEER)
    assert hub.refused == len(wrong)
    stranger = dataclasses.replace(first, commitment=bytes(32))
    for payload in (b"", b"\xff", base.encode(first)[:-1], base.encode(stranger)):
        hub.on_gossip(PART_GOSSIP, payload, PEER)
    for part in (last, first, first):
        hub.on_gossip(PART_GOSSIP, base.encode(part), PEER)
    assert net.stores[0].get(promise) == blob


def test_a_peer_that_asks_again_and_again_is_served_its_share(net: Net) -> None:
    blob, hub = blob_of(1), net.hubs[0]
    promise = promise_of(blob)
    hub.expect([promise])
    hub.offer(promise.device, 3, blob)
    net.queue.clear()
    want = base.encode(BlobWant((promise.commitment,) * MAX_WANTED))
    for _ in range(10):
        hub.on_gossip(WANT_GOSSIP, want, PEER)
    assert len(net.queue) == SENT_PER_STEP
    hub.on_gossip(WANT_GOSSIP, want, b"\x02" * 20)
    assert len(net.queue) == 2 * SENT_PER_STEP, "another peer's share is its own"
    hub.step()
    hub.on_gossip(WANT_GOSSIP, want, PEER)
    assert len(net.queue) == 3 * SENT_PER_STEP


def test_blobs_that_nobody_has_do_not_keep_others_from_being_asked_for(net: Net) -> None:
    """More devices than one want names never show their blob, and stand before the one that did."""
    absent = [promise_of(blob_of(1), device=i.to_bytes(20, "big")) for i in range(MAX_WANTED + 6)]
    late = promise_of(blob_of(2), device=b"\xff" * 20)
    for hub in net.hubs:
        hub.expect([*absent, late])
    net.hubs[0].offer(late.device, late.round, blob_of(2))
    net.deliver(lose=PART_GOSSIP)
    net.hubs[1].step()
    net.deliver()
    assert not net.stores[1].holds(late)
    net.hubs[1].step()
    net.deliver()
    assert net.stores[1].holds(late) and len(net.hubs[1].missing()) == len(absent)


def test_begun_blobs_make_room_for_what_is_asked_for(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "MAX_OPEN", 2)
    monkeypatch.setattr(exchange_module, "MAX_WANTED", 1)
    blob = blob_of(1)
    promises = [promise_of(blob, device=bytes([i]) * 20) for i in range(3)]
    for hub in net.hubs[:2]:
        hub.expect(promises)
    for promise in promises[1:]:  # only the first part of each comes
        net.hubs[1].on_gossip(PART_GOSSIP, base.encode(parts_of(promise, blob)[0]), PEER)
    for promise in promises:
        net.hubs[0].offer(promise.device, promise.round, blob)
    net.deliver(lose=PART_GOSSIP)
    for _ in promises:
        net.hubs[1].step()
        net.deliver()
    assert [net.stores[1].get(promise) for promise in promises] == [blob] * 3


def test_wants_and_parts_have_bounds() -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        BlobWant((bytes(32),) * (MAX_WANTED + 1))
    with pytest.raises(ValueError, match="1 to 65536"):
        BlobPart(bytes(32), MAX_BLOB_BYTES + 1, bytes(32), 0, (), b"x")
    with pytest.raises(ValueError, match="a chunk of its blob"):
        BlobPart(bytes(32), 100, bytes(32), 1, (), b"x")


def test_what_is_no_longer_expected_is_neither_taken_nor_handed_out(net: Net) -> None:
    blob, hub = blob_of(1), net.hubs[0]
    promise = promise_of(blob)
    hub.expect([promise])
    hub.offer(promise.device, 3, blob)
    hub.expect([])
    net.queue.clear()
    hub.on_gossip(WANT_GOSSIP, base.encode(BlobWant((promise.commitment,))), PEER)
    hub.step()
    assert net.queue == []


def test_chunks_join_to_the_blob() -> None:
    for length in (1, CHUNK_BYTES, CHUNK_BYTES + 1, MAX_BLOB_BYTES):
        blob = bytes(range(256)) * (length // 256 + 1)
        chunks = chunks_of(blob[:length])
        assert b"".join(chunks) == blob[:length] and len(chunks) == chunk_count(length)
