"""The hello by which two validators prove their keys to each other before anything else is read.

Both sides send HELLO = [tag, chain id, genesis hash, address, 32 random bytes], then a signature over role,
chain, genesis, both addresses, both nonces and the connection's binding: fresh, bound to this chain and to these two, not to
be reflected (roles differ).

The binding is the SHA-256 of the dialer's certificate and that of the listener's, as each side saw them in its own TLS
handshake (channel binding; the idea is that of RFC 5929, tls-server-end-point, for both ends). Who sits in between shows
certificates of his own to each side, so the two bindings differ and a hello that he relays proves nothing. On plain loopback
connections the binding is empty: there a hello stops impostors and strangers, not someone who can rewrite packets.

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
NO_BINDING = b""
"""Of a plain connection; a TLS connection's has 64 bytes, so neither passes for the other."""
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


def channel_binding(dialer_certificate_hash: bytes, listener_certificate_hash: bytes) -> bytes:
    """The binding of a TLS connection: 64 bytes."""
    return dialer_certificate_hash + listener_certificate_hash


def proof_digest(role: bytes, signer: Hello, other: Hello, binding: bytes = NO_BINDING) -> bytes:
    """The 32 bytes that `signer`, in `role`, signs to prove its address to `other` on this connection."""
    parts = (signer.address, other.address, signer.nonce, other.nonce, binding)
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


def check_proof(role: bytes, mine: Hello, theirs: Hello, signature: bytes, binding: bytes = NO_BINDING) -> None:
    """Check the proof that the other side, in `role`, gave on this connection. Raises HandshakeError."""
    if len(signature) != SIGNATURE_BYTES:
        raise HandshakeError("peer sent a malformed proof")
    try:
        signer = recover(proof_digest(role, theirs, mine, binding), signature)
    except InvalidSignature as error:
        raise HandshakeError("peer sent a malformed proof") from error
    if signer != theirs.address:
        problem = "peer does not hold the key of the address it claims"
        raise HandshakeError(problem + (", or somebody sits between us" if binding else ""))
