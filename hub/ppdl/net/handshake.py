"""The hello by which two validators prove their keys to each other before anything else is read.

Both sides send HELLO = [tag, chain id, genesis hash, address, 32 random bytes], then a signature over role,
chain, genesis, both addresses and both nonces: fresh, bound to this chain and to these two, not to be
reflected (roles differ). Afterwards the connection itself is trusted: a hello stops impostors and strangers,
not someone who can rewrite packets between two hubs. Consensus messages are signed one by one and do not
depend on it; mutual TLS around the same frames comes later and closes the gap for the rest.

Pure functions over bytes; sockets are in `tcp.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.ppdl.genesis import ADDRESS_BYTES
from openmg import codec
from openmg.signing import SIGNATURE_BYTES, InvalidSignature, domain_digest, recover

HELLO_TAG = "openmg.ppdl.hello.v1"
NONCE_BYTES = 32
MAX_HELLO_BYTES = 256
DIALER, LISTENER = b"dialer", b"listener"


class HandshakeError(ConnectionError):
    """The other side is not the validator it should be; the text says what differs."""


@dataclass(frozen=True, slots=True)
class Hello:
    """One side's introduction."""

    chain_id: int
    genesis_hash: bytes
    address: bytes
    nonce: bytes

    def encode(self) -> bytes:
        """Canonical bytes."""
        return codec.encode([HELLO_TAG, self.chain_id, self.genesis_hash, self.address, self.nonce])


def decode_hello(data: bytes) -> Hello:
    """Parse a hello. Raises HandshakeError."""
    try:
        fields = codec.decode(data, max_bytes=MAX_HELLO_BYTES)
    except codec.DecodeError as error:
        raise HandshakeError("peer does not speak this protocol") from error
    if not isinstance(fields, list) or len(fields) != 5 or fields[0] != HELLO_TAG:
        raise HandshakeError("peer does not speak this protocol")
    _, chain_id, genesis_hash, address, nonce = fields
    sizes = ((genesis_hash, 32), (address, ADDRESS_BYTES), (nonce, NONCE_BYTES))
    if type(chain_id) is not int or any(type(b) is not bytes or len(b) != size for b, size in sizes):
        raise HandshakeError("peer sent a malformed hello")
    return Hello(chain_id, genesis_hash, address, nonce)


def proof_digest(role: bytes, signer: Hello, other: Hello) -> bytes:
    """The 32 bytes that `signer`, in `role`, signs to prove its address to `other`."""
    parts = (signer.address, other.address, signer.nonce, other.nonce)
    payload = role + b"\0" + signer.genesis_hash + b"".join(parts)
    return domain_digest("ppdl.hello.v1", signer.chain_id, payload)


def check_same_chain(mine: Hello, theirs: Hello) -> None:
    """Raises HandshakeError unless both are on one chain under different keys."""
    if (theirs.chain_id, theirs.genesis_hash) != (mine.chain_id, mine.genesis_hash):
        raise HandshakeError("peer is on another chain (chain id or genesis differs)")
    if theirs.address == mine.address:
        raise HandshakeError("peer uses this validator's own key: two hubs must never share one")
    if theirs.nonce == mine.nonce:
        raise HandshakeError("peer reflects our hello")


def check_proof(role: bytes, mine: Hello, theirs: Hello, signature: bytes) -> None:
    """Check the proof that the other side, in `role`, gave. Raises HandshakeError."""
    if len(signature) != SIGNATURE_BYTES:
        raise HandshakeError("peer sent a malformed proof")
    try:
        signer = recover(proof_digest(role, theirs, mine), signature)
    except InvalidSignature as error:
        raise HandshakeError("peer sent a malformed proof") from error
    if signer != theirs.address:
        raise HandshakeError("peer does not hold the key of the address it claims")
