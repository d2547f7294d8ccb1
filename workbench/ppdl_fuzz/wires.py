"""Every decoder of what others send: any bytes give a value or the decoder's own error, and only canonical bytes a value.

For each: valid seeds, the decoder with the one error it may raise, and the encoder. Rules
- an accepted value encodes to exactly the bytes it came from;
- an error is the decoder's own and tells no more than MAX_REASON characters: a sender does not fill the log;
- a changed message that still decodes is not what its honest sender signed (`not_the_senders`).
Not here: what a replica does with it (`core.py`), the application's transactions (`application.py`).
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from cryptography.utils import CryptographyDeprecationWarning

from hub.ppdl.consensus.block import Block, BlockError
from hub.ppdl.consensus.certs import CertError, Domain, verify_new_view, verify_qc, verify_view_change
from hub.ppdl.consensus.decoding import decode_cert, decode_message
from hub.ppdl.consensus.evidence import Evidence, EvidenceError
from hub.ppdl.consensus.header import Header, HeaderError
from hub.ppdl.consensus.messages import (
    Commit,
    Decided,
    Message,
    MessageError,
    NewView,
    Prepare,
    PrePrepare,
    SyncResponse,
    ViewChange,
    encode_cert,
    encode_message,
    kind_of,
)
from hub.ppdl.listeners import gossip_frame, gossip_of
from hub.ppdl.net.cards import CardError, PeerCard, decode_card, sign_card
from hub.ppdl.net.framing import frame_of, read_head, read_payload
from hub.ppdl.net.handshake import (
    DIALER,
    LISTENER,
    HandshakeError,
    Hello,
    check_proof,
    check_same_chain,
    decode_hello,
    proof_digest,
)
from hub.ppdl.net.transport import CHANNEL_BYTES, MAX_FRAME_BYTES, Channel
from hub.ppdl.sim.keys import CHAIN_ID, GENESIS_HASH, validator_keys
from hub.ppdl.snapshots.manifest import ManifestError, decode_manifest
from hub.ppdl.snapshots.messages import SnapshotMessageError, decode_snapshot_message, encode_snapshot_message
from openmg import codec
from workbench.ppdl_fuzz import chain
from workbench.ppdl_fuzz.mutation import bent, reshaped
from workbench.ppdl_fuzz.tape import Finding, Tape, require

MAX_REASON = 400
"""Characters. The longest fixed sentence has some 200."""
_LIMITS = {int(channel): size for channel, size in CHANNEL_BYTES.items()}
MAX_FRAMES = 64
"""Frames read from one stream."""


@dataclass(frozen=True)
class Wire:
    """One encoding that others send."""

    seeds: Callable[[], Sequence[bytes]]
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    error: type[Exception]


def _gossip(frame: bytes) -> tuple[str, bytes]:
    heard = gossip_of(frame)
    if heard is None:
        raise LookupError("no gossip frame")
    return heard


_BIG = codec.encode({"list": [0, -1, 2**64, -(2**64) - 1, 2**255, None, True], "text": "ä" * 30, "bytes": bytes(300)})

WIRES: dict[str, Wire] = {
    "codec": Wire(lambda: (_BIG, *chain.wires()), codec.decode, codec.encode, codec.DecodeError),
    "message": Wire(chain.wires, decode_message, encode_message, MessageError),
    "certificate": Wire(
        lambda: [encode_cert(chain.chain().forger.prepared(chain.chain().quorum, 3, chain.chain().first))],
        decode_cert,
        encode_cert,
        MessageError,
    ),
    "header": Wire(lambda: [chain.chain().first.header.encoded], Header.decode, lambda header: header.encoded, HeaderError),
    "block": Wire(
        lambda: [chain.chain().first.encoded, chain.chain().second.encoded],
        Block.decode,
        lambda block: block.encoded,
        BlockError,
    ),
    "evidence": Wire(lambda: [chain.evidence().encoded], Evidence.decode, lambda proof: proof.encoded, EvidenceError),
    "snapshot": Wire(chain.snapshot_wires, decode_snapshot_message, encode_snapshot_message, SnapshotMessageError),
    "manifest": Wire(lambda: [chain.manifest().encoded], decode_manifest, lambda manifest: manifest.encoded, ManifestError),
    "card": Wire(lambda: [chain.card().encode()], decode_card, PeerCard.encode, CardError),
    "hello": Wire(lambda: [chain.hello(0).encode()], decode_hello, Hello.encode, HandshakeError),
    "gossip": Wire(lambda: [gossip_frame("demo", b"payload")], _gossip, lambda heard: codec.encode(list(heard)), LookupError),
}


def check(wire: Wire, data: bytes) -> Any:
    """The value, or None when it was refused; raises Finding, or whatever the decoder should not have raised."""
    try:
        value = wire.decode(data)
    except wire.error as error:
        require(len(str(error)) <= MAX_REASON, f"a reason of {len(str(error))} characters: {str(error)[:80]!r}")
        return None
    require(wire.encode(value) == data, "a value was read from bytes that are not its encoding")
    return value


def drawn(tape: Tape, seeds: Sequence[bytes]) -> bytes:
    """Any bytes, or changes of a seed; the last case leaves it as it is."""
    match tape.below(8):
        case 0:
            return tape.take(tape.below(512))
        case 1 | 2:
            return bent(tape, tape.pick(seeds))
        case 7:
            return tape.pick(seeds)
        case _:
            data = tape.pick(seeds)
            for _ in range(1 + tape.below(2)):
                data = reshaped(tape, data)
            return data


def target(name: str) -> Callable[[Tape], set[str]]:
    """The target that fuzzes one of WIRES."""

    def run(tape: Tape) -> set[str]:
        wire = WIRES[name]
        value = check(wire, drawn(tape, wire.seeds()))
        return {"refused" if value is None else f"accepted {type(value).__name__}"}

    return run


# what decodes still proves nothing that its sender did not say


def not_the_senders(honest: Message, changed: Message) -> None:
    """Raises Finding when a changed message still counts as said by a validator in the place of the honest one."""
    if changed == honest:
        return
    domain, members = Domain(CHAIN_ID, GENESIS_HASH), chain.chain().tip.validators
    try:
        match changed:
            case PrePrepare() | Prepare() | Commit():
                place = kind_of(changed), changed.height, changed.view, changed.digest
                require(domain.signer(*place, changed.signature) not in members, f"a changed {place[0].name} has a signer")
            case ViewChange():
                verify_view_change(domain, members, changed)
                bare = isinstance(honest, ViewChange) and changed.bare() == honest.bare()
                require(bare and _same_block(honest, changed), "a changed VIEW_CHANGE is its sender's")
            case NewView():
                verify_new_view(domain, members, changed)
                raise Finding("a changed NEW_VIEW is its sender's")
            case Decided():
                _proved(domain, honest, changed)
            case SyncResponse():  # one without blocks says that its sender lacks them, and proves nothing
                for first in changed.blocks[:1]:
                    _proved(domain, honest, first)
    except CertError:
        return


def _same_block(honest: Message, changed: ViewChange) -> bool:
    """A block beside the signature may be missing, but not be another."""
    return changed.block is None or (isinstance(honest, ViewChange) and changed.block == honest.block)


def _proved(domain: Domain, honest: Message, changed: Decided) -> None:
    """A proved block is the honest one, with seals of the same view."""
    verify_qc(domain, chain.chain().tip.validators, changed.block.header, changed.qc)
    blocks = honest.blocks if isinstance(honest, SyncResponse) else (honest,)
    proved = [one.block for one in blocks if isinstance(one, Decided)]
    require(changed.block in proved, "a changed block is proved")


def bend_message(tape: Tape) -> set[str]:
    """The target: a changed message is refused, or counts as nobody's."""
    honest = tape.pick(chain.messages())
    data = bent(tape, encode_message(honest)) if tape.below(2) else reshaped(tape, encode_message(honest))
    try:
        changed = decode_message(data)
    except MessageError:
        return {"refused"}
    not_the_senders(honest, changed)
    return {f"read {type(changed).__name__}"}


# cards and handshakes that are signed after they were changed


def signed_card(tape: Tape) -> set[str]:
    """The target: a validator signs a card with a field or a certificate that is bad."""
    good = chain.card()
    fields = [name for name in PeerCard.__dataclass_fields__ if name not in ("signature", "chain_id")]
    name = tape.pick([*fields, *["certificate"] * 8])
    old = getattr(good, name)
    if isinstance(old, bytes):
        new: object = bent(tape, old)
    elif isinstance(old, str):
        new = tape.pick(("", old + ".", "-", old * 40, "a b", "ä", "\0", old.upper()))
    else:
        new = tape.number(2**64, old)
    card = sign_card(replace(good, **{name: new}), validator_keys(chain.VALIDATORS)[0])  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # a serial number below 1 is taken, with a warning
        value = check(WIRES["card"], card.encode())
    return {f"{name} refused" if value is None else f"{name} accepted"}


def handshake(tape: Tape) -> set[str]:
    """The target: an introduction and a proof of it, either of them changed."""
    mine, theirs = chain.hello(0), chain.hello(1)
    wire = drawn(tape, [theirs.encode(), mine.encode()])
    role, binding = tape.pick((DIALER, LISTENER)), tape.pick((b"", bytes(64)))
    proof = chain.signed_by(1, proof_digest(role, theirs, mine, binding))
    shown = proof if tape.below(2) else bent(tape, proof)
    try:
        heard = decode_hello(wire)
        check_same_chain(mine, heard)
        check_proof(DIALER, mine, heard, shown)
    except HandshakeError as error:
        require(len(str(error)) <= MAX_REASON, "a long reason")
        return {f"refused: {error}"}
    require(heard == theirs and shown == proof and role == DIALER and not binding, "a changed proof holds")
    return {"greeted"}


# the stream


@cache
def _no_loop() -> asyncio.AbstractEventLoop:
    """A stream asks its loop for nothing while it need not wait."""
    loop = asyncio.new_event_loop()
    loop.close()
    return loop


async def _frames(stream: bytes) -> list[tuple[int, bytes]]:
    reader = asyncio.StreamReader(loop=_no_loop())
    reader.feed_data(stream)
    reader.feed_eof()
    frames: list[tuple[int, bytes]] = []
    while len(frames) < MAX_FRAMES:
        try:
            channel, size = await read_head(reader)
            require(size < _LIMITS.get(channel, MAX_FRAME_BYTES), f"a payload of {size} bytes is read on channel {channel}")
            frames.append((channel, await read_payload(reader, size)))
        except (HandshakeError, asyncio.IncompleteReadError):
            break
    return frames


def _read_all(stream: bytes) -> list[tuple[int, bytes]]:
    """The frames of a stream that is all there: reading it never waits, so no event loop runs."""
    reading = _frames(stream)
    try:
        reading.send(None)
    except StopIteration as done:
        frames: list[tuple[int, bytes]] = done.value
        return frames
    reading.close()
    raise Finding("reading a stream that has ended waits for more")


def framing(tape: Tape) -> set[str]:
    """The target: a stream of frames, changed; what is read is what stands there, up to the first frame that is wrong."""
    stream = b""
    for _ in range(tape.below(5)):
        stream += frame_of(tape.pick(tuple(Channel)), tape.chunk())
    if tape.below(4):
        stream = bent(tape, stream)
    frames = _read_all(stream)
    read = b"".join((1 + len(body)).to_bytes(4, "big") + bytes([channel]) + body for channel, body in frames)
    require(stream.startswith(read), "frames were read that the stream does not hold")
    return {f"{min(len(frames), 6)} frames", "whole" if read == stream else "broken off"}
