"""The little of HTTP/1.1 that the page speaks: one request a connection, a bounded head, forms of a few bytes. Pure.

Rules: whoever sends more, or anything that could be read in two ways (a doubled Host or length, a transfer coding, a folded
line), gets a refusal; a connection is closed after its answer, so nothing of one request can pass for another. Every answer
carries the security headers. Source: RFC 9112. Not here: sockets (`server`), what is answered (`pages`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 64
MAX_BODY_BYTES = 1024
MAX_FIELDS = 8
"""Of a query or a form."""
METHODS = ("GET", "HEAD", "POST")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"/[!-~]*")
HEAD_END = b"\r\n\r\n"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all, browsers hide the Origin of our own forms
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), serial=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class BadRequest(ValueError):
    """The request is refused with `status`; the text says why."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Request:
    """A request without its body. `headers` by lower-case name; `client` and `local` are the connection's IP addresses."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    client: str = ""
    local: str = ""

    def cookie(self, name: str) -> str:
        """The cookie's value, empty when it is not there."""
        for part in self.headers.get("cookie", "").split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
        return ""

    @property
    def host(self) -> str:
        """The name in the Host header without its port, in lower case."""
        name = self.headers.get("host", "").strip().lower()
        return name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0]

    @property
    def body_length(self) -> int:
        """Bytes that follow the head. Raises BadRequest."""
        text = self.headers.get("content-length", "0")
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise BadRequest("Content-Length is no number")
        if int(text) > MAX_BODY_BYTES:
            raise BadRequest(f"a body has at most {MAX_BODY_BYTES} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return int(text)


@dataclass(frozen=True)
class Response:
    """An answer; `headers` beside those that every answer has."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, head_only: bool = False) -> bytes:
        """The bytes on the wire."""
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}"]
        every = {"Content-Type": self.content_type, "Content-Length": str(len(self.body)), "Connection": "close"}
        lines += [f"{name}: {value}" for name, value in (every | SECURITY_HEADERS | dict(self.headers)).items()]
        return "\r\n".join(lines).encode("latin-1") + HEAD_END + (b"" if head_only else self.body)


def text(status: HTTPStatus, sentence: str, **headers: str) -> Response:
    """One sentence."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, f"{sentence}\n".encode(), headers=named)


def html(body: str, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, body.encode(), "text/html; charset=utf-8", headers or {})


def as_json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(status, json.dumps(value, ensure_ascii=False).encode(), "application/json")


def see_other(place: str, headers: Mapping[str, str] | None = None) -> Response:
    """To another page, by GET."""
    return Response(HTTPStatus.SEE_OTHER, headers={"Location": place, **(headers or {})})


def parse_head(head: bytes, client: str, local: str) -> Request:
    """The request of a head, which ends before the empty line. Raises BadRequest."""
    lines = head.split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0") or not _TARGET.fullmatch(parts[1]):
        raise BadRequest("this is no HTTP/1.1 request")
    method = parts[0].decode("latin-1")
    if method not in METHODS:
        raise BadRequest("this method is not known here", HTTPStatus.METHOD_NOT_ALLOWED)
    headers = _headers(lines[1:])
    if "host" not in headers or "transfer-encoding" in headers:
        raise BadRequest("a request has a Host, and no transfer coding")
    target = urlsplit("http://page" + parts[1].decode("latin-1"))
    return Request(method, unquote(target.path), form(target.query), headers, client, local)


def _headers(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > MAX_HEADERS:
        raise BadRequest("too many headers", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise BadRequest("a header cannot be read")
        key = name.decode("ascii").lower()
        if key in found:
            raise BadRequest("a header is there twice")
        found[key] = value.strip(b" \t").decode("latin-1")
    return found


def form(query: str) -> dict[str, str]:
    """The fields of a query or a form, the last of each name. Raises BadRequest for too many."""
    try:
        return dict(parse_qsl(query, max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise BadRequest("too many fields") from error
