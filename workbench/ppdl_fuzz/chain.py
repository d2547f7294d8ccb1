"""A short real chain, made once: valid encodings of everything that is read from others, as seeds for changes.

Keys are the simulator's; signatures are secp256k1 as in production.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from hub.ppdl.application import Snapshot
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.evidence import Evidence, make_evidence
from hub.ppdl.consensus.messages import (
    Kind,
    Message,
    QuorumCert,
    Status,
    SyncRequest,
    SyncResponse,
    encode_message,
    kind_of,
)
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.net.cards import FOUNDING, PeerCard, sign_card
from hub.ppdl.net.handshake import NONCE_BYTES, Hello
from hub.ppdl.sim.forge import Forger
from hub.ppdl.sim.keys import CHAIN_ID, GENESIS_HASH, Scheme, make_scheme, validator_addresses, validator_keys
from hub.ppdl.snapshots.manifest import Manifest
from hub.ppdl.snapshots.messages import (
    AskSnapshots,
    Chunk,
    ChunkId,
    FetchChunk,
    NothingToOffer,
    Offer,
    SnapshotMessage,
    encode_snapshot_message,
)
from openmg.hashing import keccak256
from openmg.signing import sign_digest

VALIDATORS = 4
FIRST_MS = 1_781_485_200_000
CHUNK = b"a snapshot of one chunk"
_ISSUED_S, _EXPIRES_S = 1_781_485_200, 1_813_021_200
CERTIFICATE = bytes.fromhex(
    "308201a030820147a003020102021468fec0321911a710b35d3a2d61f11c7c00d2958f300a06082a8648ce3d040302303831363034060355"
    "04030c2d5050444c2037646162303036303132333963343361633338363337633736653435343565316665633132396165301e170d323630"
    "3631343031303030305a170d3237303631353031303030305a30383136303406035504030c2d5050444c2037646162303036303132333963"
    "3433616333383633376337366534353435653166656331323961653059301306072a8648ce3d020106082a8648ce3d03010703420004d843"
    "1c193175f1c7a31fd1d47be6e69d724c20b2f7d547108a3179a1fd5bf00a93e72c0e6aeeffee445f72f1a85a9b25f3805cfa22824b88fc5c"
    "8ff7361e3771a32f302d300c0603551d130101ff04023000301d0603551d250416301406082b0601050507030106082b0601050507030230"
    "0a06082a8648ce3d0403020347003044022037281269a5e0d0893751d91547a9392d8ccef67c43ed28116c9f5c14980adb41022065ea22da"
    "1bdc41621fbfe1daf689b1bb348abe1889e2f8e14306d3286bf503c7"
)
"""Of `hub.operators.certificates.make_certificate`, made once: a fresh one differs each time, and no run could be replayed."""


@dataclass(frozen=True)
class Chain:
    """Two decided blocks after the genesis, and who can sign."""

    scheme: Scheme
    addresses: tuple[bytes, ...]
    tip: Tip
    first: Block
    second: Block

    @property
    def forger(self) -> Forger:
        """Signs with the validators' keys."""
        return Forger(self.scheme)

    @property
    def quorum(self) -> tuple[bytes, ...]:
        """Three of the four."""
        return self.addresses[:3]


@cache
def chain() -> Chain:
    """The chain."""
    scheme, addresses = make_scheme(VALIDATORS, real_crypto=True), tuple(validator_addresses(VALIDATORS))
    members, forger = ValidatorSet(addresses), Forger(scheme)
    tip = Tip(0, GENESIS_HASH, 0, keccak256(b"genesis state"), members, members)
    first = forger.block(tip, members.proposer(1, 0), (b"one", b"another"), FIRST_MS)
    after = Tip(1, first.hash, first.header.timestamp_ms, keccak256(b"state"), members, members)
    second = forger.block(after, members.proposer(2, 0), (), FIRST_MS + 1000)
    return Chain(scheme, addresses, tip, first, second)


@cache
def messages() -> tuple[Message, ...]:
    """An honest message of every kind about block 1; of some kinds with and without their optional parts."""
    made, members = chain(), chain().tip.validators
    forger, first = made.forger, made.first
    cert = forger.prepared(made.quorum, 0, first)
    changes = tuple(forger.view_change(who, 1, 2, cert if who == made.quorum[0] else None) for who in made.quorum)
    decided = forger.decided(made.quorum, 0, first)
    with_block = type(changes[0])(1, 2, cert, changes[0].signature, first)
    return (
        forger.pre_prepare(members.proposer(1, 0), 0, first),
        forger.prepare(made.addresses[0], 1, 0, first.hash),
        forger.commit(made.addresses[3], 1, 0, first.hash),
        changes[1],
        with_block,
        forger.new_view(members.proposer(1, 2), 2, changes, first),
        decided,
        Status(1),
        SyncRequest(1),
        SyncResponse((decided, forger.decided(made.addresses, 1, made.second))),
    )


@cache
def wires() -> tuple[bytes, ...]:
    """`messages` encoded."""
    assert {kind_of(message) for message in messages()} == set(Kind)
    return tuple(map(encode_message, messages()))


@cache
def manifest() -> Manifest:
    """A proved manifest of a snapshot after block 1."""
    made = chain()
    qc: QuorumCert = made.forger.decided(made.quorum, 0, made.second).qc
    return Manifest(Snapshot(1, 1, keccak256(CHUNK)), made.first.header, made.second.header, qc, made.addresses, ())


@cache
def snapshot_wires() -> tuple[bytes, ...]:
    """Messages of state transfer."""
    place = ChunkId(1, 1, manifest().snapshot.hash, 0)
    said: list[SnapshotMessage] = [AskSnapshots(0), Offer(manifest()), NothingToOffer(), FetchChunk(place), Chunk(place, CHUNK)]
    return tuple(map(encode_snapshot_message, said))


@cache
def evidence() -> Evidence:
    """A validator that voted twice."""
    made = chain()
    who, forger = made.addresses[1], made.forger
    one, other = (forger.prepare(who, 1, 0, digest) for digest in (made.first.hash, made.second.hash))
    return make_evidence(Kind.PREPARE, 1, 0, (one.digest, one.signature), (other.digest, other.signature))


@cache
def card() -> PeerCard:
    """A validator's card with a certificate of its own."""
    address, key = chain().addresses[0], validator_keys(VALIDATORS)[0]
    times = _ISSUED_S, _ISSUED_S, _EXPIRES_S
    return sign_card(PeerCard(CHAIN_ID, FOUNDING, address, "alpha", "hub.example", 7000, CERTIFICATE, *times), key)


def hello(number: int) -> Hello:
    """A validator's introduction."""
    return Hello(CHAIN_ID, GENESIS_HASH, chain().addresses[number], bytes([number]) * NONCE_BYTES)


def signed_by(number: int, digest: bytes) -> bytes:
    """A validator's signature over 32 bytes."""
    return sign_digest(validator_keys(VALIDATORS)[number], digest)
