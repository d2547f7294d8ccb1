"""What a read over Modbus, and the proxy, can fail with: where, what and what to do. Not here: who raises them."""

from __future__ import annotations


class LinkError(Exception):
    """A read that brought nothing; the text says where and why."""


class LinkDown(LinkError):
    """The bus cannot be reached or the unit does not answer; it is tried again later."""


class BadAnswer(LinkError):
    """The meter answered something else than asked."""


class Refused(LinkError):
    """The meter answered with a Modbus exception code (2: illegal address)."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class ProxyError(Exception):
    """The proxy's port cannot be opened; the text says which and what to do."""
