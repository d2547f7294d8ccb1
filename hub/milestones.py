"""What an operator wants to be told once, as it happens: a checkpoint, a closed round, an answer, a change of leader.

Rules: counts are handed in again and again; only one that moved is told, and what a hub finds at its start is not news.
Not here: reading the counts (`hub.overview`), gaps of slots, which are told where they are noticed.
"""

from __future__ import annotations

from typing import Protocol


class Tell(Protocol):
    """Puts an event on the board: kind, English and Korean text, severity."""

    def __call__(self, kind: str, text_en: str, text_ko: str, severity: str = "info") -> None: ...


class Milestones:
    """Remembers the counts that were told last."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._known: dict[str, int] = {}

    def _moved(self, what: str, count: int) -> bool:
        before = self._known.get(what)
        self._known[what] = count
        return before is not None and count > before

    def checkpoint(self, epoch: int, last_block: int, signatures: int) -> None:
        """The newest checkpoint on the root chain."""
        if self._moved("checkpoint", epoch):
            self._tell(
                "checkpoint",
                f"Checkpoint {epoch} is on the root chain: plasma blocks up to {last_block}, {signatures} signatures.",
                f"체크포인트 {epoch}이(가) 루트 체인에 기록되었습니다. 플라스마 블록 {last_block}까지, 서명 {signatures}개.",
            )

    def rounds(self, completed: int, participants: int, registered: int) -> None:
        """Learning rounds that changed the model, and who took part in the last one."""
        if self._moved("rounds", completed):
            self._tell(
                "learning",
                f"Learning round {completed} is closed: {participants} of {registered} meters took part.",
                f"학습 라운드 {completed}이(가) 끝났습니다. 계량기 {registered}대 중 {participants}대가 참여했습니다.",
            )

    def answers(self, answered: int, requests: int) -> None:
        """Forecasts that were asked for on chain and answered."""
        if self._moved("answers", answered):
            self._tell(
                "inference",
                f"A forecast was answered on chain: {answered} of {requests} requests so far.",
                f"예측 요청에 체인에서 답했습니다. 지금까지 요청 {requests}건 중 {answered}건.",
            )

    def view_changes(self, count: int) -> None:
        """Changes of the leading validator that this hub has been through."""
        if self._moved("view changes", count):
            self._tell(
                "ppdl",
                f"The PPDL validators changed their leader ({count} times so far).",
                f"PPDL 검증자들이 리더를 바꾸었습니다(지금까지 {count}번).",
                "warning",
            )
