"""Consensus messages: frozen dataclasses and their canonical encoding.

Rules: one message has one encoding. Votes name height, view and block digest; PRE-PREPARE, PREPARE,
VIEW-CHANGE and NEW-VIEW are signed over a domain with message kind, chain id and genesis; a COMMIT's
signature is the seal an EVM contract checks. STATUS and SYNC-REQUEST are hints and carry no signature of
their own: the transport names their sender, and nothing moves on their word. DECIDED proves itself by its
quorum certificate.

Not here: the decoder (`decoding.py`), signature checks (`certs.py`), what to do with a message (`replica.py`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.header import Header
from openmg import codec
from openmg.hashing import keccak256

MAX_MESSAGE_BYTES = 4 * 1024 * 1024 - 64  # with the frame's own bytes it fits 4 MiB
MAX_MESSAGE_ITEMS = 8192  # a NEW-VIEW of MAX_VALIDATORS full certificates has 73 items for each, about 4700
MAX_VIEW = 2**32 - 1
MAX_SYNC_BLOCKS = 16
MAX_SYNC_BYTES = 3 * 1024 * 1024
DIGEST_BYTES = 32
NO_CERTIFICATE = bytes(DIGEST_BYTES)


class MessageError(ValueError):
    """Bytes that are not a consensus message."""


class Kind(enum.IntEnum):
    """Message kinds; the number is part of the encoding and of what is signed."""

    PRE_PREPARE = 1
    PREPARE = 2
    COMMIT = 3
    VIEW_CHANGE = 4
    NEW_VIEW = 5
    DECIDED = 6
    STATUS = 7
    SYNC_REQUEST = 8
    SYNC_RESPONSE = 9


@dataclass(frozen=True)
class PrePrepare:
    """The proposer's block for (height, view)."""

    kind: ClassVar[Kind] = Kind.PRE_PREPARE
    view: int
    block: Block
    signature: bytes

    @property
    def header(self) -> Header:
        return self.block.header

    @property
    def height(self) -> int:
        return self.block.height

    @property
    def digest(self) -> bytes:
        """Block hash."""
        return self.block.hash


@dataclass(frozen=True)
class Announcement:
    """A PRE-PREPARE of which only the block's header was read. Its signer is held to it as to the whole."""

    kind: ClassVar[Kind] = Kind.PRE_PREPARE
    view: int
    header: Header
    signature: bytes

    @property
    def height(self) -> int:
        return self.header.height

    @property
    def digest(self) -> bytes:
        """Block hash."""
        return self.header.hash


@dataclass(frozen=True)
class Prepare:
    """A vote that the block with this digest is the one of (height, view)."""

    kind: ClassVar[Kind] = Kind.PREPARE
    height: int
    view: int
    digest: bytes
    signature: bytes


@dataclass(frozen=True)
class Commit:
    """A vote that the block is prepared at a quorum; `signature` is the seal over `header.seal_digest`."""

    kind: ClassVar[Kind] = Kind.COMMIT
    height: int
    view: int
    digest: bytes
    signature: bytes


@dataclass(frozen=True)
class PreparedCert:
    """Proof that a quorum sent PREPARE for one block in one view.

    Its header and the signatures, signers ascending.
    """

    view: int
    header: Header
    signatures: tuple[bytes, ...]

    @cached_property
    def digest(self) -> bytes:
        """What a VIEW-CHANGE signs of it: keccak-256 of its canonical encoding."""
        return keccak256(codec.encode(_cert_fields(self)))


@dataclass(frozen=True)
class ViewChange:
    """Wish to enter `view`.

    Carries the highest prepared certificate of its sender, and beside the signature that block itself.
    """

    kind: ClassVar[Kind] = Kind.VIEW_CHANGE
    height: int
    view: int
    cert: PreparedCert | None
    signature: bytes
    block: Block | None = None

    @property
    def digest(self) -> bytes:
        """Digest of the certificate, or NO_CERTIFICATE."""
        return NO_CERTIFICATE if self.cert is None else self.cert.digest

    def bare(self) -> ViewChange:
        """The same signed statement without the attached block, as a NEW-VIEW carries it."""
        return self if self.block is None else replace(self, block=None)


@dataclass(frozen=True)
class NewView:
    """Start of `view`: a quorum of VIEW-CHANGE messages for it, senders ascending, and the proposal that
    follows from them.
    """

    kind: ClassVar[Kind] = Kind.NEW_VIEW
    height: int
    view: int
    view_changes: tuple[ViewChange, ...]
    proposal: PrePrepare
    signature: bytes

    @cached_property
    def digest(self) -> bytes:
        """What its sender signs."""
        return _new_view_digest(self.proposal, self.view_changes)


@dataclass(frozen=True)
class NewViewAnnouncement:
    """A NEW-VIEW of whose proposal only the block's header was read: what it proves can be checked all the same."""

    kind: ClassVar[Kind] = Kind.NEW_VIEW
    height: int
    view: int
    view_changes: tuple[ViewChange, ...]
    proposal: Announcement
    signature: bytes

    @cached_property
    def digest(self) -> bytes:
        """What its sender signs."""
        return _new_view_digest(self.proposal, self.view_changes)


@dataclass(frozen=True)
class QuorumCert:
    """Proof that a block is decided: at least q commit seals of one view, signers strictly ascending."""

    view: int
    seals: tuple[bytes, ...]


@dataclass(frozen=True)
class Decided:
    """A decided block with its proof."""

    kind: ClassVar[Kind] = Kind.DECIDED
    block: Block
    qc: QuorumCert

    @property
    def header(self) -> Header:
        return self.block.header

    @property
    def height(self) -> int:
        return self.block.height


@dataclass(frozen=True)
class DecidedAnnouncement:
    """A DECIDED of which only the block's header was read, and its proof."""

    kind: ClassVar[Kind] = Kind.DECIDED
    header: Header
    qc: QuorumCert

    @property
    def height(self) -> int:
        return self.header.height


@dataclass(frozen=True)
class Status:
    """A hint: the height its sender is working on."""

    kind: ClassVar[Kind] = Kind.STATUS
    height: int


@dataclass(frozen=True)
class SyncRequest:
    """Asks for decided blocks from `height` on."""

    kind: ClassVar[Kind] = Kind.SYNC_REQUEST
    height: int


@dataclass(frozen=True)
class SyncResponse:
    """Consecutive decided blocks, at most MAX_SYNC_BLOCKS; none when the one asked for is not kept."""

    kind: ClassVar[Kind] = Kind.SYNC_RESPONSE
    blocks: tuple[Decided, ...]


Announceable = Announcement | NewViewAnnouncement | DecidedAnnouncement
"""A message with a block of which the replica can make no use."""
Message = PrePrepare | Prepare | Commit | ViewChange | NewView | Decided | Status | SyncRequest | SyncResponse


def _new_view_digest(proposal: PrePrepare | Announcement, changes: tuple[ViewChange, ...]) -> bytes:
    """Over the proposal's digest and every VIEW-CHANGE signature."""
    return keccak256(proposal.digest + b"".join(vc.signature for vc in changes))


def _cert_fields(cert: PreparedCert) -> list[Any]:
    return [cert.view, cert.header.encoded, list(cert.signatures)]


def _pre_prepare_fields(message: PrePrepare) -> list[Any]:
    return [message.view, message.block.encoded, message.signature]


def _view_change_fields(message: ViewChange) -> list[Any]:
    cert = None if message.cert is None else _cert_fields(message.cert)
    block = None if message.block is None else message.block.encoded
    return [message.height, message.view, cert, message.signature, block]


def _decided_fields(message: Decided) -> list[Any]:
    return [message.block.encoded, message.qc.view, list(message.qc.seals)]


def _fields(message: Message) -> tuple[Kind, list[Any]]:
    match message:
        case PrePrepare():
            return Kind.PRE_PREPARE, _pre_prepare_fields(message)
        case Prepare():
            return Kind.PREPARE, [message.height, message.view, message.digest, message.signature]
        case Commit():
            return Kind.COMMIT, [message.height, message.view, message.digest, message.signature]
        case ViewChange():
            return Kind.VIEW_CHANGE, _view_change_fields(message)
        case NewView():
            changes = [_view_change_fields(vc) for vc in message.view_changes]
            proposal = _pre_prepare_fields(message.proposal)
            return Kind.NEW_VIEW, [message.height, message.view, changes, proposal, message.signature]
        case Decided():
            return Kind.DECIDED, _decided_fields(message)
        case Status():
            return Kind.STATUS, [message.height]
        case SyncRequest():
            return Kind.SYNC_REQUEST, [message.height]
        case SyncResponse():
            return Kind.SYNC_RESPONSE, [[_decided_fields(d) for d in message.blocks]]


def kind_of(message: Message) -> Kind:
    """The kind of a message."""
    return message.kind


def encode_message(message: Message) -> bytes:
    """Canonical bytes [kind, field, ...]."""
    kind, fields = _fields(message)
    return codec.encode([int(kind), *fields])


def encode_cert(cert: PreparedCert) -> bytes:
    """Canonical bytes of a certificate, as a vote log keeps it."""
    return codec.encode(_cert_fields(cert))
