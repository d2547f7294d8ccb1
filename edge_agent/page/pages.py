"""Who gets in, and to which meter: login and logout, and what anybody gets.

    GET  /login, POST /login     the code           POST /logout                 ends the session
    GET  /static/NAME            style, script      GET  /healthz                for a supervisor

Rules: all else is the meter's whose session asks (`inside`), and a session is the meter's whose code opened it: no address,
field or header names one. Nothing but static files, login and health without a session; a POST of another site is refused,
a session's cookie is SameSite=Strict besides. A host name that is not known here is refused, so that no name of a stranger's
leads to this page. A code is in the body of a POST alone, and in no log. Language: `lang`, else what the browser prefers.
Where several homes share a page, none is told from where another gave a wrong code.
Not here: sockets (`server`), what is shown (`inside`), who may log in (`access`, `codes`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from zoneinfo import ZoneInfo

from edge_agent.page import http, views
from edge_agent.page.access import Attempts, Sessions
from edge_agent.page.codes import CodeFile
from edge_agent.page.http import BadRequest, Request, Response
from edge_agent.page.inside import Inside
from edge_agent.page.served import Served
from edge_agent.page.text import DEFAULT, LANGUAGES

log = logging.getLogger(__name__)
COOKIE = "openmg_page"
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
STATIC = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}
CODE_COMMAND = "openmg-agent page code --config FILE"
SHARED_CODE_COMMAND = "openmg-agent page code --config-dir DIR --device NAME"
SAID_EVERY = 10
"""Wrong codes are logged at the first and then each so many: a flood must not fill the disk."""


class Pages:
    """The addresses of one process; `monotonic` and `wall` tell seconds."""

    def __init__(
        self,
        served: Served,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._section, self._shared, self._monotonic, self._wall = served.section, served.shared, monotonic, wall
        one_child = asyncio.Lock()
        self._inside = {name: Inside(config, one_child) for name, config in served.meters.items()}
        self._codes = CodeFile(served.folder)
        self._sessions = Sessions(self._section.session_hours * 3600)
        self._attempts = Attempts()
        self._one_login = asyncio.Lock()
        """Held while a code is tried, so that tries at the same time wait for each other's outcome."""
        self._names = LOOPBACK_NAMES | set(self._section.names)
        self._began = int(wall())
        folder = Path(__file__).with_name("static")
        self._static = {name: (folder / name).read_bytes() for name in STATIC}

    async def stop(self) -> None:
        for inside in self._inside.values():
            await inside.stop()

    async def answer(self, request: Request, body: bytes) -> Response:
        """The answer to a request. Raises BadRequest."""
        self._require_ours(request)
        if request.method == "POST":
            self._require_own_site(request)
            if request.path == "/login":
                return await self._login(request, body)
            if request.path == "/logout":
                return self._logout(request)
            raise BadRequest("nothing is changed at this address", HTTPStatus.METHOD_NOT_ALLOWED)
        if request.path == "/healthz":
            return http.as_json({"status": "ok"})
        if request.path == "/login":
            return self._login_form(self._language(request))
        if request.path.startswith("/static/"):
            return self._file(request.path.removeprefix("/static/"))
        meter = self._sessions.meter_of(request.cookie(COOKIE), self._monotonic())
        if meter is None:
            return self._not_logged_in(request)
        return await self._inside[meter].answer(request, self._language(request), self._wall(), self._footer)

    # Who asks

    def _require_ours(self, request: Request) -> None:
        local = f"[{request.local}]" if ":" in request.local else request.local
        if request.host not in self._names and request.host != local:
            raise BadRequest(
                "this host name is not known here; use the machine's IP address, or a name of [page] names",
                HTTPStatus.MISDIRECTED_REQUEST,
            )

    def _require_own_site(self, request: Request) -> None:
        """Browsers say where a POST comes from; a program that says nothing is no other site's page."""
        scheme = "https" if self._section.tls else "http"
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        own = f"{scheme}://{request.headers.get('host', '').strip()}"
        if (origin is not None and origin.lower() != own.lower()) or site not in (None, "same-origin"):
            raise BadRequest("requests from another site are refused", HTTPStatus.FORBIDDEN)

    def _language(self, request: Request) -> str:
        asked = request.query.get("lang", "")
        if asked in LANGUAGES:
            return asked
        wanted = (part.split(";")[0].strip()[:2].lower() for part in request.headers.get("accept-language", "").split(","))
        return next((item for item in wanted if item in LANGUAGES), DEFAULT)

    def _not_logged_in(self, request: Request) -> Response:
        if request.path == "/":
            return http.see_other(f"/login?lang={self._language(request)}")
        return http.text(HTTPStatus.UNAUTHORIZED, "log in first: POST a code to /login and keep its cookie")

    async def _login(self, request: Request, body: bytes) -> Response:
        lang = self._language(request)
        async with self._one_login:
            wait = self._attempts.wait_seconds(request.client, self._monotonic())
            if wait > 0:
                seconds = math.ceil(wait)
                problem = LANGUAGES[lang]["login_wait"].format(seconds=seconds)
                return self._login_form(lang, problem, HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": str(seconds)})
            code = http.form(body.decode("latin-1")).get("code", "")
            meter = await asyncio.to_thread(self._codes.take, code, self._wall())
            if meter is None or meter not in self._inside:
                return self._refused(request, lang)
            self._attempts.note_right(request.client)
        token = self._sessions.open(meter, self._monotonic())
        log.info("page: a login to %s from %s", meter, request.client)
        return http.see_other(f"/?lang={lang}", self._cookie(token, self._section.session_hours * 3600))

    def _login_form(
        self, lang: str, problem: str = "", status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
    ) -> Response:
        command = SHARED_CODE_COMMAND if self._shared else CODE_COMMAND
        return http.html(views.login(lang, command, problem, self._shared), status, headers)

    def _refused(self, request: Request, lang: str) -> Response:
        self._attempts.note_wrong(request.client, self._monotonic(), self._wall())
        count = self._attempts.wrong.count
        if count % SAID_EVERY == 1:
            log.warning("page: a wrong code from %s (%d so far)", request.client, count)
        return self._login_form(lang, LANGUAGES[lang]["login_wrong"], HTTPStatus.FORBIDDEN)

    def _logout(self, request: Request) -> Response:
        self._sessions.close(request.cookie(COOKIE))
        return http.see_other(f"/login?lang={self._language(request)}", self._cookie("", 0))

    def _cookie(self, token: str, seconds: int) -> dict[str, str]:
        secure = "; Secure" if self._section.tls else ""
        return {"Set-Cookie": f"{COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"}

    # What is shown

    def _footer(self, lang: str, zone: ZoneInfo) -> str:
        return views.wrong_codes(lang, self._attempts.wrong, self._began, zone, self._shared)

    def _file(self, name: str) -> Response:
        if name not in self._static:
            raise BadRequest("there is no such file", HTTPStatus.NOT_FOUND)
        return Response(HTTPStatus.OK, self._static[name], STATIC[name])
