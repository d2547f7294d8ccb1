"""Evidence of equivocation on the chain: what is recorded, and every way to abuse it, by name of the attack."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import eth_abi
import pytest
from app_world import CHAIN_ID, METERS, block, ctx, started
from eth_utils import keccak
from governance_support import ADDRESSES, CHAIN, KEYS, NEW_KEYS, change, evidence, fake_digest, offences, passing, validators

from hub.ppdl.app import governance
from hub.ppdl.app import offences as rules
from hub.ppdl.app.answers import EventsAnswer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.membership import Flagged
from hub.ppdl.app.transactions import KIND_EVIDENCE, Transaction, evidence_tx
from hub.ppdl.application import Verdict
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.evidence import EVIDENCE_KINDS, Evidence, EvidenceError
from hub.ppdl.consensus.messages import Kind
from openmg import codec
from openmg.hashing import merkle_verify
from openmg.messages import base
from openmg.signing import address_of

THIEF = KEYS[1]


@pytest.fixture
def app(tmp_path: Path) -> PpdlApplication:
    return started(tmp_path / "app.sqlite")


def tx(one: Evidence) -> bytes:
    return evidence_tx(one.encoded)


def ok(app: PpdlApplication, txs: list[bytes]) -> tuple[bytes, ...]:
    """Commits a block in which every transaction takes effect; returns its events."""
    assert app.process_proposal(ctx(app.info().last_height + 1), txs) is Verdict.ACCEPT
    result = block(app, txs)
    assert all(one.ok for one in result.tx_results)
    return result.events


def refused(app: PpdlApplication, data: bytes, reason: str, malformed: bool = False) -> None:
    """Neither the mempool nor a block takes it, and no record or event follows."""
    before = offences(app)
    verdict = app.check_tx(data)
    assert not verdict.ok and reason in verdict.reason and verdict.malformed == malformed, verdict
    assert app.process_proposal(ctx(app.info().last_height + 1), [data]) is Verdict.REJECT
    result = block(app, [data])
    assert not result.tx_results[0].ok and result.events == () and offences(app) == before


@pytest.mark.parametrize("kind", EVIDENCE_KINDS)
def test_each_kind_is_recorded_and_told_to_the_evm(app: PpdlApplication, kind: Kind) -> None:
    one = evidence(THIEF, 1, 3, kind)
    (event,) = ok(app, [tx(one)])
    types = ["bytes32", "uint256", "address", "uint256", "uint256", "uint256", "bytes32", "bytes32"]
    values = (keccak(b"openmg.event.evidence.v1"), CHAIN_ID, ADDRESSES[1], 1, 3, int(kind), one.digest_a, one.digest_b)
    assert event == eth_abi.encode(types, values)
    proved = base.decode(EventsAnswer, app.query("events/1", b"").value)
    assert proved.app_hash == app.info().app_hash
    (item,) = proved.events
    assert merkle_verify(_root(proved), item.event, 0, 1, item.proof) and item.event == event
    (kept,) = offences(app).kept
    assert (kept.offender, kept.kind, kept.recorded_height, offences(app).total) == (ADDRESSES[1], int(kind), 1, 1)
    assert validators(app).flagged == (Flagged(ADDRESSES[1], 1),)


def _root(proved: EventsAnswer) -> bytes:
    """The root that the agreed app hash holds: keccak(tag | state hash | root | model hash) has no other solution."""
    leaf = keccak(b"\0" + proved.events[0].event)
    tag = keccak(b"openmg.ppdl.app.v1")
    assert keccak(tag + proved.state_hash + leaf + proved.model_hash) == proved.app_hash
    return leaf


def test_evidence_flags_and_removal_is_a_vote(app: PpdlApplication) -> None:
    ok(app, [tx(evidence(THIEF))])
    assert ADDRESSES[1] in validators(app).sets[-1].addresses
    for passed in passing(change(remove=ADDRESSES[1], below_four=True), (KEYS[0], KEYS[2], KEYS[3])):
        assert app.check_tx(passed).ok or "no such proposal" in app.check_tx(passed).reason
    block(app, passing(change(remove=ADDRESSES[1], below_four=True), (KEYS[0], KEYS[2], KEYS[3])))
    assert ADDRESSES[1] not in validators(app).sets[-1].addresses and validators(app).flagged == ()
    assert offences(app).total == 1


def test_attack_same_evidence_twice(app: PpdlApplication) -> None:
    ok(app, [tx(evidence(THIEF))])
    refused(app, tx(evidence(THIEF)), "recorded already")
    other = evidence(THIEF, digests=(fake_digest(1), fake_digest(2)))
    refused(app, tx(other), "recorded already")  # other digests at the same place are the same offence
    ok(app, [tx(evidence(THIEF, view=1)), tx(evidence(THIEF, kind=Kind.COMMIT)), tx(evidence(KEYS[0]))])
    assert offences(app).total == 4
    assert app.process_proposal(ctx(9), [tx(evidence(KEYS[2])), tx(evidence(KEYS[2]))]) is Verdict.REJECT


def test_attack_equal_digests_or_one_pair_written_twice(app: PpdlApplication) -> None:
    good = evidence(THIEF)
    fields = codec.decode(good.encoded)
    equal = [*fields[:4], fields[3], fields[5], fields[5]]
    swapped = [*fields[:3], fields[4], fields[3], fields[6], fields[5]]
    for bad in (equal, swapped):
        refused(app, Transaction(KIND_EVIDENCE, codec.encode(bad)).encode(), "smaller one first", malformed=True)
    with pytest.raises(EvidenceError, match="must differ"):
        dataclasses.replace(good, digest_b=good.digest_a)


def test_attack_two_statements_of_two_validators(app: PpdlApplication) -> None:
    """Two honest votes that differ are no offence of either."""
    mixed = dataclasses.replace(evidence(KEYS[0]), signature_b=evidence(KEYS[2]).signature_b)
    refused(app, tx(mixed), "not signed by one key", malformed=True)


def test_attack_signer_outside_the_set(app: PpdlApplication) -> None:
    for outsider in (NEW_KEYS[0], METERS[0].key.signing_key):
        refused(app, tx(evidence(outsider)), "was not a validator at height 1")


def test_membership_is_that_of_the_height_of_the_offence(app: PpdlApplication) -> None:
    newcomer = NEW_KEYS[0]
    ok(app, passing(change(add=newcomer, remove=ADDRESSES[1]), (KEYS[0], KEYS[2], KEYS[3]), newcomer))  # set from height 3
    for _ in range(4):
        ok(app, [])
    refused(app, tx(evidence(THIEF, height=3)), "was not a validator at height 3")
    refused(app, tx(evidence(newcomer, height=2)), "was not a validator at height 2")
    ok(app, [tx(evidence(THIEF, height=2)), tx(evidence(newcomer, height=3))])
    assert validators(app).flagged == (Flagged(address_of(newcomer), 1),)
    assert offences(app).total == 2


def test_attack_old_evidence(app: PpdlApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "EVIDENCE_MAX_AGE", 3)
    for _ in range(3):
        ok(app, [])
    ok(app, [tx(evidence(THIEF, height=1))])  # in block 4: as old as it may be
    assert offences(app).kept == ()  # block 5 would refuse it as old, so nothing need be remembered
    refused(app, tx(evidence(THIEF, height=1)), "too old")
    assert offences(app).total == 1
    assert governance.EVIDENCE_MAX_AGE == 100_000


def test_attack_evidence_of_the_future(app: PpdlApplication) -> None:
    """The next height's votes can be known already, later ones' cannot: their set is not decided."""
    refused(app, tx(evidence(THIEF, height=3)), "not reached")  # height 1
    ok(app, [tx(evidence(THIEF, height=3))])  # height 2
    refused(app, tx(evidence(KEYS[2], height=2**64 - 1)), "not reached")


def test_attack_evidence_of_another_chain(app: PpdlApplication) -> None:
    for domain in (Domain(CHAIN_ID + 1, CHAIN), Domain(CHAIN_ID, bytes(32))):
        for kind in EVIDENCE_KINDS:
            data = tx(evidence(THIEF, kind=kind, domain=domain))
            assert not app.check_tx(data).ok  # the keys that it recovers to are nobody's, or two


def test_attack_a_flipped_bit_anywhere(app: PpdlApplication) -> None:
    good = evidence(THIEF, height=1, view=2)
    data = good.encoded
    for position in range(len(data)):
        for bit in (1, 128):
            bad = bytearray(data)
            bad[position] ^= bit
            forged = Transaction(KIND_EVIDENCE, bytes(bad)).encode()
            assert not app.check_tx(forged).ok, (position, bit)
    assert app.check_tx(tx(good)).ok


def test_attack_a_kind_that_may_be_said_twice(app: PpdlApplication) -> None:
    with pytest.raises(EvidenceError, match="NEW_VIEW may be said twice"):
        evidence(THIEF, kind=Kind.NEW_VIEW)
    fields = codec.decode(evidence(THIEF).encoded)
    for kind in (0, int(Kind.NEW_VIEW), int(Kind.STATUS), 255):
        refused(app, Transaction(KIND_EVIDENCE, codec.encode([kind, *fields[1:]])).encode(), "kind", malformed=True)


def test_attack_a_key_that_equivocates_without_end(app: PpdlApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds a key makes as many as it likes; the chain keeps enough of them and no more."""
    many = [tx(evidence(THIEF, view=view)) for view in range(rules.RECORDS_PER_OFFENDER + 1)]
    ok(app, many[:-1])
    refused(app, many[-1], "are enough")
    monkeypatch.setattr(rules, "MAX_OFFENCES", rules.RECORDS_PER_OFFENDER + 1)
    ok(app, [tx(evidence(KEYS[2]))])
    refused(app, tx(evidence(KEYS[3])), "are enough")


def test_evidence_of_one_offence_has_one_subject(app: PpdlApplication) -> None:
    alike = [evidence(THIEF), evidence(THIEF, digests=(fake_digest(1), fake_digest(2)))]
    other = [evidence(THIEF, view=1), evidence(THIEF, kind=Kind.COMMIT), evidence(KEYS[0])]
    subjects = [app.check_tx(tx(one)).subject for one in (*alike, *other)]
    assert subjects[0] == subjects[1] and len(set(subjects)) == 4 and b"" not in subjects


def test_the_engine_gets_the_transaction_from_the_application(app: PpdlApplication) -> None:
    one = evidence(THIEF)
    assert app.evidence_tx(one.encoded) == tx(one)
    assert Evidence.decode(one.encoded) == one
