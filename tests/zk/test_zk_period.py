"""The statement period: a key belongs to the meter and the period it is shown for."""

from dataclasses import replace

import pytest
from zk_cases import R_BLIND, S_BLIND
from zk_judge import broken_rules, free_wires, named_rules, wires_of
from zk_meter_cases import MeterCases

from openmg.zk import pyecc_verify
from openmg.zk.circuits import period as statement
from openmg.zk.circuits.period import PeriodWitness, publics_of
from openmg.zk.circuits.registry import CIRCUITS
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys
from openmg.zk.r1cs import UnsatisfiedError, WitnessBuilder, circuit_hash
from openmg.zk.tags import H

IDENTITY, KEY = "mid is the meter's", "k is the meter's key of the period"


@pytest.fixture(scope="module")
def period_system():
    return CIRCUITS[statement.NAME].build()


@pytest.fixture
def judged(period_system):
    return lambda witness, publics=None: broken_rules(period_system, statement, witness, publics)


@pytest.mark.parametrize("period", [0, 657, R - 1])
def test_the_meters_own_key_is_accepted(judged, period):
    home = MeterCases().home
    witness = PeriodWitness(home.mk, period)
    assert judged(witness) == set()
    assert publics_of(witness).as_list() == [home.mid, period, H("per", home.mk, period)]
    assert wires_of(statement, witness)[1:4] == publics_of(witness).as_list()


def test_every_rule_has_a_violation(period_system):
    assert named_rules(period_system) == {IDENTITY, KEY}
    assert (period_system.n_constraints, period_system.domain_log2) == (461, 9)
    assert circuit_hash(period_system) == statement.CIRCUIT_HASH


def test_another_meters_key_is_refused(judged):
    cases = MeterCases()
    witness, honest = PeriodWitness(cases.home.mk, 657), publics_of(PeriodWitness(cases.home.mk, 657))
    assert judged(witness, replace(honest, meter_id=cases.neighbour.mid)) == {IDENTITY}
    assert judged(witness, replace(honest, key=H("per", cases.neighbour.mk, 657))) == {KEY}
    with pytest.raises(UnsatisfiedError, match=IDENTITY):
        statement.synthesize(WitnessBuilder(), replace(honest, meter_id=cases.neighbour.mid), witness)


def test_another_periods_key_is_refused(judged):
    witness = PeriodWitness(MeterCases().home.mk, 657)
    honest = publics_of(witness)
    assert judged(witness, replace(honest, key=H("per", witness.meter_secret, 658))) == {KEY}
    assert judged(witness, replace(honest, period=658)) == {KEY}


def test_every_wire_matters(period_system):
    wires = wires_of(statement, PeriodWitness(MeterCases().home.mk, 657))
    assert free_wires(period_system, wires, "period") == []


def test_the_secret_is_in_no_text():
    assert str(MeterCases().home.mk) not in repr(PeriodWitness(MeterCases().home.mk, 657))


@pytest.mark.native
def test_a_native_proof_is_verified_by_py_ecc(native, key_cache):
    key = ensure_keys(statement.NAME, key_cache, native)
    witness = PeriodWitness(MeterCases().home.mk, 657)
    publics = publics_of(witness).as_list()
    proof = native.prover(key.path).prove(wires_of(statement, witness), R_BLIND, S_BLIND)
    assert pyecc_verify.verify(key.verifying_key, publics, proof)
    assert not native.verify(key.verifying_key, [publics[0], publics[1] + 1, publics[2]], proof)
