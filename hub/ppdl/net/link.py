"""A connection with a peer that has proved its key, and the proof: hellos over what TLS says of the connection.

Not here: the form of hellos (`handshake.py`), dialing and accepting (`tcp.py`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from hub.ppdl.genesis import Genesis
from hub.ppdl.net.framing import frame_of, read_frame
from hub.ppdl.net.handshake import (
    DIALER,
    LISTENER,
    MAX_HELLO_BYTES,
    NONCE_BYTES,
    HandshakeError,
    Hello,
    check_proof,
    check_same_chain,
    decode_hello,
    proof_digest,
)
from hub.ppdl.net.sockets import bound
from hub.ppdl.net.tls import TlsState
from hub.ppdl.net.transport import Channel
from openmg.signing import address_of, sign_digest


@dataclass
class Link:
    """A connection with a peer that has proved its key."""

    peer: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    certificate_hash: bytes | None
    since_s: float
    task: asyncio.Task[None] | None = None  # that reads it, of one that was accepted

    def end(self) -> None:
        """Read nothing more, not even what has come already; or, of one that was dialed, send nothing more."""
        if self.task is not None:
            self.task.cancel()
        else:
            self.writer.close()


class Credentials:
    """What this validator proves itself with."""

    def __init__(self, genesis: Genesis, private_key: bytes) -> None:
        self.address = address_of(private_key)
        self._genesis_hash, self._chain_id = genesis.hash, genesis.chain_id
        self._sign: Callable[[bytes], bytes] = lambda digest: sign_digest(private_key, digest)

    async def prove(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: TlsState | None, dialer: bool
    ) -> Link:
        """Exchange hellos and proofs; the link with the other side's proven address. Raises HandshakeError."""
        binding, their_hash = bound(writer, state, dialer)
        mine = Hello(self._chain_id, self._genesis_hash, self.address, secrets.token_bytes(NONCE_BYTES))
        writer.write(frame_of(Channel.CONSENSUS, mine.encode()))
        theirs = decode_hello((await read_frame(reader, 1 + MAX_HELLO_BYTES))[1:])
        check_same_chain(mine, theirs)
        if state is not None and theirs.address not in state.owners_of(their_hash):
            raise HandshakeError(
                f"{theirs.address.hex()} showed a certificate that is on no card of it: import its newest card"
            )
        my_role, their_role = (DIALER, LISTENER) if dialer else (LISTENER, DIALER)
        writer.write(frame_of(Channel.CONSENSUS, self._sign(proof_digest(my_role, mine, theirs, binding))))
        await writer.drain()
        check_proof(their_role, mine, theirs, (await read_frame(reader, 1 + MAX_HELLO_BYTES))[1:], binding)
        return Link(theirs.address, reader, writer, their_hash, asyncio.get_running_loop().time())
