"""A JSON-RPC server that passes requests on to a real node and loses what a test tells it to.

Rules: loopback only; a lost request never reaches the node, a lost answer does: the caller cannot tell them apart.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class LossyRpc:
    """`lose(method, after=n)` loses the request after `n` good ones; `answer=True` loses the node's answer instead."""

    def __init__(self, node_url: str) -> None:
        self._node_url = node_url
        self._losses: dict[str, tuple[int, bool]] = {}
        self.body: bytes | None = None  # what every request is answered with, when set

        rpc = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = self.rfile.read(int(self.headers["content-length"]))
                answer = rpc._answer(request)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def lose(self, method: str, *, after: int = 0, answer: bool = False) -> None:
        self._losses[method] = (after, answer)

    def _answer(self, request: bytes) -> bytes | None:
        if self.body is not None:
            return self.body
        method = json.loads(request)["method"]
        after, answer_only = self._losses.get(method, (None, False))
        if after == 0:
            del self._losses[method]
        elif after is not None:
            self._losses[method] = (after - 1, answer_only)
        if after == 0 and not answer_only:
            return None
        headers = {"content-type": "application/json"}
        with _WITHOUT_PROXY.open(urllib.request.Request(self._node_url, request, headers), timeout=10) as reply:
            answer = bytes(reply.read())
        return None if after == 0 else answer


@contextmanager
def lossy_rpc(node_url: str) -> Iterator[LossyRpc]:
    """A running server in front of the node."""
    rpc = LossyRpc(node_url)
    thread = threading.Thread(target=rpc.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield rpc
    finally:
        rpc.server.shutdown()
        rpc.server.server_close()
        thread.join(5)
