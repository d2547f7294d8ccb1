"""Whom a replica that is behind asks for blocks, and whom it asks next."""

from __future__ import annotations

from pbft_lab import Lab

from hub.ppdl.consensus.catchup import PROMPT_TICKS
from hub.ppdl.consensus.effects import Received, Tick
from hub.ppdl.consensus.messages import Status, SyncRequest, SyncResponse


def asked_after(lab: Lab, answerer: bytes, answer: SyncResponse) -> list[bytes]:
    """Whom member 0 asks next."""
    lab.wire.clear()
    lab.step(0, Received(answerer, answer))
    return [lab.addresses[to] for _, to, message in lab.wire if isinstance(message, SyncRequest)]


def far_behind() -> tuple[Lab, bytes]:
    """Member 0 lacks three blocks that the others have, and has asked for them; whom it asked."""
    lab = Lab()
    for height in range(1, 4):
        lab.propose(height, b"%d" % height)
        lab.deliver(lambda a, b, m: b != 0)
    lab.wire.clear()
    for i in (1, 2, 3):
        lab.step(0, Received(lab.addresses[i], Status(9)))
    [(_, peer, _)] = [item for item in lab.wire if isinstance(item[2], SyncRequest)]
    return lab, lab.addresses[peer]


def test_who_does_not_keep_the_block_says_so_and_another_is_asked_at_once() -> None:
    lab, first = far_behind()
    [second] = asked_after(lab, first, SyncResponse(()))
    [third] = asked_after(lab, second, SyncResponse(()))
    assert len({first, second, third}) == 3
    lab.step(0, Received(third, SyncResponse(tuple(lab.members[1].decided))))
    assert lab.heights()[0] == 3


def test_who_answers_promptly_is_asked_again_and_who_is_slow_is_not() -> None:
    lab, peer = far_behind()
    blocks = lab.members[1].decided
    assert asked_after(lab, peer, SyncResponse((blocks[0],))) == [peer]
    for _ in range(PROMPT_TICKS + 1):
        lab.step(0, Tick())
    [other] = asked_after(lab, peer, SyncResponse((blocks[1],)))
    assert other != peer and lab.heights()[0] == 2
