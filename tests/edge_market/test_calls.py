"""Calls and witnesses: what contracts decode, what proofs bind, and that every witness satisfies its statement."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from trade_cases import CALENDAR, CALLS, HOMES, MICROGRID, SLOT, registry_notice, satisfied, slot_notice

from edge_agent.market.agreed import agreed_slot
from edge_agent.market.calls import SIGNATURES, Purchase, Sale
from edge_agent.market.registry_trees import RegistryTrees
from openmg.evm.abi import selector
from openmg.zk.circuits import buy, mint
from openmg.zk.meters import LOT_WH
from openmg.zk.notes import NoteScanner
from openmg.zk.r1cs import UnsatisfiedError

ARTIFACT = Path(__file__).resolve().parents[2] / "contracts/artifacts/EnergyPool.json"
ADA = HOMES[0]
SEALED = (b"\x01" * 114, b"\x02" * 114)


def canonical(item: dict) -> str:
    if item["type"].startswith("tuple"):
        return "(" + ",".join(canonical(part) for part in item["components"]) + ")" + item["type"][len("tuple") :]
    return item["type"]


@pytest.mark.parametrize("signature", SIGNATURES)
def test_the_signature_is_the_compiled_contracts(signature):
    functions = [item for item in json.loads(ARTIFACT.read_text())["abi"] if item["type"] == "function"]
    compiled = [f"{item['name']}({','.join(canonical(part) for part in item['inputs'])})" for item in functions]
    assert signature in compiled and selector(signature) == selector(compiled[compiled.index(signature)])


def ext_cases():
    """Every ext, and what each field of its call is changed to."""
    sale, purchase = Sale(5, 2, 77), Purchase(SLOT, 5, 11, 12, 13)
    spent = (21, (22, 23), (24, 25))
    yield "mint", lambda c, f: c.mint_ext(f["slot"], f["until"], f["ct"]), {"slot": SLOT, "until": 9, "ct": b"x"}
    for name in ("key", "lots", "payout_partial"):
        yield f"sale {name}", lambda c, f, n=name: c.sale_ext(replace(sale, **{n: f["v"]}), 9, SEALED), {"v": 3}
    yield "sale rest", lambda c, f: c.sale_ext(sale, f["until"], (f["ct"], SEALED[1])), {"until": 9, "ct": b"x"}
    yield "sale second", lambda c, f: c.sale_ext(sale, 9, (SEALED[0], f["ct"])), {"ct": b"x"}
    for name in ("slot", "lots", "nullifier", "delivery_partial", "change_partial"):
        yield f"buy {name}", lambda c, f, n=name: c.purchase_ext(replace(purchase, **{n: f["v"]}), *spent, 9, SEALED), {"v": 3}
    yield (
        "buy payment",
        lambda c, f: c.purchase_ext(purchase, f["r"], (f["n1"], f["n2"]), (f["c1"], f["c2"]), f["until"], (f["ct"], f["ct2"])),
        {"r": 1, "n1": 2, "n2": 3, "c1": 4, "c2": 5, "until": 6, "ct": b"x", "ct2": b"z"},
    )
    yield "burn", lambda c, f: c.burn_ext(f["key"], f["until"]), {"key": 5, "until": 9}


@pytest.mark.parametrize(("name", "build", "fields"), [pytest.param(*case, id=case[0]) for case in ext_cases()])
def test_a_relay_can_change_no_field_of_a_call(name, build, fields):
    honest = build(CALLS, fields)
    for field, value in fields.items():
        other = value + b"y" if isinstance(value, bytes) else value + 1
        assert build(CALLS, fields | {field: other}) != honest, field
    changed = ({"chain_id": 1}, {"pool": b"\x09" * 20}, {"circuit_set": b"\x08" * 32})
    assert all(build(replace(CALLS, **change), fields) != honest for change in changed)


@pytest.fixture(scope="module")
def known():
    """A registration and an agreed slot of 700 Wh export and 1,234 Wh import."""
    trees = RegistryTrees()
    trees.hear(registry_notice([home.leaf() for home in HOMES]))
    registration = trees.registration(ADA.meter_secret, ADA.keys.spending_key.public_key, MICROGRID, SLOT)
    notice = slot_notice(SLOT, {HOMES[1]: (1, 2), ADA: (1_234, 700)})
    return registration, agreed_slot(notice, ADA.meter_id, *ADA.openings(SLOT, 1_234, 700))


def test_a_mint_is_true_and_its_note_comes_back_to_us(known):
    registration, agreed = known
    witness, sealed = ADA.maker().mint(registration, agreed, 99, b"\x05" * 32)
    satisfied(mint, witness)
    stated = mint.publics_of(witness)
    assert stated.period == CALENDAR.period_of(SLOT) and stated.microgrid == MICROGRID
    note = NoteScanner(ADA.keys.spending_key.viewing_key).open(sealed, stated.commitment)
    assert note.amount == 700 and note.asset == stated.asset
    again, _ = ADA.maker().mint(registration, agreed, 100, b"\x06" * 32)
    twice = mint.publics_of(again)
    assert (twice.nullifier, twice.commitment) == (stated.nullifier, stated.commitment) and twice.ext != stated.ext


@pytest.mark.parametrize(("lots", "true"), [(1, True), (12, True), (13, False)])
def test_a_purchase_is_true_up_to_the_whole_lots_of_the_import(known, lots, true):
    registration, agreed = known
    maker = ADA.maker()
    purchase = maker.purchase(ADA.meter_secret, SLOT, lots)
    witness = maker.buy(registration, agreed, purchase, 5)
    stated = buy.publics_of(witness)
    assert (stated.nullifier, stated.delivery_partial) == (purchase.nullifier, purchase.delivery_partial)
    assert (lots * LOT_WH <= 1_234) == true
    if true:
        satisfied(buy, witness)
    else:
        with pytest.raises(UnsatisfiedError):
            satisfied(buy, witness)
