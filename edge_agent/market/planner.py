"""What a home does next on the private market: pure decisions, without clock, socket, keys or proofs.

Theory of operation. A `View` is what the home knows at a moment; `plan` names every step that is due then, the most pressing
first. Whoever asks makes one of them, writes it down and asks again, so a step that is lost along the way is due again:
- mint each metered slot whose leaf is agreed and whose root is on chain, an export of 0 too, so that a mint tells nothing;
- buy for the slot's import, at most once: the largest ladder step that import and PETH notes allow at the cap price, in the
  slot in which what others minted of the same slot can be sold (what gets nothing then stays on the tariff: a second
  try would have the same N, and so tell that both are one meter's);
- sell of each key's supply notes the largest ladder step, one sale a slot and key;
- burn each key's delivery notes, once, after its last order can have been settled;
- merge where a step would need more notes than its proof takes.
Rules: a step is due only if its call can still reach the chain in time (MARGIN_SLOTS). What is under way is in the view and
is not due again; that nothing happens twice on chain is the business of nullifiers, not of this file.
Source of the windows: `EnergyPool.sol`. Not here: which notes to take (`edge_agent.wallet.notes`), what was begun (`journal`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from openmg.market.calendar import Calendar
from openmg.market.ladder import largest_step
from openmg.zk.circuits import burn, merge, transfer
from openmg.zk.meters import LOT_WH

ORDER_SLOTS = 96
"""A slot is minted and bought for at most so long after it; a key takes orders so long after its day."""
BURN_LAST_SLOTS = 288
"""A key is burned at most so long after its day."""
PURCHASE_DELAY_SLOTS = 2
"""A slot is minted in the next one, its supply notes are in the tree by the one after that, and are sold there."""
SETTLE_SLOTS = 4
"""After a key's last batch, before its deliveries are burned: the batch is closed and settled, and its notes appended."""
UNSETTLED_SLOTS = 96
"""So much longer a burn waits for a purchase whose outcome has not come; what comes later cannot be burned any more."""
MARGIN_SLOTS = 3
"""Proof, an envelope's place in this slot or the next, and its submission at that slot's end."""
SPEND_NOTES = merge.INPUTS
"""No proof takes more notes of one kind."""


@dataclass(frozen=True)
class MeteredSlot:
    """A closed slot's energy; `minted` and `bought` say that this was begun or done."""

    slot: int
    import_wh: int
    export_wh: int
    minted: bool = False
    bought: bool = False


@dataclass(frozen=True)
class View:
    """What the home knows in slot `slot`.

    `agreed`: slots whose root is on chain and whose leaves hold our own; `supply`, `delivery`: by key the amounts (Wh) of
    notes that are free to spend; `peth`: those of PETH (wei); `sold`: keys with a sale begun in this slot; `burned`: keys whose
    burn was begun or done; `awaited`: keys with a purchase whose outcome has not been seen.
    """

    slot: int
    slots: tuple[MeteredSlot, ...]
    agreed: frozenset[int]
    cap_wei_per_wh: int
    peth: tuple[int, ...] = ()
    supply: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    delivery: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    sold: frozenset[int] = frozenset()
    burned: frozenset[int] = frozenset()
    awaited: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Mint:
    """Make the slot's export a supply note."""

    slot: int


@dataclass(frozen=True)
class Buy:
    """Order `lots` for the slot's import and set `lots` at the cap price aside for it."""

    slot: int
    lots: int


@dataclass(frozen=True)
class Sell:
    """Give `lots` of the key's supply, from at most `notes` notes."""

    key: int
    lots: int
    notes: int


@dataclass(frozen=True)
class Burn:
    """Use up the key's delivery notes."""

    key: int


@dataclass(frozen=True)
class MergePeth:
    """Make the largest PETH notes one."""


@dataclass(frozen=True)
class MergeDelivery:
    """Make eight of the key's delivery notes one."""

    key: int


Step = Mint | Buy | Sell | Burn | MergePeth | MergeDelivery


def plan(view: View, calendar: Calendar) -> tuple[Step, ...]:
    """Every step that is due, the most pressing first; empty when there is nothing to do."""
    return (*_mints(view), *_purchases(view), *_sales(view, calendar), *_burns(view, calendar))


def _open(view: View) -> list[MeteredSlot]:
    """Agreed slots for which something can still be done in time, oldest first."""
    last = view.slot + MARGIN_SLOTS - ORDER_SLOTS
    return sorted((it for it in view.slots if it.slot in view.agreed and last <= it.slot < view.slot), key=lambda it: it.slot)


def _mints(view: View) -> Iterator[Step]:
    for item in _open(view):
        if not item.minted:
            yield Mint(item.slot)


def _purchases(view: View) -> Iterator[Step]:
    """At most one purchase at a time, since each may take the notes that the next would."""
    cap_wei = LOT_WH * view.cap_wei_per_wh
    for item in _open(view):
        wanted = largest_step(item.import_wh // LOT_WH)
        if item.bought or not wanted or view.slot < item.slot + PURCHASE_DELAY_SLOTS:
            continue
        lots = min(wanted, largest_step(_most(view.peth, transfer.INPUTS) // max(1, cap_wei)))
        merged = min(wanted, largest_step(_most(view.peth, SPEND_NOTES) // max(1, cap_wei)))
        if merged > lots:
            yield MergePeth()
        elif lots:
            yield Buy(item.slot, lots)
        return


def _sales(view: View, calendar: Calendar) -> Iterator[Step]:
    for key, amounts in sorted(view.supply.items()):
        if key in view.sold or view.slot + MARGIN_SLOTS > calendar.last_slot_of(key) + ORDER_SLOTS:
            continue
        lots = largest_step(_most(amounts, SPEND_NOTES) // LOT_WH)
        few = _most(amounts, transfer.INPUTS) // LOT_WH >= lots
        if lots:
            yield Sell(key, lots, transfer.INPUTS if few else SPEND_NOTES)


def _burns(view: View, calendar: Calendar) -> Iterator[Step]:
    for key, amounts in sorted(view.delivery.items()):
        last = calendar.last_slot_of(key)
        first = last + ORDER_SLOTS + 1 + SETTLE_SLOTS
        if key in view.awaited:
            first += UNSETTLED_SLOTS
        if key in view.burned or not sum(amounts) or not first <= view.slot <= last + BURN_LAST_SLOTS - MARGIN_SLOTS:
            continue
        yield MergeDelivery(key) if len(amounts) > burn.INPUTS else Burn(key)


def _most(amounts: tuple[int, ...], notes: int) -> int:
    """The sum of the largest amounts, at most so many."""
    return sum(sorted(amounts, reverse=True)[:notes])
