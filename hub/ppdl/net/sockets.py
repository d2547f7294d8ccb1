"""Sockets and streams under the TCP transport: to listen, to wrap what was accepted, to close for certain, and what TLS says
of a connection.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl

from hub.ppdl.net.handshake import NO_BINDING, HandshakeError, channel_binding
from hub.ppdl.net.tls import TlsState

BACKLOG = 128  # connections that the kernel holds until they are accepted
CLOSE_TIMEOUT_S = 1.0  # for what is still to be sent, and TLS's own goodbye; then the connection is cut


def bound(writer: asyncio.StreamWriter, state: TlsState | None, dialer: bool) -> tuple[bytes, bytes | None]:
    """(binding, hash of the other side's certificate) of a connection."""
    if state is None:
        return NO_BINDING, None
    tls = writer.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    if certificate is None:
        raise HandshakeError("peer showed no certificate")
    their_hash = hashlib.sha256(certificate).digest()
    pair = (state.certificate_hash, their_hash) if dialer else (their_hash, state.certificate_hash)
    return channel_binding(*pair), their_hash


async def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address of the host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((one[0], one[4]) for one in found):
            listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
            listening.setblocking(False)
            sockets.append(listening)
    except BaseException:
        for listening in sockets:
            listening.close()
        raise
    return sockets


async def accepted_stream(
    connection: socket.socket, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Reader and writer of an accepted connection, after the TLS handshake if there is a context."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    patience = {"ssl_shutdown_timeout": CLOSE_TIMEOUT_S} if context is not None else {}
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context, **patience)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def expect_answers(writer: asyncio.StreamWriter, seconds: float) -> None:
    """End the connection when the other machine is gone without a word: the kernel alone would go on for a quarter of an
    hour, and a peer that came back would hear nothing until then.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only; elsewhere the kernel's patience has to do
    if option is not None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, round(1000 * seconds))


async def close(writer: asyncio.StreamWriter) -> None:
    """Close, politely at first: a peer that does not read cannot keep the connection open."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await writer.wait_closed()
    except OSError:  # TimeoutError and ssl.SSLError, too
        pass
    finally:
        writer.transport.abort()
