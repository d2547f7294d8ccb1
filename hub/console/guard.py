"""What stands before every request: the Host check, the cross-site check and the security headers.

The console has no log-in of its own; it answers only when it was addressed by a name it knows, so that a web
page elsewhere cannot reach it by pointing its own name at this machine (DNS rebinding), and its data cannot
be read, framed or scripted from another site. Known are the loopback names, the names it was given, and the
very IP address that the request came in on: a rebound name is never an address. A plain ASGI wrapper: it
never buffers, so event streams pass untouched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
OTHER_SITES = frozenset({"cross-site", "same-site"})  # same-site: another port or subdomain, so another program
MAX_NAMED_REFUSALS = 32  # distinct wrong Host values that are logged; the rest are only counted

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), serial=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI wrapper: refuses unknown hosts (421) and other sites (403), adds the headers to every answer."""

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = LOOPBACK_NAMES | {host.lower() for host in allowed_hosts}
        self._named: set[str] = set()
        self.refused = 0  # requests refused so far

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else ""
        if name not in self._hosts and name != own_address(scope):
            self._count(name)
            return PlainTextResponse(
                "console: this host name is not known here; use the machine's IP address, or a name the hub was given\n",
                status_code=421,
            )
        if headers.get("sec-fetch-site") in OTHER_SITES and headers.get("sec-fetch-mode") != "navigate":
            self._count("another site")
            return PlainTextResponse("console: requests from another site are refused\n", status_code=403)
        return None

    def _count(self, name: str) -> None:
        self.refused += 1
        if name not in self._named and len(self._named) < MAX_NAMED_REFUSALS:
            self._named.add(name)
            log.warning("console refused a request of %r; a reverse proxy's name must be in allowed_hosts", name)


def own_address(scope: Scope) -> str:
    """The IP address of this machine that the request came in on, as a Host header writes it."""
    server = scope.get("server")
    address = str(server[0]) if server else ""
    return f"[{address}]" if ":" in address else address


def host_name(host: str) -> str:
    """The name in a Host header without its port, in lower case: 'LocalHost:8600' -> 'localhost'."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]
