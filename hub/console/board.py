"""The status board: the newest state of every part of the hub, bounded, with a revision on everything.

Theory of operation. Each change takes the next revision and stamps what it touched: a section, a point of a
series, an event. "What is new since revision r" is then a comparison, so a reader that is slow, sleeps or
comes back needs no queue: it asks again from the last revision it saw and gets the newest state once,
whatever happened in between. Memory is bounded by the board itself, not by how many read it or how slowly.

Rules. Publishers may call from any thread. `put` replaces a section; an unchanged value takes no revision but
renews the section's age, so a publisher that dies is seen. `append` sorts by t, one value per t, the newest
MAX_POINTS kept.

Not here: sockets, HTTP, the meaning of any section, and the clock (given to the constructor).
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from hub.console.values import BoardError, check_name, check_number, encode_section

__all__ = ["BoardError", "Delta", "Event", "StatusBoard", "TooManyWatchers"]

MAX_SECTIONS = 32  # the hub publishes about a dozen
MAX_SERIES = 128  # four per microgrid
MAX_POINTS = 720  # per series: 7.5 days of slots
MAX_EVENTS = 200
MAX_EVENT_CHARS = 400  # per language; longer text is cut
MAX_WATCHERS = 64  # open `changes` iterators
SEVERITIES = ("info", "success", "warning", "alarm")


class TooManyWatchers(RuntimeError):
    """MAX_WATCHERS iterators are open already."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log. `wall` is unix seconds; `severity` is one of SEVERITIES."""

    revision: int
    wall: int
    kind: str
    severity: str
    en: str
    ko: str

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.revision, "wall": self.wall, "kind": self.kind, "severity": self.severity,
                "en": self.en, "ko": self.ko}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Delta:
    """Everything newer than one revision, up to `revision`. Sections are JSON text, points are (t, value)."""

    revision: int
    sections: dict[str, str]
    series: dict[str, tuple[tuple[int, int], ...]]
    events: tuple[Event, ...]

    @property
    def empty(self) -> bool:
        return not (self.sections or self.series or self.events)

    def to_json(self) -> str:
        """One line of JSON: {revision, sections, series, events}."""
        sections = ",".join(f"{json.dumps(name)}:{text}" for name, text in self.sections.items())
        series = json.dumps(self.series, separators=(",", ":"))
        events = json.dumps([event.as_dict() for event in self.events], ensure_ascii=False, separators=(",", ":"))
        return f'{{"revision":{self.revision},"sections":{{{sections}}},"series":{series},"events":{events}}}'


@dataclass(slots=True)
class _Section:
    text: str
    revision: int
    put_at: float


@dataclass(slots=True)
class _Series:
    """Points in ascending t: three columns of equal length, at most MAX_POINTS."""

    revision: int = 0
    times: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Waker:
    loop: asyncio.AbstractEventLoop
    event: asyncio.Event
    flagged: bool = False  # a wake-up is on its way; one is enough


class StatusBoard:
    """What the console shows. Every method may be called from any thread.

    `wall_clock` gives unix seconds; it stamps events and ages and nothing else.
    """

    def __init__(self, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._revision = 0
        self._sections: dict[str, _Section] = {}
        self._series: dict[str, _Series] = {}
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._wakers: set[_Waker] = set()

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def watchers(self) -> int:
        """How many `changes` iterators are open."""
        return len(self._wakers)

    def put(self, section: str, value: object) -> None:
        """Replace `section` by `value` (JSON-able). Raises BoardError and changes nothing if it cannot be
        shown."""
        text = encode_section(check_name(section, "section"), value)
        with self._lock:
            known = self._sections.get(section)
            if known is None and len(self._sections) >= MAX_SECTIONS:
                raise BoardError(f"console section {section}: the board holds {MAX_SECTIONS} sections, no more")
            if known is not None and known.text == text:
                known.put_at = self._wall_clock()
                return
            self._sections[section] = _Section(text, self._next_revision(), self._wall_clock())

    def append(self, series: str, t: int, value: int) -> None:
        """Set the value of `series` at `t` (simulated unix seconds); the oldest points beyond MAX_POINTS
        go."""
        check_name(series, "series")
        check_number(t, f"series {series} time")
        check_number(value, f"series {series} value")
        with self._lock:
            row = self._series.get(series)
            if row is None:
                if len(self._series) >= MAX_SERIES:
                    raise BoardError(f"console series {series}: the board holds {MAX_SERIES} series, no more")
                row = self._series[series] = _Series()
            at = bisect_left(row.times, t)
            if at < len(row.times) and row.times[at] == t:
                if row.values[at] != value:
                    row.values[at] = value
                    row.revisions[at] = row.revision = self._next_revision()
                return
            if at == 0 and len(row.times) >= MAX_POINTS:
                return  # older than everything kept
            row.revision = self._next_revision()
            row.times.insert(at, t)
            row.values.insert(at, value)
            row.revisions.insert(at, row.revision)
            for column in (row.times, row.values, row.revisions):
                del column[:-MAX_POINTS]

    def event(self, kind: str, text_en: str, text_ko: str, severity: str = "info") -> None:
        """Add a line to the log in both languages; the oldest beyond MAX_EVENTS go."""
        check_name(kind, "event kind")
        if severity not in SEVERITIES:
            raise BoardError(f"console event {kind}: severity {severity!r} is none of {', '.join(SEVERITIES)}")
        en, ko = (str(text)[:MAX_EVENT_CHARS].encode("utf-8", "replace").decode() for text in (text_en, text_ko))
        with self._lock:
            self._events.append(Event(self._next_revision(), int(self._wall_clock()), kind, severity, en, ko))

    def delta(self, since: int = 0) -> Delta:
        """Everything newer than revision `since`; since 0, everything."""
        with self._lock:
            return Delta(
                revision=self._revision,
                sections={n: s.text for n, s in self._sections.items() if s.revision > since},
                series={n: _newer(s, since) for n, s in self._series.items() if s.revision > since},
                events=tuple(e for e in self._events if e.revision > since),
            )

    def snapshot(self) -> dict[str, Any]:
        """The whole board as one JSON-able dict: revision, sections, series, events, ages (seconds since
        put)."""
        state: dict[str, Any] = json.loads(self.delta().to_json())
        state["ages"] = self.ages()
        return state

    def ages(self) -> dict[str, int]:
        """Whole seconds since each section was last put, changed or not."""
        with self._lock:
            now = self._wall_clock()
            return {name: max(0, int(now - section.put_at)) for name, section in self._sections.items()}

    async def changes(self, since: int = 0, *, idle_seconds: float | None = None) -> AsyncGenerator[Delta, None]:
        """Yield what is newer than `since`, then again whenever something changes; each change is seen once,
        merged.

        With `idle_seconds`, an empty delta is yielded after each such time without a change. Raises
        TooManyWatchers.
        """
        waker = _Waker(asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            if len(self._wakers) >= MAX_WATCHERS:
                raise TooManyWatchers(f"console: {MAX_WATCHERS} readers are connected, no more; close one")
            self._wakers.add(waker)
        try:
            while True:
                # Cleared before reading: a change after the read sets it again, so none is missed.
                waker.event.clear()
                waker.flagged = False
                delta = self.delta(since)
                if delta.revision == since and await _set_within(waker.event, idle_seconds):
                    continue
                since = delta.revision
                yield delta
        finally:
            with self._lock:
                self._wakers.discard(waker)

    def _next_revision(self) -> int:
        """Take the next revision and wake the readers. The lock is held."""
        self._revision += 1
        for waker in tuple(self._wakers):
            if waker.flagged:
                continue
            waker.flagged = True
            try:
                waker.loop.call_soon_threadsafe(waker.event.set)
            except RuntimeError:  # its event loop has closed
                self._wakers.discard(waker)
        return self._revision


def _newer(row: _Series, since: int) -> tuple[tuple[int, int], ...]:
    rows = zip(row.times, row.values, row.revisions, strict=True)
    return tuple((t, value) for t, value, revision in rows if revision > since)


async def _set_within(event: asyncio.Event, seconds: float | None) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
