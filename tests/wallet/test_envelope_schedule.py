"""Envelopes of a wallet: what an observer of sizes, counts, times and relays sees is drawn, whatever the wallet has to say."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_agent.wallet.envelopes import (
    FIRST_PART,
    LAST_PART,
    MAX_KEYS,
    MAX_QUEUED,
    MAX_UNANSWERED,
    SLOT_PARTS,
    EnvelopeSchedule,
    QueueFull,
)
from openmg.envelope import (
    CONTENT_BYTES,
    ENVELOPES_PER_SLOT,
    MAX_ACTIONS,
    MAX_ERROR_BYTES,
    Action,
    Content,
    Envelope,
    Outcome,
    Receipt,
    SealedReceipt,
    receipt_number,
    seal,
    seal_receipt,
    unseal,
    unseal_receipt,
)
from openmg.messages import base

KEYS = [X25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 7)]
PUBLIC = [key.public_key().public_bytes_raw() for key in KEYS]
PRIVATE = dict(zip(PUBLIC, KEYS, strict=True))
LATER = 2_000_000_000
PAYMENT = (Action(b"\1" * 20, b"a payment"),)


def schedule(relays: int = 2, seed: int = 1) -> EnvelopeSchedule:
    return EnvelopeSchedule(PUBLIC[:relays], random.Random(seed).randrange)


def opened(envelope: Envelope) -> Content:
    return unseal(PRIVATE[envelope.relay], envelope)


def slot_of(wallet: EnvelopeSchedule, slot: int) -> list[tuple[int, Envelope]]:
    """Every envelope of a slot with the part at which it was given out, asked for at the parts that the schedule names."""
    sent, part = [], 0
    while (part := wallet.next_part(slot)) < SLOT_PARTS:
        sent += [(part, envelope) for envelope in wallet.due(slot, part)]
    return sent


def real(envelopes: list[Envelope]) -> list[Envelope]:
    return [envelope for envelope in envelopes if opened(envelope).actions]


# ---- attacks: what the carrier sees ---------------------------------------------------------------------------------


def test_attack_size_tells_nothing():
    """Of envelopes: a dummy, a small content, the largest. Of receipts: of a dummy, of a success, the longest trouble."""
    largest = CONTENT_BYTES - 200
    contents = [(), PAYMENT, (Action(b"\1" * 20, b"x" * largest),), (Action(b"", b"y" * 400),) * MAX_ACTIONS]
    envelopes = [seal(PUBLIC[0], Content(bytes([i]) * 16, LATER * i, actions)) for i, actions in enumerate(contents)]
    assert len({len(base.encode(envelope)) for envelope in envelopes}) == 1
    outcomes = (Outcome(b"\2" * 32, True),)
    receipts = [
        Receipt(b"r" * 16, (), ""),
        Receipt(b"r" * 16, outcomes, ""),
        Receipt(b"r" * 16, outcomes * MAX_ACTIONS, "e" * MAX_ERROR_BYTES),
    ]
    sealed = [seal_receipt(receipt) for receipt in receipts]
    assert len({len(base.encode(item)) for item in sealed}) == 1
    assert [unseal_receipt(b"r" * 16, item) for item in sealed] == receipts


@pytest.mark.parametrize("change", [-1, 1])
def test_attack_an_envelope_of_another_size_is_no_envelope(change):
    """So that a home with another program does not stand out, nor a relay mark its receipts by their size."""
    good = seal(PUBLIC[0], Content(b"r" * 16, 0, ()))
    answer = seal_receipt(Receipt(b"r" * 16, (), ""))
    assert base.decode(Envelope, base.encode(good)) == good
    with pytest.raises(ValueError, match="sealed bytes"):
        Envelope(good.relay, good.sealed[:change] if change < 0 else good.sealed + b"\0")
    with pytest.raises(ValueError, match="a sealed receipt has"):
        SealedReceipt(answer.number, answer.sealed[:change] if change < 0 else answer.sealed + b"\0")


def test_attack_count_tells_nothing():
    """An idle wallet and one whose queue never empties send as many in every slot."""
    idle, busy = schedule(), schedule()
    for slot in range(100, 115):
        for number in range(len(busy.waiting), MAX_QUEUED):
            busy.put(f"{slot} {number}", PAYMENT, LATER)
        said, silent = slot_of(busy, slot), slot_of(idle, slot)
        assert len(said) == len(silent) == ENVELOPES_PER_SLOT
        assert len(real([envelope for _, envelope in said])) == ENVELOPES_PER_SLOT
        assert real([envelope for _, envelope in silent]) == []


def test_attack_times_and_relays_do_not_depend_on_content():
    """With the same draws, a wallet that pays, repeats and is refused shows the very picture of one that does nothing."""
    idle, busy = schedule(3, seed=5), schedule(3, seed=5)
    for slot in range(100, 130):
        busy.put("repeated in every slot", PAYMENT, LATER)
        if slot % 3 == 0:
            busy.put(f"once {slot}", PAYMENT * 5, LATER, avoid=frozenset(PUBLIC[:1]))
        if slot % 7 == 0:
            busy.drop(f"once {slot}")
        picture = [(part, envelope.relay) for part, envelope in slot_of(busy, slot)]
        assert picture == [(part, envelope.relay) for part, envelope in slot_of(idle, slot)]


def test_attack_dropping_envelopes_does_not_show_which_were_real():
    """A carrier that drops everything to one relay sees no more go to the other in the slots after it."""
    wallet = schedule(2, seed=7)
    for slot in range(100, 140):
        for number in range(3):
            wallet.put(f"dropped {number}", PAYMENT, LATER)
        relays = Counter(envelope.relay for _, envelope in slot_of(wallet, slot))
        assert relays == {PUBLIC[0]: ENVELOPES_PER_SLOT // 2, PUBLIC[1]: ENVELOPES_PER_SLOT // 2}


def test_attack_places_cannot_be_foreseen():
    """They fill the whole window, and differ from slot to slot and from wallet to wallet."""
    parts = [[part for part, _ in slot_of(schedule(seed=seed), 100)] for seed in range(60)]
    assert all(FIRST_PART <= part < LAST_PART for row in parts for part in row)
    tenth = (LAST_PART - FIRST_PART) // 10
    assert {(part - FIRST_PART) // tenth for row in parts for part in row} == set(range(10))
    assert len({tuple(row) for row in parts}) == len(parts)
    wallet = schedule()
    assert [part for part, _ in slot_of(wallet, 100)] != [part for part, _ in slot_of(wallet, 101)]


def test_attack_a_burst_after_silence_tells_nothing():
    """What slots that passed unseen would have sent is not made up for."""
    wallet = schedule()
    for number in range(10):
        wallet.put(f"payment {number}", PAYMENT, LATER)
    first = wallet.next_part(100)
    assert len(wallet.due(100, first)) >= 1
    assert wallet.due(150, 0) == []
    assert len(wallet.due(150, SLOT_PARTS)) == ENVELOPES_PER_SLOT
    assert wallet.due(150, SLOT_PARTS) == []


def test_attack_a_clock_set_back_makes_nothing_go_out_twice():
    wallet = schedule()
    slot_of(wallet, 100)
    for slot in (99, 100, 3):
        assert wallet.due(slot, SLOT_PARTS - 1) == [] and wallet.next_part(slot) == SLOT_PARTS
    assert len(slot_of(wallet, 101)) == ENVELOPES_PER_SLOT


def test_attack_the_order_of_payments_is_not_the_order_of_envelopes():
    """Neither in the slot in which they are sent nor over all slots until the last is."""
    firsts = Counter()
    for seed in range(40):
        wallet = schedule(seed=seed)
        for number in range(MAX_ACTIONS):
            wallet.put(f"{number}", (Action(b"", bytes([number])),), LATER)
        sent = [opened(envelope).actions[0].data[0] for _, envelope in slot_of(wallet, 100)]
        firsts[sent[0]] += 1
    assert len(firsts) >= 6 and max(firsts.values()) <= 15, "each of eight is first in a fifth of the wallets, or so"


# ---- attacks: relays and carriers that do not do their work ---------------------------------------------------------


@pytest.mark.parametrize("relays", [2, 3, 6])
def test_attack_a_dropped_envelope_goes_to_another_relay(relays):
    """At once when it is put again: the slot after has a place of another relay (with more than four, soon)."""
    wallet = schedule(relays, seed=3)
    relay, slot = None, 100
    for _ in range(12):
        wallet.put("payment", PAYMENT, LATER)
        assert wallet.last_relay("payment") == relay
        sent = []
        while not sent:
            slot += 1
            sent = real([envelope for _, envelope in slot_of(wallet, slot)])
        (envelope,) = sent
        assert envelope.relay != relay
        relay = envelope.relay


def test_the_only_relay_is_tried_again():
    wallet = schedule(1)
    for slot in (100, 101):
        wallet.put("payment", PAYMENT, LATER, avoid=frozenset(PUBLIC[:1]))
        assert len(real([envelope for _, envelope in slot_of(wallet, slot)])) == 1


def test_relays_to_avoid_are_avoided_as_long_as_there_is_another():
    for seed in range(10):
        wallet = schedule(3, seed)
        wallet.put("payment", PAYMENT, LATER, avoid=frozenset(PUBLIC[:2]))
        (envelope,) = real([envelope for _, envelope in slot_of(wallet, 100)])
        assert envelope.relay == PUBLIC[2]
        wallet.put("payment", PAYMENT, LATER, avoid=frozenset(PUBLIC[:2]))
        (again,) = real([envelope for _, envelope in slot_of(wallet, 101)])
        assert again.relay in PUBLIC[:2], "where it went last is worse than what is avoided"


def test_attack_a_forged_receipt_is_refused_and_the_true_one_still_counts():
    wallet = schedule()
    wallet.put("payment", PAYMENT, LATER)
    content = next(opened(envelope) for _, envelope in slot_of(wallet, 100) if opened(envelope).actions)
    true = Receipt(content.reference, (Outcome(b"\3" * 32, True),), "")
    sealed = seal_receipt(true)
    flipped = sealed.sealed[:40] + bytes([sealed.sealed[40] ^ 1]) + sealed.sealed[41:]
    other = seal_receipt(Receipt(b"o" * 16, (), "")).sealed
    for forged in (flipped, other, bytes(len(other))):
        with pytest.raises(base.InvalidMessage, match="not sealed by"):
            wallet.on_receipt(base.encode(SealedReceipt(sealed.number, forged)))
    with pytest.raises(base.InvalidMessage):
        wallet.on_receipt(base.encode(true))
    assert wallet.on_receipt(base.encode(sealed)) == ("payment", true)
    assert wallet.on_receipt(base.encode(sealed)) is None, "a repetition is no news"


# ---- rules ----------------------------------------------------------------------------------------------------------


def test_real_envelopes_go_before_dummies_and_arrive_whole():
    wallet = schedule()
    wallet.put("a", PAYMENT, LATER)
    wallet.put("b", PAYMENT * 2, LATER + 1)
    contents = [opened(envelope) for _, envelope in slot_of(wallet, 100)]
    assert {(content.actions, content.valid_until) for content in contents[:2]} == {
        (PAYMENT, LATER),
        (PAYMENT * 2, LATER + 1),
    }
    assert [(content.actions, content.valid_until) for content in contents[2:]] == [((), 0)] * 2
    assert len({content.reference for content in contents}) == ENVELOPES_PER_SLOT
    assert wallet.waiting == ()


def test_a_key_goes_once_a_slot():
    wallet = schedule()
    wallet.put("payment", PAYMENT, LATER)
    first = wallet.due(100, wallet.next_part(100))
    wallet.put("payment", PAYMENT, LATER)
    rest = wallet.due(100, SLOT_PARTS)
    assert len(real(first)) == 1 and real(rest) == [] and wallet.waiting == ("payment",)
    assert len(real(wallet.due(101, SLOT_PARTS))) == 1


def test_a_content_put_in_the_middle_of_a_slot_takes_its_next_place():
    wallet = schedule()
    assert real(wallet.due(100, wallet.next_part(100))) == []
    wallet.put("payment", PAYMENT, LATER)
    assert len(real(wallet.due(100, SLOT_PARTS))) == 1


def test_a_content_is_replaced_and_dropped_by_its_key():
    wallet = schedule()
    wallet.put("payment", PAYMENT, LATER)
    wallet.put("payment", PAYMENT * 3, LATER)
    wallet.put("other", PAYMENT, LATER)
    wallet.drop("other")
    wallet.drop("never put")
    (envelope,) = real([envelope for _, envelope in slot_of(wallet, 100)])
    assert opened(envelope).actions == PAYMENT * 3


def test_the_queue_is_bounded_and_its_keys_can_still_be_replaced():
    wallet = schedule()
    for number in range(MAX_QUEUED):
        wallet.put(f"{number}", PAYMENT, LATER)
    with pytest.raises(QueueFull, match="one more"):
        wallet.put("one more", PAYMENT, LATER)
    wallet.put("0", PAYMENT * 2, LATER)
    assert len(wallet.waiting) == MAX_QUEUED
    slot_of(wallet, 100)
    wallet.put("one more", PAYMENT, LATER)


def test_what_does_not_fit_is_refused_when_it_is_put():
    wallet = schedule()
    for actions in ((), (Action(b"", b"x" * CONTENT_BYTES),), PAYMENT * (MAX_ACTIONS + 1)):
        with pytest.raises(ValueError):
            wallet.put("payment", actions, LATER)
    assert wallet.waiting == ()
    with pytest.raises(ValueError, match="need a relay"):
        EnvelopeSchedule([], random.Random(1).randrange)


def test_receipts_of_dummies_and_of_strangers_are_no_news():
    wallet = schedule()
    for _, envelope in slot_of(wallet, 100):
        assert wallet.on_receipt(base.encode(seal_receipt(Receipt(opened(envelope).reference, (), "")))) is None
    assert wallet.on_receipt(base.encode(seal_receipt(Receipt(b"s" * 16, (), "")))) is None


def test_what_is_remembered_is_bounded():
    wallet = schedule()
    envelopes = []
    for slot in range(MAX_UNANSWERED // ENVELOPES_PER_SLOT + 1):
        wallet.put(f"payment {slot}", PAYMENT, LATER)
        envelopes += [(slot, envelope) for _, envelope in slot_of(wallet, slot)]
    answers = [
        (slot, wallet.on_receipt(base.encode(seal_receipt(Receipt(opened(envelope).reference, (), "")))))
        for slot, envelope in envelopes
    ]
    heard = [answer[0] for _, answer in answers if answer]
    assert heard == [f"payment {slot}" for slot in range(1, MAX_UNANSWERED // ENVELOPES_PER_SLOT + 1)]
    for number in range(MAX_KEYS + 1):
        wallet.put(f"key {number}", PAYMENT, LATER)
        wallet.due(1_000 + number, SLOT_PARTS)
    assert wallet.last_relay("payment 1") is None and wallet.last_relay(f"key {MAX_KEYS}") is not None


def test_the_number_of_a_receipt_does_not_give_its_reference_away():
    assert receipt_number(b"r" * 16) not in (b"r" * 16, receipt_number(b"s" * 16)) and len(receipt_number(b"r" * 16)) == 16
