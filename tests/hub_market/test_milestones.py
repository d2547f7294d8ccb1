"""What is told once: a count that moved, and nothing that was found at the start."""

from hub.console.board import StatusBoard
from hub.milestones import Milestones


def test_only_what_moved_is_told():
    board = StatusBoard()
    milestones = Milestones(board.event)
    for epoch in (3, 3, 4, 4):
        milestones.checkpoint(epoch, 20 * epoch, 3)
    for completed in (0, 1, 1):
        milestones.rounds(completed, 11, 12)
    milestones.answers(2, 2)
    for changes in (0, 1):
        milestones.view_changes(changes)
    told = board.snapshot()["events"]
    assert [(event["kind"], event["severity"]) for event in told] == [
        ("checkpoint", "info"),
        ("learning", "info"),
        ("ppdl", "warning"),
    ]
    assert told[0]["en"].startswith("Checkpoint 4 is on the root chain: plasma blocks up to 80, 3 signatures")
    assert told[1]["en"] == "Learning round 1 is closed: 11 of 12 meters took part."
