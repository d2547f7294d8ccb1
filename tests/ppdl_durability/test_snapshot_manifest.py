"""A manifest proves its state from the genesis on, and no bent one does."""

from __future__ import annotations

import dataclasses

import pytest
from chain_maker import ADDRESSES, KEYS, Chain, app_hash, genesis, seals
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.messages import QuorumCert
from hub.ppdl.snapshots.manifest import Manifest, ManifestError, check_history, decode_manifest, verify
from hub.ppdl.snapshots.messages import (
    AskSnapshots,
    Chunk,
    ChunkId,
    FetchChunk,
    NothingToOffer,
    Offer,
    SnapshotMessageError,
    decode_snapshot_message,
    encode_snapshot_message,
)

SETS = {3: ADDRESSES[1:5], 6: ADDRESSES[2:8], 8: ADDRESSES[4:8]}
CHAIN = Chain(genesis(), SETS).grow(12)
DOMAIN = CHAIN.domain


def proves(manifest: Manifest) -> bool:
    try:
        verify(DOMAIN, CHAIN.genesis, manifest)
    except ManifestError:
        return False
    return True


@pytest.mark.parametrize("height", range(1, 12))
def test_every_height_is_proved_across_changes_of_the_set(height: int) -> None:
    """Against the chain's own maker: no address of the genesis is left in the last set."""
    manifest = CHAIN.manifest(height)
    tip = verify(DOMAIN, CHAIN.genesis, manifest)
    block = CHAIN.blocks[height - 1].decided.block
    assert (tip.height, tip.hash, tip.timestamp_ms) == (height, block.hash, block.header.timestamp_ms)
    assert tip.app_hash == app_hash(height)
    assert tip.validators == CHAIN.members(height + 1) and tip.next_validators == CHAIN.members(height + 2)
    assert decode_manifest(manifest.encoded) == manifest


def test_no_flipped_byte_proves_the_same_again() -> None:
    """Only the chunk hashes and their layout are not the validators' word: f + 1 of them vouch for those."""
    manifest = CHAIN.manifest(9)
    data = manifest.encoded
    hashes = data.index(manifest.snapshot.metadata)
    for place in range(len(data)):
        if hashes <= place < hashes + len(manifest.snapshot.metadata):
            continue
        bent = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            other = decode_manifest(bent)
        except ManifestError:
            continue
        assert not proves(other) or other.snapshot.format != manifest.snapshot.format


def test_every_left_out_or_foreign_piece_is_refused() -> None:
    manifest, changes = CHAIN.manifest(9), CHAIN.manifest(9).changes
    assert proves(manifest) and len(changes) == 3
    replace = dataclasses.replace
    for i in range(3):
        assert not proves(replace(manifest, changes=changes[:i] + changes[i + 1 :]))
    assert not proves(replace(manifest, changes=(changes[1], changes[0], changes[2])))
    assert not proves(replace(manifest, changes=(*changes, changes[2])))
    assert not proves(replace(manifest, next_set=ADDRESSES[:4]))
    assert not proves(replace(manifest, header=CHAIN.blocks[7].decided.block.header))
    assert not proves(replace(manifest, following=CHAIN.blocks[10].decided.block.header))
    short = QuorumCert(0, manifest.qc.seals[: CHAIN.members(10).quorum - 1])
    assert not proves(replace(manifest, qc=short))
    assert not proves(replace(manifest, qc=QuorumCert(1, manifest.qc.seals)))  # seals of another view
    strangers = seals(DOMAIN, manifest.following, CHAIN.genesis.validators[:4])
    assert not proves(replace(manifest, qc=strangers))  # a former set certifies nothing any more


def test_a_forged_state_needs_a_quorum() -> None:
    """f validators of the set sign another app hash."""
    manifest = CHAIN.manifest(9)
    forged = dataclasses.replace(manifest.following, app_hash=bytes(32))
    members = CHAIN.members(10).addresses
    few = seals(DOMAIN, forged, members[: CHAIN.members(10).max_faulty])
    assert not proves(dataclasses.replace(manifest, following=forged, qc=few))
    assert all(one in KEYS for one in members)
    quorum = seals(DOMAIN, forged, members[: CHAIN.members(10).quorum])  # more liars than any protocol survives
    assert proves(dataclasses.replace(manifest, following=forged, qc=quorum))


def test_a_history_that_former_validators_made_up_is_refused_by_who_was_there() -> None:
    """The keys of the first set sign another future from block 3 on; the genesis alone cannot tell the two apart."""
    other = Chain(genesis(), {3: ADDRESSES[:3]}).grow(20)
    forged, known = other.manifest(18), CHAIN.manifest(11).changes
    verify(DOMAIN, CHAIN.genesis, forged)
    for height in range(2, 12):  # from the first changed block on
        seen = [change for change in known if change.header.height <= height]
        with pytest.raises(ManifestError, match="contradicts"):
            check_history(forged, seen, height)
        check_history(CHAIN.manifest(11), seen, height)
    check_history(forged, [], 1)


def test_another_chains_manifest_proves_nothing() -> None:
    other = Chain(genesis(chain_id=98), SETS).grow(12)
    assert not proves(other.manifest(9))
    with pytest.raises(ManifestError):
        verify(Domain(98, CHAIN.genesis.hash), CHAIN.genesis, other.manifest(9))


ID = ChunkId(9, 1, bytes(32), 4)
MESSAGES = (
    AskSnapshots(0), NothingToOffer(), FetchChunk(ID), Chunk(ID, b""), Chunk(ID, b"data"), Offer(CHAIN.manifest(9)),
)  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_has_one_encoding(message) -> None:
    data = encode_snapshot_message(message)
    assert decode_snapshot_message(data) == message
    for bent in (data[:-1], data + b"\0", b"", b"\xf5" + data[1:]):
        with pytest.raises(SnapshotMessageError):
            decode_snapshot_message(bent)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(MESSAGES), st.data())
def test_no_bytes_of_a_peer_raise_anything_else(message, data) -> None:
    wire = bytearray(encode_snapshot_message(message))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = decode_snapshot_message(bytes(wire))
    except SnapshotMessageError:
        return
    assert encode_snapshot_message(again) == bytes(wire)
