"""Frames out of a stream in which there may be anything else: noise, halves, an echo.

Rules: pure. A frame begins at a flag and ends at one, as far away as it says. What turns out to be none costs its first flag
alone: the search goes on at the next, which may be the true beginning. At the most two frames' bytes are kept.
Not here: whose frames they are (`station`).
"""

from __future__ import annotations

from edge_agent.dlms.hdlc.frame import CHECK_BYTES, FLAG, MAX_FRAME_BYTES, Frame, FrameError, announced, decoded, require_header

MAX_KEPT_BYTES = MAX_FRAME_BYTES + 2


class FrameStream:
    """Give it what came; it gives the frames that became whole."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.broken = 0
        """Flags behind which there was something, but no frame."""

    def clear(self) -> None:
        """Forgets a half frame."""
        self._kept.clear()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that the data complete, in their order."""
        frames: list[Frame] = []
        for start in range(0, len(data), MAX_KEPT_BYTES):
            self._kept += data[start : start + MAX_KEPT_BYTES]
            while (frame := self._next()) is not None:
                frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        while (start := self._kept.find(FLAG)) >= 0:
            del self._kept[:start]
            while self._kept[1:2] == bytes((FLAG,)):  # flags between frames
                del self._kept[0]
            if len(self._kept) < 1 + CHECK_BYTES:
                return None
            try:
                frame = self._whole()
            except FrameError:
                self.broken += 1
                del self._kept[0]
                continue
            return frame
        self._kept.clear()
        return None

    def _whole(self) -> Frame | None:
        """The frame at the start, None while some of it is missing; FrameError."""
        end = 1 + announced(bytes(self._kept[1:3]))
        require_header(bytes(self._kept[1 : end + 1]))
        if len(self._kept) <= end:
            return None
        if self._kept[end] != FLAG:
            raise FrameError("does not end with a flag")
        frame = decoded(bytes(self._kept[1:end]))
        del self._kept[:end]  # its last flag may be the next one's first
        return frame
