"""The console's web server: a read-only FastAPI application and the shell that runs it inside the hub's event
loop.

    GET /             the page             GET /static/...   its files
    GET /api/state    the whole board      GET /api/events   server-sent events: snapshot, delta, beat
    GET /api/report   the hub's report     GET /healthz      liveness, for a supervisor

Rules. Nothing is written through this server; any other method is refused. Nothing is loaded from outside. It
takes no signal handlers and never ends the process: a port in use is one sentence in a ConsoleError.

Not here: what is shown (board.py publishers), who may ask (guard.py), the stream itself (stream.py).
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from hub.console.assets import Asset, load_assets
from hub.console.board import StatusBoard
from hub.console.guard import Guard
from hub.console.stream import EventStream

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 160  # open sockets of all kinds: 32 event streams, the rest page loads and idle keep-alives
STALLED_CLIENT_MS = 30_000  # a client that takes no byte for so long is cut
REQUEST_SECONDS = 10.0  # a socket without a whole request for so long is closed, else idle ones could take every place
STOP_SECONDS = 3  # for open requests at stop
START_POLL_SECONDS = 0.01

_NO_STORE = {"Cache-Control": "no-store"}


class ConsoleError(RuntimeError):
    """The console cannot be served; the message says where, why and what to do."""


def create_app(board: StatusBoard, report: Callable[[], dict[str, Any]], *, allowed_hosts: Iterable[str] = ()) -> FastAPI:
    """The console as an ASGI application.

    `report` is called in the event loop for each GET /api/report; it must be quick and must not block.
    `allowed_hosts` are names, besides the loopback ones, under which the console may be addressed, without
    port.
    """
    app = FastAPI(title="Open MG console", docs_url=None, redoc_url=None, openapi_url=None)
    assets = load_assets()
    stream = EventStream(board)
    app.state.stream = stream
    app.add_middleware(Guard, allowed_hosts=tuple(allowed_hosts))
    app.router.routes.append(Route("/api/events", stream, methods=["GET"]))

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return _serve_asset(assets.get("index.html"), request)

    @app.get("/static/{path:path}", include_in_schema=False)
    async def static(path: str, request: Request) -> Response:
        return _serve_asset(assets.get(path), request)

    @app.get("/api/state")
    async def state() -> Response:
        body = json.dumps(board.snapshot(), ensure_ascii=False, separators=(",", ":"))
        return Response(body, media_type="application/json", headers=_NO_STORE)

    @app.get("/api/report")
    async def report_now() -> Response:
        try:
            return JSONResponse(report(), headers=_NO_STORE)
        except Exception:  # the report belongs to the hub; its fault must not take the console down
            log.exception("console: the hub's report failed")
            return PlainTextResponse("console: the report failed; the reason is in the hub's log\n", 503, _NO_STORE)

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok", "revision": board.revision, "streams": stream.clients}, headers=_NO_STORE)

    return app


def _serve_asset(asset: Asset | None, request: Request) -> Response:
    if asset is None:
        return PlainTextResponse("console: no such file\n", 404)
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=asset.content_type, headers=headers)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, as stopping is the hub's business, and with a limit on waiting sockets."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._waiting: dict[Any, tuple[Any, float]] = {}  # connection -> its last request, and since when it waits

    async def on_tick(self, counter: int) -> bool:
        self._close_waiting(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def _close_waiting(self, now: float) -> None:
        before, self._waiting = self._waiting, {}
        connections: set[Any] = set(self.server_state.connections)  # h11 ones; each has `cycle`, its last request
        for connection in connections:
            cycle = connection.cycle
            if cycle is not None and not cycle.response_complete:
                continue  # it is being answered
            known, since = before.get(connection, (cycle, now))
            self._waiting[connection] = (cycle, since if known is cycle else now)
            if now - self._waiting[connection][1] > REQUEST_SECONDS and connection.transport is not None:
                connection.transport.close()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class WebServer:
    """Runs an application in the current event loop: `await start()`, later `await stop()`.

    Port 0 takes a free port; `port` and `url` tell which after start. `name` is what the log and errors call it.
    """

    def __init__(self, app: FastAPI, host: str = "127.0.0.1", port: int = 0, *, name: str = "console") -> None:
        self._app = app
        self._name = name
        self.host = host
        self.port = port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    async def start(self) -> None:
        """Bind and serve. Raises ConsoleError when the address cannot be bound."""
        if self._task is not None:
            raise ConsoleError(f"{self._name}: already running at {self.url}")
        listener = _bind(self.host, self.port, self._name)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            host=self.host,
            port=self.port,
            log_config=None,
            log_level=logging.ERROR,  # a malformed request is answered, not logged: it could flood
            access_log=False,
            server_header=False,
            proxy_headers=False,
            http="h11",
            ws="none",
            lifespan="off",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name=self._name)
        while not self._server.started:
            if self._task.done():
                listener.close()
                task, self._task = self._task, None
                raise ConsoleError(f"{self._name}: the server at {self.url} ended at start") from task.exception()
            await asyncio.sleep(START_POLL_SECONDS)
        log.info("%s at %s", self._name, self.url)

    async def stop(self) -> None:
        """Close the port and wait; harmless when not running."""
        if self._task is None or self._server is None:
            return
        self._server.should_exit = True
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None


class ConsoleServer(WebServer):
    """The server of `create_app`."""

    async def stop(self) -> None:
        """End the streams, close the port and wait; harmless when not running."""
        self._app.state.stream.close()
        await super().stop()


def _bind(host: str, port: int, name: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY for this protocol only
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_CLIENT_MS)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConsoleError(_bind_sentence(host, port, name, error)) from error
    listener.setblocking(False)
    return listener


def _bind_sentence(host: str, port: int, name: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{name}: port {port} on {host} is in use; stop the other program or choose another {name} port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{name}: port {port} on {host} is not permitted; choose a port from 1024 up"
    reason = error.strerror or error
    return f"{name}: cannot listen on {host} port {port}: {reason}; check the {name} host and port"
