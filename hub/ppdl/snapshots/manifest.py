"""The manifest of a snapshot: what it holds, and the proof that the state in it is the chain's.

A quorum signs headers, and header h + 1 carries the app hash after block h. So the manifest of a snapshot at h carries
header h + 1 with its quorum certificate. Which validators may certify it follows from the genesis: every header that
changed the set, certified by the set before it, with the addresses of the next. Their hash stands in the header.

`verify` needs nothing but the genesis and is pure. What it proves is the *state*; that the chunk hashes are those of
this state it cannot prove, and `sync.py` asks for f + 1 validators that name the same. Who holds the keys of a quorum
of some *former* set can make another history (the "long range" of proof of stake and of authority alike). A hub that has
a part of the chain takes none that contradicts it (`check_history`); one without any trusts its genesis file for as long
as those keys are kept, and whoever runs it should compare its height and block hash with another operator's.

Bounds: MAX_SET_CHANGES in a history. Not here: messages, peers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hub.ppdl.application import CHUNK_HASH_BYTES, MAX_CHUNKS, Snapshot
from hub.ppdl.consensus.certs import CertError, Domain, verify_qc
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.header import Header, HeaderError
from hub.ppdl.consensus.messages import MAX_VIEW, QuorumCert
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.genesis import ADDRESS_BYTES, MAX_VALIDATORS, Genesis
from hub.ppdl.rows import SetChange
from openmg import codec
from openmg.signing import SIGNATURE_BYTES

MAX_SET_CHANGES = 512
"""Sets since the genesis. With 64 validators each takes 4.4 KiB, all together 2.3 MiB of a frame's 4, and at most
22,000 signatures (1.5 s) before a false history is known to be one and its sender dropped."""
MAX_MANIFEST_BYTES = 3 * 1024 * 1024
_MAX_ITEMS = MAX_SET_CHANGES * (MAX_VALIDATORS + 8) + 256
MAX_FORMAT = 2**32 - 1


class ManifestError(ValueError):
    """Bytes that are no manifest, or one that proves nothing; the text says why."""


@dataclass(frozen=True)
class Manifest:
    """A snapshot after the block with `header`, proved by the header that follows and its certificate.

    `next_set` agrees on the block after `following`; `changes` is the history of sets up to `header`, ascending.
    """

    snapshot: Snapshot
    header: Header
    following: Header
    qc: QuorumCert
    next_set: tuple[bytes, ...]
    changes: tuple[SetChange, ...]

    @property
    def height(self) -> int:
        """Height of the snapshot."""
        return self.header.height

    @cached_property
    def key(self) -> bytes:
        """Names what a peer vouches for: state and chunks. Certificates may differ from peer to peer."""
        return codec.encode([self.following.hash, self.snapshot.format, self.snapshot.hash])

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes; `decode_manifest` is the exact inverse."""
        changes = [[c.header.encoded, *_qc_fields(c.qc), b"".join(c.opened)] for c in self.changes]
        snapshot = [self.snapshot.format, self.snapshot.metadata]
        headers = [self.header.encoded, self.following.encoded, *_qc_fields(self.qc), b"".join(self.next_set)]
        return codec.encode([snapshot, headers, changes])


def _qc_fields(qc: QuorumCert) -> list[Any]:
    return [qc.view, b"".join(qc.seals)]


def verify(domain: Domain, genesis: Genesis, manifest: Manifest) -> Tip:
    """The tip after the snapshot's block, proved from the genesis on. Raises ManifestError."""
    try:
        return _verified(domain, ValidatorSet(genesis.validators), manifest)
    except (CertError, ValueError) as error:
        raise ManifestError(str(error)) from error


def check_history(manifest: Manifest, known: Sequence[SetChange], height: int) -> None:
    """Refuse a history that differs from the changes of the set that this hub knows up to `height`, all of them.

    Raises ManifestError.
    """
    told = [change.header.hash for change in manifest.changes if change.header.height <= height]
    if told != [change.header.hash for change in known]:
        raise ManifestError("its history of validators contradicts the blocks that this hub has")


def _verified(domain: Domain, validators: ValidatorSet, manifest: Manifest) -> Tip:
    header, following = manifest.header, manifest.following
    last = 0
    for change in manifest.changes:
        if not last < change.header.height <= header.height:
            raise ManifestError("history of validators is not in ascending order up to the snapshot")
        last = change.header.height
        _certified(domain, validators, change.header, change.qc)
        validators = _opened(change.header, change.opened)
    if following.height != header.height + 1 or following.parent_hash != header.hash:
        raise ManifestError("the certified header does not follow the snapshot's block")
    _certified(domain, validators, following, manifest.qc)
    next_validators = _opened(following, manifest.next_set)
    place = header.height, header.hash, header.timestamp_ms, following.app_hash
    return Tip(*place, validators, next_validators)


def _certified(domain: Domain, validators: ValidatorSet, header: Header, qc: QuorumCert) -> None:
    """Verify that the header is this chain's and that the set it names, which is the proved one, decided it."""
    if header.chain_id != domain.chain_id or header.validators_hash != validators.hash:
        raise ManifestError(f"header {header.height} is of another chain, or a change of validators is left out")
    verify_qc(domain, validators, header, qc)


def _opened(header: Header, addresses: tuple[bytes, ...]) -> ValidatorSet:
    """The set that agrees after this header."""
    validators = ValidatorSet(addresses)
    if validators.hash != header.next_validators_hash:
        raise ManifestError(f"validators after header {header.height} are not those that it names")
    return validators


def decode_manifest(data: bytes) -> Manifest:
    """Parse canonical bytes. Raises ManifestError for anything else; proves nothing yet."""
    try:
        value = codec.decode(data, max_bytes=MAX_MANIFEST_BYTES, max_items=_MAX_ITEMS)
        snapshot, headers, changes = _listed(value, 3)
        format_, metadata = _listed(snapshot, 2)
        header, following, view, seals, next_set = _listed(headers, 5)
        if not isinstance(changes, list) or len(changes) > MAX_SET_CHANGES:
            raise ManifestError(f"manifest lists more than {MAX_SET_CHANGES} changes of validators, or none")
        first = _header(header)
        return Manifest(
            Snapshot(first.height, _int(format_, MAX_FORMAT), _hashes(metadata)),
            first,
            _header(following),
            _qc(view, seals),
            _set(next_set),
            tuple(_change(change) for change in changes),
        )
    except (codec.DecodeError, HeaderError) as error:
        raise ManifestError(str(error)) from error


def _change(value: Any) -> SetChange:
    header, view, seals, opened = _listed(value, 4)
    return SetChange(_header(header), _qc(view, seals), _set(opened))


def _listed(value: Any, length: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise ManifestError("list has a wrong length")
    return value


def _int(value: Any, high: int) -> int:
    if type(value) is not int or not 0 <= value <= high:
        raise ManifestError("number is out of range")
    return value


def _header(value: Any) -> Header:
    if type(value) is not bytes:
        raise ManifestError("header is not bytes")
    header = Header.decode(value)
    if header.height < 1:
        raise ManifestError("header has no height")
    return header


def _cut(value: Any, size: int, most: int) -> Sequence[bytes]:
    if type(value) is not bytes or not value or len(value) % size or len(value) > size * most:
        raise ManifestError("bytes have a wrong length")
    return [value[i : i + size] for i in range(0, len(value), size)]


def _hashes(value: Any) -> bytes:
    return b"".join(_cut(value, CHUNK_HASH_BYTES, MAX_CHUNKS))


def _qc(view: Any, seals: Any) -> QuorumCert:
    return QuorumCert(_int(view, MAX_VIEW), tuple(_cut(seals, SIGNATURE_BYTES, MAX_VALIDATORS)))


def _set(value: Any) -> tuple[bytes, ...]:
    return tuple(_cut(value, ADDRESS_BYTES, MAX_VALIDATORS))
