"""The page's sockets: one request a connection, bounded in number, size and time, with TLS where it is wanted.

Rules: whoever has not sent a whole request, or does not take its answer, within a time is cut off; more connections than
MAX_CONNECTIONS are closed at once. A fault answers 500 and is logged without the request. Not here: answers (`pages`), the
certificate (`certificate`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from edge_agent.config import PageSection
from edge_agent.page import http
from edge_agent.page.http import BadRequest, Response
from edge_agent.page.pages import Pages

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 24
"""A browser opens six; a few people of one home look at once."""
REQUEST_SECONDS = 10.0
ANSWER_SECONDS = 30.0
BACKLOG = 16
THREADS = 2
"""For files and databases."""


class PageError(Exception):
    """The page cannot be served: one sentence."""


class PageServer:
    """Serves the answers of `pages`; port 0 takes a free one."""

    def __init__(self, pages: Pages, section: PageSection, tls: ssl.SSLContext | None) -> None:
        self._pages, self._section, self._tls = pages, section, tls
        self._server: asyncio.Server | None = None
        self._open = 0

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/"

    async def start(self) -> None:
        """Raises PageError when the address cannot be had."""
        loop, section = asyncio.get_running_loop(), self._section
        loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="page"))
        handshake = REQUEST_SECONDS if self._tls else None
        try:
            self._server = await asyncio.start_server(
                self._serve,
                section.listen,
                section.port,
                limit=http.MAX_HEAD_BYTES,
                backlog=BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=handshake,
            )
        except OSError as error:
            reason = error.strerror or error
            where = f"{section.listen} port {section.port}"
            raise PageError(f"page: cannot listen on {where} ({reason}); check [page] listen and port") from error

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await self._pages.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._open >= MAX_CONNECTIONS:
                return
            self._open += 1
            try:
                await self._exchange(reader, writer)
            finally:
                self._open -= 1
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # whoever asked is gone, or too slow
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head_only = False
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(http.HEAD_END)
                client, local = (writer.get_extra_info(name)[0] for name in ("peername", "sockname"))
                request = http.parse_head(head[: -len(http.HEAD_END)], client, local)
                head_only = request.method == "HEAD"
                body = await reader.readexactly(request.body_length)
            response = await self._pages.answer(request, body)
        except asyncio.LimitOverrunError:
            response = http.text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too long")
        except BadRequest as error:
            response = http.text(error.status, str(error))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            raise
        except Exception:
            log.exception("page: an answer failed")
            response = http.text(HTTPStatus.INTERNAL_SERVER_ERROR, "the page failed; the reason is in its log")
        await self._send(writer, response, head_only)

    async def _send(self, writer: asyncio.StreamWriter, response: Response, head_only: bool) -> None:
        writer.write(response.encode(head_only))
        async with asyncio.timeout(ANSWER_SECONDS):
            await writer.drain()
