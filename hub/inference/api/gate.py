"""Who may ask: the key of a request, its rate and its day's allowance, and what happens to those without one.

Rules. A right key is looked at first, so nobody is shut out by another caller of the same address; a wrong or missing one
takes from the small allowance of its address and is answered 401, beyond it 429. An IPv6 caller is its /64 network, because
one machine has all of it. The same sentence answers every wrong key.
Bounds: quota.MAX_BUCKETS buckets of each sort. Not here: HTTP (`app`), what a call costs (`hub.inference.ledger`).
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable

from hub.inference.keys import ApiKey, KeyStore
from hub.inference.ledger import Ledger
from hub.inference.quota import Buckets, Rate, until_tomorrow_s

STRANGERS = Rate(20)
"""Calls a minute from one address without a right key."""
MAX_HEADER_CHARS = 256
IPV6_NETWORK_BITS = 64


class Refusal(Exception):
    """Why a request is not answered, as HTTP says it; `retry_after_s` goes with 429."""

    def __init__(self, status: int, error: str, what_to_do: str, retry_after_s: int | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.what_to_do = what_to_do
        self.retry_after_s = retry_after_s


class Gate:
    """Lets requests in. Calls block on the key database and may come from any thread."""

    def __init__(self, keys: KeyStore, ledger: Ledger, wall_s: Callable[[], float]) -> None:
        self._keys = keys
        self._ledger = ledger
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._by_key, self._by_address = Buckets(), Buckets()

    def admit(self, authorization: str | None, address: str, endpoint: str) -> tuple[ApiKey, int]:
        """The key of a call that may be answered, counted, and the second at which it was. Raises Refusal."""
        key = self._keys.find(bearer(authorization))
        now_s = self._wall_s()
        if key is None:
            raise self._refuse_stranger(address, now_s)
        with self._lock:
            wait_s = self._by_key.take(key.id, key.rate, int(now_s * 1000))
        if wait_s:
            raise Refusal(429, f"this key may ask {key.per_minute} times a minute", f"ask again in {wait_s} s", wait_s)
        if not self._ledger.admit(key, endpoint, int(now_s)):
            wait_s = until_tomorrow_s(int(now_s))
            raise Refusal(429, f"this key may ask {key.daily} times a day (UTC)", f"ask again in {wait_s} s", wait_s)
        return key, int(now_s)

    def stranger(self, address: str) -> None:
        """A request that needs no key. Raises Refusal when its address asks too often."""
        with self._lock:
            wait_s = self._by_address.take(network(address), STRANGERS, int(self._wall_s() * 1000))
        if wait_s:
            raise Refusal(429, "this address asks too often without a key", f"ask again in {wait_s} s, or with a key", wait_s)

    def _refuse_stranger(self, address: str, now_s: float) -> Refusal:
        try:
            self.stranger(address)
        except Refusal as refusal:
            return refusal
        return Refusal(
            401, "the API key is missing, wrong or revoked", "send `Authorization: Bearer KEY` with a key of this hub"
        )


def bearer(authorization: str | None) -> str:
    """The key in an Authorization header; empty when there is none."""
    scheme, _, key = (authorization or "")[:MAX_HEADER_CHARS].partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def network(address: str) -> str:
    """What an address is counted as."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, IPV6_NETWORK_BITS), strict=False))
    return str(found)
