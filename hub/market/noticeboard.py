"""What meters must know of the plasma chain, turned into retained messages that are sent when they change.

Pure: takes states read from the chain and returns (topic, payload) pairs that are new. Every notice carries the block
at which it was read, so that a meter never goes back. Bounds: the last RECORDED_SLOTS slots of a microgrid, batches of
NOTES_PER_BATCH notes and NULLIFIERS_PER_BATCH nullifiers. An empty payload takes a retained message back.
Not here: reading the chain (`hub.market.view`), MQTT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from hub.market.view import AccountState, PoolState
from openmg.messages import base, topics
from openmg.messages.market import (
    NOTES_PER_BATCH,
    NULLIFIERS_PER_BATCH,
    RECORDED_SLOTS,
    AccountNotice,
    ChainNotice,
    MarketNotice,
    NoteEntry,
    NotesBatch,
    NullifiersBatch,
    PoolNotice,
    RegistryNotice,
    SlotLeavesNotice,
)

REFRESH_TURNS = 24
"""Everything is told again within so many turns, or one message a turn when there are fewer."""

Outgoing = tuple[str, bytes]
Item = TypeVar("Item")


class Batches(Generic[Item]):
    """A growing list, told in batches of `size`; a batch that is not full is told again as it grows."""

    def __init__(self, size: int, topic: Callable[[int], str], pack: Callable[[int, tuple[Item, ...]], bytes]) -> None:
        self.size = size
        self.items: list[Item] = []
        self._topic = topic
        self._pack = pack
        self._told = 0
        """Batches that were ever told, and so may be at the broker."""

    def add(self, first: int, items: Sequence[Item]) -> list[Outgoing]:
        """Items that begin at place `first`; returns the batches that changed. Known ones are skipped, a gap takes nothing."""
        known = len(self.items)
        if first > known:
            return []
        self.items += items[known - first :]
        if len(self.items) == known:
            return []
        return self._tell(range(known // self.size, self.count))

    @property
    def count(self) -> int:
        return -(-len(self.items) // self.size)

    def clear(self) -> None:
        """Begin again; batches that were told and do not come back are told once more, empty."""
        self.items = []

    def all(self) -> list[Outgoing]:
        return self._tell(range(max(self.count, self._told)))

    def batch(self, number: int) -> Outgoing:
        first = number * self.size
        return self._topic(number), self._pack(first, tuple(self.items[first : first + self.size]))

    def _tell(self, numbers: Iterable[int]) -> list[Outgoing]:
        self._told = max(self._told, self.count)
        return [self.batch(number) for number in numbers]


class Noticeboard:
    """Remembers what was last sent on each topic."""

    def __init__(self, retail_wei_per_wh: int) -> None:
        self.retail_wei_per_wh = retail_wei_per_wh
        self.recorded: dict[int, list[int]] = {}
        self.rooted: dict[int, list[int]] = {}
        """Slots whose roots are on chain, by microgrid."""
        self.notes: Batches[NoteEntry] = Batches(
            NOTES_PER_BATCH, topics.notes, lambda first, items: base.encode(NotesBatch(first, items))
        )
        self.nullifiers: Batches[int] = Batches(
            NULLIFIERS_PER_BATCH, topics.nullifiers, lambda first, items: base.encode(NullifiersBatch(first, items))
        )
        self._sent: dict[str, tuple[object, bytes]] = {}
        self._turn = 0

    def clear(self) -> None:
        """Forget everything that was collected from events; what is on the topics stays until it is told anew."""
        self.recorded.clear()
        self.rooted.clear()
        self.notes.clear()
        self.nullifiers.clear()

    def add_recorded(self, slots: Iterable[tuple[int, int]]) -> None:
        """(microgrid, slot) pairs whose sums the chain recorded."""
        for microgrid, slot in slots:
            _keep_newest(self.recorded.setdefault(microgrid, []), slot)

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

    # The private market

    def registry(self, notice: RegistryNotice) -> list[Outgoing]:
        return self._changed(topics.REGISTRY, notice, base.encode(notice))

    def add_rooted(self, slots: Iterable[tuple[int, int]]) -> list[Outgoing]:
        """(microgrid, slot) pairs whose roots the chain recorded; returns what takes back the leaves a day older."""
        gone = []
        for microgrid, slot in slots:
            for old in _keep_newest(self.rooted.setdefault(microgrid, []), slot):
                topic = topics.slot_leaves(microgrid, old)
                if self._sent.pop(topic, None):
                    gone.append((topic, b""))
        return gone

    def untold_slots(self) -> list[tuple[int, int]]:
        """(microgrid, slot) of kept roots whose leaves were not told yet."""
        kept = [(microgrid, slot) for microgrid, slots in self.rooted.items() for slot in slots]
        return [place for place in kept if topics.slot_leaves(*place) not in self._sent]

    def slot_leaves(self, notice: SlotLeavesNotice) -> list[Outgoing]:
        """The leaves of a slot whose root is kept."""
        return self._changed(topics.slot_leaves(notice.microgrid, notice.slot), notice, base.encode(notice))

    def private_pool(self, notice: PoolNotice) -> list[Outgoing]:
        """The notice of an energy pool when anything but the block differs from the last one."""
        content = (
            notice.key,
            notice.recorded_slots,
            notice.reserve_wei,
            notice.reserve_wh,
            notice.virtual_wei,
            notice.virtual_wh,
            notice.price_wei_per_lot,
        )
        return self._changed(topics.pool(notice.microgrid), content, base.encode(notice))

    # Telling again

    def _changed(self, topic: str, content: object, payload: bytes) -> list[Outgoing]:
        if topic in self._sent and self._sent[topic][0] == content:
            return []
        self._sent[topic] = (content, payload)
        return [(topic, payload)]

    def next_again(self) -> list[Outgoing]:
        """Some current notices or batches, each in its turn; empty before there are any."""
        notices = list(self._sent)
        count = len(notices) + self.notes.count + self.nullifiers.count
        again = []
        for _ in range(-(-count // REFRESH_TURNS)):
            turn = self._turn % count
            self._turn = turn + 1
            again.append(self._current(turn, notices))
        return again

    def _current(self, turn: int, notices: list[str]) -> Outgoing:
        if turn < len(notices):
            return notices[turn], self._sent[notices[turn]][1]
        turn -= len(notices)
        return self.notes.batch(turn) if turn < self.notes.count else self.nullifiers.batch(turn - self.notes.count)

    def again(self) -> list[Outgoing]:
        """Everything that is current, for a broker that may have lost it."""
        notices = [(topic, payload) for topic, (_, payload) in self._sent.items()]
        return notices + self.notes.all() + self.nullifiers.all()


def _keep_newest(slots: list[int], slot: int) -> list[int]:
    """Put the slot into the ascending list of the last RECORDED_SLOTS; returns those that fall out, itself perhaps."""
    if slot in slots:
        return []
    slots.append(slot)
    slots.sort()
    gone = slots[:-RECORDED_SLOTS]
    del slots[:-RECORDED_SLOTS]
    return gone
