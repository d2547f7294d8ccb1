"""What meters must know of the plasma chain, turned into retained messages that are sent when they change.

Pure: takes states read from the chain and returns (topic, payload) pairs that are new. Every notice carries the block
at which it was read, so that a meter never goes back. Bounds: the last RECORDED_SLOTS slots of a microgrid, batches of
NOTES_PER_BATCH notes. Not here: reading the chain (`hub.market.view`), MQTT.
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.market.view import AccountState, PoolState
from openmg.messages import base, topics
from openmg.messages.market import NOTES_PER_BATCH, AccountNotice, ChainNotice, MarketNotice, NoteEntry, NotesBatch

RECORDED_SLOTS = 96
"""A reading can be used for a day, so a meter that was away needs the slots of a day."""

Outgoing = tuple[str, bytes]


class Noticeboard:
    """Remembers what was last sent on each topic."""

    def __init__(self, retail_wei_per_wh: int) -> None:
        self.retail_wei_per_wh = retail_wei_per_wh
        self.recorded: dict[int, list[int]] = {}
        self.notes: list[NoteEntry] = []
        self._sent: dict[str, tuple[object, bytes]] = {}
        self._turn = 0

    def add_recorded(self, slots: Iterable[tuple[int, int]]) -> None:
        """(microgrid, slot) pairs that the chain recorded."""
        for microgrid, slot in slots:
            known = self.recorded.setdefault(microgrid, [])
            if slot not in known:
                known.append(slot)
                known.sort()
                del known[:-RECORDED_SLOTS]

    def add_notes(self, notes: Iterable[tuple[int, NoteEntry]]) -> list[Outgoing]:
        """New leaves in order of position; returns the batches that changed. A leaf that is known already is skipped."""
        changed: set[int] = set()
        for position, note in notes:
            if position == len(self.notes):
                self.notes.append(note)
                changed.add(position // NOTES_PER_BATCH)
        return [self._batch(number) for number in sorted(changed)]

    def _batch(self, number: int) -> Outgoing:
        first = number * NOTES_PER_BATCH
        batch = NotesBatch(first, tuple(self.notes[first : first + NOTES_PER_BATCH]))
        return topics.notes(number), base.encode(batch)

    def chain(self, notice: ChainNotice) -> list[Outgoing]:
        return self._changed(topics.CHAIN, notice, base.encode(notice))

    def market(self, block: int, pool: PoolState) -> list[Outgoing]:
        """The pool's notice when anything but the block differs from the last one."""
        slots = tuple(self.recorded.get(pool.microgrid, ()))
        content = (pool.reserve_wei, pool.reserve_wh, pool.feed_in_wei_per_wh, self.retail_wei_per_wh, slots)
        notice = MarketNotice(pool.microgrid, block, *content)
        return self._changed(topics.market(pool.microgrid), content, base.encode(notice))

    def account(self, block: int, device: str, state: AccountState) -> list[Outgoing]:
        """The account's notice when anything but the block differs from the last one."""
        notice = AccountNotice(block, state.nonce, state.balance_wei, state.energy_wh, state.delivery_wh)
        return self._changed(topics.account(device), state, base.encode(notice))

    def _changed(self, topic: str, content: object, payload: bytes) -> list[Outgoing]:
        if topic in self._sent and self._sent[topic][0] == content:
            return []
        self._sent[topic] = (content, payload)
        return [(topic, payload)]

    def next_again(self) -> list[Outgoing]:
        """One current notice or batch, each in its turn; empty before there is any."""
        topics_sent = list(self._sent)
        count = len(topics_sent) + -(-len(self.notes) // NOTES_PER_BATCH)
        if not count:
            return []
        turn = self._turn % count
        self._turn = turn + 1
        if turn < len(topics_sent):
            topic = topics_sent[turn]
            return [(topic, self._sent[topic][1])]
        return [self._batch(turn - len(topics_sent))]

    def again(self) -> list[Outgoing]:
        """Everything that is current, for a broker that may have lost it."""
        batches = [self._batch(number) for number in range(-(-len(self.notes) // NOTES_PER_BATCH))]
        return [(topic, payload) for topic, (_, payload) in self._sent.items()] + batches
