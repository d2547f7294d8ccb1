"""Broken replicas for the tests: each must be found by an oracle or on a stage."""

from __future__ import annotations

from hub.ppdl.consensus.certs import PreparedCert
from hub.ppdl.consensus.effects import Effect, Event, Persist, SetTimer
from hub.ppdl.consensus.messages import ViewChange
from hub.ppdl.consensus.replica import Replica


class ForgetsCertificate(Replica):
    """Row 7: VIEW-CHANGE without the prepared certificate."""

    def _carried_certificate(self) -> PreparedCert | None:
        return None


class SendsBeforeDisk(Replica):
    """Row 9: votes are sent and not persisted."""

    def step(self, event: Event) -> list[Effect]:
        return [e for e in super().step(event) if not isinstance(e, Persist)]


class VotesAgainAfterWipe(Replica):
    """Row 8: a replica without its vote log goes on as if it had never voted."""

    def may_vote(self) -> bool:
        return self.address in self.tip.validators


class NeverSuspects(Replica):
    """Row 15: no timer for a view in which nothing was proposed yet."""

    def step(self, event: Event) -> list[Effect]:
        return [e for e in super().step(event) if not (isinstance(e, SetTimer) and e.idle)]

    def start(self) -> list[Effect]:
        return [e for e in super().start() if not (isinstance(e, SetTimer) and e.idle)]


class KeepsAllViews(Replica):
    """Row 4: keeps every VIEW-CHANGE it ever heard."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.heard_view_changes: list[ViewChange] = []

    def _on_view_change(self, sender: bytes, message: ViewChange) -> None:
        self.heard_view_changes.append(message)
        super()._on_view_change(sender, message)


class FollowsAnyone(Replica):
    """Row 4: joins a later view on the word of one validator."""

    def _check_view_change(self) -> None:
        box = self.state.view_changes
        others = [vc.view for vc in (*box._by_sender.values(), *box._claims.values())]
        if others and max(others) > self.state.view and self.may_vote():
            self._start_view_change(max(others))
            return
        super()._check_view_change()


class StaysInViewChange(Replica):
    """Row 6: blocks that arrive while it changes views do not end the view change."""

    def _next_queued(self) -> None:
        if self.state.active:
            super()._next_queued()


class AcceptsAnyBlock(Replica):
    """Ignores what its application says of a block."""

    def _on_validated(self, event):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        from hub.ppdl.application import Verdict

        super()._on_validated(replace(event, verdict=Verdict.ACCEPT))
