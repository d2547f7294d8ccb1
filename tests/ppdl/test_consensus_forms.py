"""Quorums, headers, seals, encodings and certificates: every form and every forgery."""

from __future__ import annotations

import eth_abi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pbft_lab import LAB_CHAIN, Lab

from hub.ppdl.consensus.block import MAX_BLOCK_TX_BYTES, MAX_BLOCK_TXS, MAX_TX_BYTES, Block, BlockError
from hub.ppdl.consensus.certs import (
    CertError,
    Domain,
    verify_new_view,
    verify_pre_prepare,
    verify_prepared,
    verify_qc,
    verify_view_change,
    vote_signer,
)
from hub.ppdl.consensus.decoding import decode_cert, decode_message
from hub.ppdl.consensus.header import HEADER_BYTES, Header, HeaderError, seal_digest
from hub.ppdl.consensus.messages import (
    MAX_MESSAGE_BYTES,
    Commit,
    Decided,
    Kind,
    Message,
    MessageError,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    QuorumCert,
    Status,
    SyncRequest,
    SyncResponse,
    ViewChange,
    encode_cert,
    encode_message,
)
from hub.ppdl.consensus.quorum import ValidatorSet, max_faulty, quorum
from hub.ppdl.genesis import MAX_VALIDATORS
from openmg import codec
from openmg.hashing import keccak256, merkle_root

LAB = Lab()
BLOCK = LAB.block(1, b"a", b"b")


@given(st.integers(1, 100))
def test_two_quorums_share_an_honest_validator(n: int) -> None:
    f, q = max_faulty(n), quorum(n)
    assert 2 * q - n > f
    assert q <= n - f
    assert n >= 3 * f + 1


def test_quorum_of_five_is_not_2f_plus_1() -> None:
    assert (quorum(4), quorum(5), quorum(6), quorum(7)) == (3, 4, 4, 5)


def test_validator_set_rejects_disorder_and_applies_updates() -> None:
    a, b, c = (bytes([x]) * 20 for x in (1, 2, 3))
    for wrong in ((), (b, a), (a, a), (a, b"short")):
        with pytest.raises(ValueError):
            ValidatorSet(wrong)
    changed = ValidatorSet((a, c)).updated(((b, True), (a, False)))
    assert changed.addresses == (b, c)
    assert changed.hash == keccak256(eth_abi.encode(["address", "address"], ["0x" + b.hex(), "0x" + c.hex()]))
    with pytest.raises(ValueError):
        ValidatorSet((a,)).updated(((a, False),))


def test_proposer_turns_with_height_and_view() -> None:
    turns = [LAB.set.proposer(h, v) for h, v in ((1, 0), (2, 0), (1, 1), (4, 0))]
    assert turns == [LAB.addresses[i] for i in (1, 2, 2, 0)]


def test_header_is_the_abi_encoding_an_evm_builds() -> None:
    h = BLOCK.header
    kinds = ["bytes32", "uint256", "uint256", "bytes32", "uint256", "address"] + 4 * ["bytes32"]
    tag = keccak256(b"openmg.ppdl.header.v1")
    proposer = "0x" + h.proposer.hex()
    values = [tag, h.chain_id, h.height, h.parent_hash, h.timestamp_ms, proposer]
    roots = [h.tx_root, h.app_hash, h.validators_hash, h.next_validators_hash]
    assert h.encoded == eth_abi.encode(kinds, [*values, *roots])
    assert len(h.encoded) == HEADER_BYTES
    assert Header.decode(h.encoded) == h
    assert h.tx_root == merkle_root([b"a", b"b"])


def test_seal_digest_is_the_abi_encoding_an_evm_hashes() -> None:
    genesis, digest = keccak256(b"g"), keccak256(b"d")
    kinds = ["bytes32", "uint256", "bytes32", "uint256", "uint256", "bytes32"]
    encoded = eth_abi.encode(kinds, [keccak256(b"PPDL-COMMIT-V1"), 7, genesis, 8, 9, digest])
    assert seal_digest(7, genesis, 8, 9, digest) == keccak256(encoded)


@pytest.mark.parametrize("position", [0, 5 * 32 + 32 + 3, 2 * 32 + 1])
def test_header_with_bits_outside_its_fields_is_refused(position: int) -> None:
    data = bytearray(BLOCK.header.encoded)
    data[position] ^= 1
    try:
        other = Header.decode(bytes(data))
    except HeaderError:
        return
    assert other.hash != BLOCK.header.hash and other.encoded == bytes(data)


def test_header_proposer_padding_is_checked() -> None:
    data = bytearray(BLOCK.header.encoded)
    data[6 * 32 - 32] = 1  # first byte of the proposer word
    with pytest.raises(HeaderError):
        Header.decode(bytes(data))


def test_block_bounds() -> None:
    big = bytes(MAX_TX_BYTES)
    with pytest.raises(BlockError):
        LAB.block(1, b"x", b"x")
    with pytest.raises(BlockError):
        LAB.block(1, big + b"1")
    many = [big[:-4] + i.to_bytes(4, "big") for i in range(MAX_BLOCK_TX_BYTES // MAX_TX_BYTES)]
    assert LAB.block(1, *many).txs[0] == many[0]
    with pytest.raises(BlockError):
        LAB.block(1, *many, b"one more")
    with pytest.raises(BlockError):
        Block(BLOCK.header, (b"a",))


def every_message() -> list[Message]:
    cert = LAB.cert(0, BLOCK)
    changes = (LAB.view_change(0, 1), LAB.view_change(1, 1, cert), LAB.view_change(2, 1))
    return [
        LAB.pre_prepare(1, 0, BLOCK),
        LAB.prepare(0, 0, BLOCK),
        LAB.commit(0, 0, BLOCK),
        LAB.view_change(3, 1),
        LAB.view_change(3, 1, cert, BLOCK),
        LAB.new_view(2, 1, changes, BLOCK),
        Decided(BLOCK, LAB.qc(0, BLOCK)),
        Status(5),
        SyncRequest(6),
        SyncResponse((Decided(BLOCK, LAB.qc(0, BLOCK)),)),
    ]


@pytest.mark.parametrize("message", every_message(), ids=lambda m: type(m).__name__)
def test_message_round_trip(message: Message) -> None:
    wire = encode_message(message)
    assert decode_message(wire) == message
    assert encode_message(decode_message(wire)) == wire
    for broken in (wire + b"\0", wire[:-1], b"", b"\x81\x09", wire[:1] + b"\x18\x63" + wire[2:]):
        with pytest.raises(MessageError):
            decode_message(broken)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_cleanly(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode_message(data)


@pytest.mark.parametrize(
    "message",
    [
        Status(0),
        Prepare(1, 2**32, bytes(32), bytes(65)),
        Prepare(2**64, 0, bytes(32), bytes(65)),
        Prepare(1, 0, bytes(31), bytes(65)),
        Commit(1, 0, bytes(32), bytes(64)),
        ViewChange(1, 0, None, bytes(65)),
    ],
)
def test_fields_out_of_range_are_refused(message: Message) -> None:
    with pytest.raises(MessageError):
        decode_message(encode_message(message))


def test_a_message_of_more_items_than_any_has_is_refused_unread() -> None:
    """Four million small items would take the one thread that reads messages seconds to build."""
    many = MAX_MESSAGE_BYTES - 100
    for flood, why in (
        (b"\x9a" + many.to_bytes(4, "big") + bytes(many), "more than .* items"),
        (b"\x81" * many, "nested deeper"),
    ):
        with pytest.raises(MessageError, match=why):
            decode_message(flood)
    inner = b"\x9a" + (1 << 20).to_bytes(4, "big") + bytes(1 << 20)
    with pytest.raises(MessageError, match="more than .* items"):
        decode_message(codec.encode([int(Kind.PRE_PREPARE), 0, inner, bytes(65)]))


def test_the_largest_messages_are_within_the_item_limit() -> None:
    """A NEW-VIEW of 64 validators with full certificates, and a block with as many transactions as one holds."""
    cert = PreparedCert(0, BLOCK.header, tuple(bytes([i]) * 65 for i in range(MAX_VALIDATORS)))
    changes = tuple(ViewChange(1, 1, cert, bytes([i]) * 65) for i in range(MAX_VALIDATORS))
    full = LAB.block(1, *(i.to_bytes(2, "big") for i in range(MAX_BLOCK_TXS)))
    message = NewView(1, 1, changes, PrePrepare(1, full, bytes(65)), bytes(65))
    assert decode_message(encode_message(message)) == message


def test_nested_view_change_must_be_bare() -> None:
    changes = tuple(LAB.view_change(i, 1, LAB.cert(0, BLOCK), BLOCK) for i in (0, 1, 2))
    with pytest.raises(MessageError, match="carries a block"):
        decode_message(encode_message(LAB.new_view(2, 1, changes, BLOCK)))


def check(message: Message) -> bytes | None:
    """Verify a message as a fresh node would, with nothing cached."""
    domain = Domain(LAB_CHAIN, keccak256(b"lab"))
    match message:
        case PrePrepare():
            return verify_pre_prepare(domain, LAB.set, message)
        case Prepare() | Commit():
            return vote_signer(domain, LAB.set, message)
        case ViewChange():
            return verify_view_change(domain, LAB.set, message)
        case NewView():
            verify_new_view(domain, LAB.set, message)
        case Decided():
            verify_qc(domain, LAB.set, message.block.header, message.qc)
    return None


@pytest.mark.parametrize(
    "message",
    [m for m in every_message() if not isinstance(m, Status | SyncRequest | SyncResponse)],
    ids=lambda m: type(m).__name__,
)
def test_every_flipped_byte_is_noticed(message: Message) -> None:
    """Bug row 3: no nested byte may change without the message losing its proof.

    A flip may also name another signer outside the set.
    """
    wire = encode_message(message)
    sender = check(decode_message(wire))
    step = 1 if len(wire) < 900 else 3
    for position in range(0, len(wire), step):
        broken = bytearray(wire)
        broken[position] ^= 1 << (position % 8)
        try:
            other = decode_message(bytes(broken))
            assert check(other) != sender or sender is None
        except (MessageError, CertError):
            continue
        pytest.fail(f"byte {position} changed and the message still verifies: {other}")


def test_signatures_do_not_cross_kinds_heights_views_or_chains() -> None:
    """Bug row 10."""
    places = [
        (Kind.PREPARE, 1, 0, LAB.domain),
        (Kind.COMMIT, 1, 0, LAB.domain),
        (Kind.PRE_PREPARE, 1, 0, LAB.domain),
        (Kind.VIEW_CHANGE, 1, 0, LAB.domain),
        (Kind.PREPARE, 2, 0, LAB.domain),
        (Kind.PREPARE, 1, 1, LAB.domain),
        (Kind.PREPARE, 1, 0, Domain(LAB_CHAIN + 1, LAB.domain.genesis_hash)),
        (Kind.PREPARE, 1, 0, Domain(LAB_CHAIN, keccak256(b"other genesis"))),
        (Kind.COMMIT, 1, 0, Domain(LAB_CHAIN, keccak256(b"other genesis"))),
    ]
    digests = {domain.digest(kind, height, view, BLOCK.hash) for kind, height, view, domain in places}
    assert len(digests) == len(places)
    seal = LAB.commit(0, 0, BLOCK)
    with pytest.raises(CertError):
        vote_signer(LAB.domain, LAB.set, Prepare(1, 0, BLOCK.hash, seal.signature))


@pytest.mark.parametrize("signers", [(0, 1), (0, 1, 1), (1, 0, 2), (0, 0, 0)])
def test_certificates_need_a_quorum_of_ascending_signers(signers: tuple[int, ...]) -> None:
    with pytest.raises(CertError):
        verify_prepared(LAB.domain, LAB.set, LAB.cert(0, BLOCK, signers))
    with pytest.raises(CertError):
        verify_qc(LAB.domain, LAB.set, BLOCK.header, LAB.qc(0, BLOCK, signers))


def test_certificate_of_mixed_views_proves_nothing() -> None:
    seals = (LAB.commit(0, 0, BLOCK), LAB.commit(1, 1, BLOCK), LAB.commit(2, 0, BLOCK))
    with pytest.raises(CertError):
        verify_qc(LAB.domain, LAB.set, BLOCK.header, QuorumCert(0, tuple(s.signature for s in seals)))
    verify_qc(LAB.domain, LAB.set, BLOCK.header, LAB.qc(0, BLOCK, (1, 2, 3)))


def test_certificate_of_strangers_proves_nothing() -> None:
    other = Lab(7)
    strangers = tuple(i for i in range(7) if other.addresses[i] not in LAB.set)
    assert len(strangers) >= 3
    cert = PreparedCert(0, BLOCK.header, tuple(other.prepare(i, 0, BLOCK).signature for i in strangers[:3]))
    with pytest.raises(CertError, match="not a validator"):
        verify_prepared(LAB.domain, LAB.set, cert)


def test_new_view_rules() -> None:
    cert = LAB.cert(0, BLOCK)
    other = LAB.block(2, b"other")
    bare = tuple(LAB.view_change(i, 1) for i in (0, 1, 2))
    forced = (LAB.view_change(0, 1), LAB.view_change(1, 1, cert), LAB.view_change(2, 1))
    assert verify_new_view(LAB.domain, LAB.set, LAB.new_view(2, 1, forced, BLOCK)) == cert
    assert verify_new_view(LAB.domain, LAB.set, LAB.new_view(2, 1, bare, other)) is None
    wrong = [
        LAB.new_view(2, 1, forced, other),  # the certificate is passed over
        LAB.new_view(2, 1, bare[:2], other),  # no quorum
        LAB.new_view(2, 1, (bare[0], bare[0], bare[1]), other),  # one sender twice
        LAB.new_view(3, 1, bare, other),  # not the proposer of view 1
        LAB.new_view(2, 1, (*bare[:2], LAB.view_change(2, 2)), other),  # another view
        LAB.new_view(2, 1, (*bare[:2], LAB.view_change(2, 1, LAB.cert(1, BLOCK))), BLOCK),  # future certificate
    ]
    for message in wrong:
        with pytest.raises(CertError):
            verify_new_view(LAB.domain, LAB.set, message)


def test_highest_certificate_is_selected() -> None:
    low, high = LAB.block(1, b"low"), LAB.block(2, b"high")
    changes = (
        LAB.view_change(0, 3, LAB.cert(0, low)),
        LAB.view_change(1, 3, LAB.cert(1, high)),
        LAB.view_change(2, 3),
    )
    view_3_proposer = 0
    honest = LAB.new_view(view_3_proposer, 3, changes, high)
    assert verify_new_view(LAB.domain, LAB.set, honest) == LAB.cert(1, high)
    with pytest.raises(CertError, match="highest"):
        verify_new_view(LAB.domain, LAB.set, LAB.new_view(view_3_proposer, 3, changes, low))


def test_stored_certificate_round_trip() -> None:
    cert = LAB.cert(0, BLOCK)
    assert decode_cert(encode_cert(cert)) == cert
    with pytest.raises(MessageError):
        decode_cert(encode_cert(cert)[:-1])
    with pytest.raises(MessageError):
        decode_cert(b"\xf6")
