"""A ceremony gives the keys that its secrets define, and every smallest change of its transcript is refused."""

import random
import secrets
from dataclasses import replace

import pytest
from ceremony_cases import (
    BEACON,
    BEACON_LOG2,
    LOG2,
    NAMES,
    Known,
    cube_system,
    cube_wires,
    ecc_g1,
    ecc_g2,
    moved_point,
    naive_key,
    restamped,
    with_point,
    with_section,
)
from zk_cases import R_BLIND, S_BLIND, twist_point_outside_the_subgroup

from openmg.zk import curve, groth16, pyecc_verify
from openmg.zk.backend import get_backend
from openmg.zk.ceremony import phase1, phase2, verification
from openmg.zk.ceremony.arithmetic import PortableArithmetic, arithmetic_of, silent
from openmg.zk.ceremony.entries import BeaconEntry, context
from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.ceremony.phase1 import group_of
from openmg.zk.ceremony.sparse import GROUP1, GROUP2, bytes_of, point_of
from openmg.zk.ceremony.transcript import Transcript
from openmg.zk.field import FQ, Q, R
from openmg.zk.proving_key import ProvingKeyFile

POWERS = ("tau1", "tau2", "alpha1", "beta1", "beta2")
KEY = ("delta1", "delta2", "A", "B1", "B2", "L", "H", "IC")


@pytest.fixture(scope="module")
def arithmetic():
    """The fastest that there is; both are compared in test_both_arithmetics_make_the_same_transcript."""
    return arithmetic_of(get_backend("auto"))


@pytest.fixture(scope="module")
def known(arithmetic) -> Known:
    return Known(arithmetic)


@pytest.fixture(scope="module")
def key_file(known, tmp_path_factory) -> ProvingKeyFile:
    path = tmp_path_factory.mktemp("ceremony") / "cube.pk"
    path.write_bytes(verification.key_bytes(known.final, known.system))
    return ProvingKeyFile(path)


@pytest.fixture
def check1(arithmetic):
    return lambda transcript: phase1.check(transcript, arithmetic, secrets.randbelow, silent)


@pytest.fixture
def check2(arithmetic, known):
    def check(transcript, system=known.system):
        phase2.check(transcript, system, arithmetic, secrets.randbelow, silent)

    return check


# What a ceremony makes


def test_the_key_is_the_naive_one_of_the_known_secrets(known, key_file):
    """The product of the parties' secrets and the beacon's defines every point; py_ecc and products compute it."""
    expected = naive_key(known.system, known.tau, known.alpha, known.beta, known.delta)
    assert {name: key_file.section(name) for name in expected} == expected


def test_the_powers_are_the_naive_ones(known):
    n, tau = 1 << LOG2, known.tau
    powers = [pow(tau, i, R) for i in range(2 * n - 1)]
    assert known.powers.sections == {
        "tau1": ecc_g1(powers),
        "tau2": ecc_g2(powers[:n]),
        "alpha1": ecc_g1([known.alpha * p for p in powers[:n]]),
        "beta1": ecc_g1([known.beta * p for p in powers[:n]]),
        "beta2": ecc_g2([known.beta]),
    }


def test_proofs_under_the_key_are_accepted_by_py_ecc(key_file):
    proof = groth16.PortableProver(key_file).prove(cube_wires(3), R_BLIND, S_BLIND).to_bytes()
    key = key_file.verifying_key
    assert pyecc_verify.verify(key, [35], proof) and groth16.verify(key, [35], proof)
    assert not groth16.verify(key, [36], proof)


@pytest.mark.native
def test_both_arithmetics_make_the_same_transcript(native):
    both = (PortableArithmetic(), arithmetic_of(native))
    made = {arithmetic.name: Known(arithmetic).final.to_bytes() for arithmetic in both}
    assert set(made) == {"native", "portable"} and made["native"] == made["portable"]


@pytest.mark.parametrize("stage", ["started", "powers", "prepared", "open", "final"])
def test_an_honest_transcript_is_accepted_from_its_bytes(known, stage):
    transcript = Transcript.from_bytes(getattr(known, stage).to_bytes(), "memory")
    assert transcript == getattr(known, stage)
    report = verification.verify(transcript, known.system, PortableArithmetic(), secrets.randbelow, silent)
    expected = {"started": 0, "powers": 3, "prepared": 3, "open": 6, "final": 7}
    assert len(report.contributions) == expected[stage] and report.final == (stage == "final")
    assert (report.verifying_key is None) == (stage in ("started", "powers", "prepared"))


def test_the_report_names_everybody(known, arithmetic):
    report = verification.verify(known.final, known.system, arithmetic, secrets.randbelow, silent)
    said = [(one.phase, one.kind, one.name) for one in report.contributions]
    party = "contribution"
    assert said == [*((1, party, name) for name in NAMES), *((2, party, name) for name in NAMES), (2, "beacon", "beacon")]
    assert len({one.hash for one in report.contributions}) == 7
    for one in report.contributions:
        verification.require_hash(report, one.hash)
    with pytest.raises(CeremonyError, match="it was left out"):
        verification.require_hash(report, bytes(32))


def test_a_larger_phase_1_is_cut_to_the_circuit(known, arithmetic, check1, check2):
    larger = phase1.start(LOG2 + 1)
    larger = known.add_tau(larger, "Ada")
    prepared = phase2.prepare(larger, "cube", known.system, arithmetic, silent)
    assert prepared.log2 == LOG2 and prepared.origin.log2 == LOG2 + 1
    transcript = known.add_delta(prepared, "Bea")
    check1(transcript)
    check2(transcript)


# gamma = delta, and ceremonies without a secret


def test_contributions_that_cancel_are_refused(known, check2):
    """delta = 1 = gamma: each proof of knowledge holds, and still anybody could forge."""
    factor = known.scalar()
    half = known.add_delta(known.prepared, "Mallory", factor)
    cancelled = known.add_delta(half, "Mallory again", pow(factor, -1, R))
    check2(half)
    with pytest.raises(CeremonyError, match="gamma = delta"):
        check2(cancelled)
    with pytest.raises(CeremonyError, match="no safe keys.*gamma = delta"):
        verification.verifying_key(cancelled)


def test_a_beacon_alone_makes_no_keys(known):
    with pytest.raises(CeremonyError, match="a beacon alone is no secret"):
        known.apply_beacon(known.prepared)


def test_a_beacon_put_first_is_refused(known, check2, arithmetic):
    scalar = phase2.beacon_scalar(BEACON, BEACON_LOG2, context(known.prepared.tip, "beacon", "beacon"))
    sections = phase2._moved(known.prepared, scalar, arithmetic, silent)
    entry = BeaconEntry("beacon", BEACON, BEACON_LOG2, sections["delta1"], b"")
    with pytest.raises(CeremonyError, match="after a contribution"):
        check2(known.prepared.with_entry(entry, sections))


def test_phase_2_without_a_contribution_to_phase_1_is_refused(known, arithmetic, check2):
    with pytest.raises(CeremonyError, match="anybody knows its tau"):
        phase2.prepare(known.started, "cube", known.system, arithmetic, silent)
    with pytest.raises(CeremonyError, match="anybody knows its tau"):
        check2(replace(known.open, taus=()))


def test_no_keys_before_the_end(known):
    with pytest.raises(CeremonyError, match="not final"):
        verification.key_bytes(known.open, known.system)


def test_each_phase_goes_on_from_its_own_files(known, arithmetic):
    with pytest.raises(CeremonyError, match="already of phase 2"):
        phase2.prepare(known.prepared, "cube", known.system, arithmetic, silent)
    with pytest.raises(CeremonyError, match="phase 1 of this file is closed"):
        known.add_tau(known.prepared, "Ada")
    with pytest.raises(CeremonyError, match="of phase 1, which no circuit belongs to"):
        known.add_delta(known.powers, "Ada")
    with pytest.raises(CeremonyError, match="name it with --circuit"):
        verification.verify(known.open, None, arithmetic, secrets.randbelow, silent)


def test_nothing_comes_after_the_beacon(known, check2):
    for more in (lambda: known.add_delta(known.final, "late"), lambda: known.apply_beacon(known.final)):
        with pytest.raises(CeremonyError, match="is final"):
            more()
    late = known.add_delta(known.open, "late").deltas[-1]
    with pytest.raises(CeremonyError, match="does not come last"):
        check2(replace(known.final, deltas=(*known.final.deltas, late)))


# The circuit


def test_another_circuit_is_refused(known, check2):
    other = cube_system(constant=6)
    with pytest.raises(CeremonyError, match="not for the given one"):
        check2(known.final, other)


def test_keys_of_another_circuit_under_this_ones_hash_are_refused(known, arithmetic, check2):
    """A coordinator prepares x^3 + x + 6 and writes the hash of x^3 + x + 5 beside it; the contributions are honest."""
    prepared = phase2.prepare(known.powers, "cube", cube_system(constant=6), arithmetic, silent)
    posing = known.add_delta(replace(prepared, subject=known.prepared.subject), "Ada")
    with pytest.raises(CeremonyError, match="key section A is not the circuit's"):
        check2(posing)


def test_a_circuit_that_needs_more_powers_is_refused(known, arithmetic):
    small = known.add_tau(phase1.start(LOG2 - 1), "Ada")
    with pytest.raises(CeremonyError, match=r"has 2\^2 powers and the circuit needs 2\^3"):
        phase2.prepare(small, "cube", known.system, arithmetic, silent)


# Points


def checked(known, section, check1, check2):
    """The stage and the check that a section belongs to."""
    return (known.powers, check1) if section in POWERS else (known.final, check2)


@pytest.mark.parametrize("section", [*POWERS, *KEY])
def test_a_point_off_its_curve_is_refused(known, check1, check2, section):
    transcript, check = checked(known, section, check1, check2)
    group = group_of(section)
    last = len(transcript.sections[section]) // group.size - 1
    index = next(i for i in range(last, -1, -1) if point_of(group, transcript.sections[section], i))
    point = list(point_of(group, transcript.sections[section], index))
    point[-1] = (point[-1] + 1) % FQ
    with pytest.raises(CeremonyError, match=f"point {index} of {section} is not on the curve"):
        check(with_point(transcript, group, section, index, bytes_of(group, [point])))


@pytest.mark.parametrize("section", ["tau1", "A"])
def test_a_coordinate_that_is_not_reduced_is_refused(known, check1, check2, section):
    """x + q is the same point written another way: two files for one ceremony."""
    transcript, check = checked(known, section, check1, check2)
    x, y = point_of(GROUP1, transcript.sections[section], 1)
    with pytest.raises(CeremonyError, match=f"point 1 of {section} is not on the curve"):
        check(with_point(transcript, GROUP1, section, 1, bytes_of(GROUP1, [(x + Q, y)])))


@pytest.mark.parametrize("section", [*POWERS, *KEY])
def test_a_point_at_infinity_is_refused(known, check1, check2, section):
    """Every wire of the circuit occurs in A; infinity is right only where a wire does not occur."""
    transcript, check = checked(known, section, check1, check2)
    group = group_of(section)
    index = next(i for i in range(16) if point_of(group, transcript.sections[section], i))
    with pytest.raises(CeremonyError, match=f"point {index} of {section} is at infinity"):
        check(with_point(transcript, group, section, index, bytes(group.size)))


def test_nobody_contributes_to_a_delta_at_infinity(known):
    with pytest.raises(CeremonyError, match="delta is at infinity"):
        known.add_delta(with_section(known.prepared, "delta1", bytes(64)), "Ada")


def test_infinity_stands_for_wires_that_do_not_occur(known):
    points = [point_of(GROUP1, known.final.sections["B1"], i) for i in range(known.system.n_wires)]
    assert [point is None for point in points] == [i not in known.system.b.columns for i in range(known.system.n_wires)]
    assert None in points


@pytest.fixture(scope="module")
def small_order_point():
    """A point of the twist whose order is 10069, the cofactor's smallest prime: the hardest to notice."""
    cofactor = 2 * Q - R
    assert cofactor % 10_069 == 0 and all(cofactor % p for p in range(2, 10_069))
    point = curve.multiply_g2(twist_point_outside_the_subgroup(), cofactor // 10_069 * R, reduce_scalar=False)
    assert point is not None and curve.multiply_g2(point, 10_069, reduce_scalar=False) is None
    return point


@pytest.mark.parametrize("section", ["tau2", "beta2", "delta2", "B2"])
def test_a_point_outside_the_subgroup_is_refused(known, check1, check2, section, small_order_point):
    transcript, check = checked(known, section, check1, check2)
    data = transcript.sections[section]
    index = next(i for i in range(8) if point_of(GROUP2, data, i) and (section not in POWERS or i or len(data) == 128))
    point = curve.add_g2(point_of(GROUP2, data, index), small_order_point)
    assert curve.on_curve_g2(point)
    with pytest.raises(CeremonyError, match=f"{section}.* is outside the pairing subgroup"):
        check(with_point(transcript, GROUP2, section, index, bytes_of(GROUP2, [point])))


# Changes that leave every point in its group


@pytest.mark.parametrize(
    ("section", "index", "why"),
    [
        ("tau1", 0, "start at the generators"),
        ("tau2", 0, "start at the generators"),
        ("tau1", 1, "tau1 does not hold the powers"),
        ("tau1", 2 * (1 << LOG2) - 2, "tau1 does not hold the powers"),
        ("tau2", (1 << LOG2) - 1, "tau2 does not hold the powers"),
        ("alpha1", (1 << LOG2) - 1, "alpha1 does not hold the powers"),
        ("beta1", (1 << LOG2) - 1, "beta1 does not hold the powers"),
        ("beta2", 0, "beta differs between the two groups"),
    ],
)
def test_a_changed_power_is_refused(known, check1, section, index, why):
    with pytest.raises(CeremonyError, match=why):
        check1(moved_point(known.powers, group_of(section), section, index))


def test_powers_of_another_tau_than_the_contributions_is_refused(known, check1):
    other = known.add_tau(known.started, "Mallory")
    with pytest.raises(CeremonyError, match="not where the contributions lead"):
        check1(restamped(replace(known.powers, sections=other.sections)))


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("delta1", "delta is not where the contributions lead"),
        ("delta2", "delta differs between the two groups"),
        ("L", "key section L is not the circuit's divided by delta"),
        ("H", "key section H is not the domain's divided by delta"),
    ],
)
def test_a_contribution_that_moves_what_it_may_change_wrongly_is_refused(known, check2, section, why):
    with pytest.raises(CeremonyError, match=why):
        check2(moved_point(known.open, group_of(section), section, 0))


@pytest.mark.parametrize("section", ["A", "B1", "B2", "IC"])
def test_a_contribution_that_changes_anything_else_is_refused(known, check2, section):
    """Against the circuit alone, and against the file before it."""
    group = group_of(section)
    index = next(i for i in range(8) if point_of(group, known.open.sections[section], i))
    tampered = moved_point(known.open, group, section, index)
    with pytest.raises(CeremonyError, match="does not hold at this place of the chain"):
        check2(tampered)
    with pytest.raises(CeremonyError, match=f"changed {section}, which none may change"):
        verification.require_successor(known.add_delta(replace(known.open, sections=tampered.sections), "Eve"), known.open)


@pytest.mark.parametrize("section", ["A", "B1", "B2", "IC"])
def test_a_wrong_start_is_refused_under_honest_contributions(known, check2, section):
    group = group_of(section)
    index = next(i for i in range(8) if point_of(group, known.prepared.sections[section], i))
    with pytest.raises(CeremonyError, match=f"key section {section} is not the circuit's"):
        check2(known.add_delta(moved_point(known.prepared, group, section, index), "Ada"))


@pytest.mark.parametrize("section", ["L", "H"])
def test_a_contribution_that_does_not_divide_is_refused(known, check2, section):
    """The section as it was before: a rogue party skips half of its work."""
    tampered = with_section(known.open, section, known.prepared.sections[section])
    with pytest.raises(CeremonyError, match=f"key section {section}"):
        check2(tampered)


@pytest.mark.parametrize("stage", ["powers", "open"])
def test_points_that_are_not_the_last_partys_are_refused(known, check1, check2, stage):
    transcript, check = (known.powers, check1) if stage == "powers" else (known.open, check2)
    entries = transcript.taus if stage == "powers" else transcript.deltas
    stamped = (*entries[:-1], replace(entries[-1], state=bytes(32)))
    with pytest.raises(CeremonyError, match="last contribution"):
        check(replace(transcript, **{"taus" if stage == "powers" else "deltas": stamped}))


# The chain


def broken_chains(entries):
    first, second, third = entries
    return {
        "one left out": (first, third),
        "two exchanged": (second, first, third),
        "renamed": (replace(first, name="Mallory"), second, third),
        "digest": (replace(first, state=bytes(32)), second, third),
        "replayed": (first, second, third, third),
        "replayed at once": (first, first, second, third),
    }


@pytest.mark.parametrize("how", ["one left out", "two exchanged", "renamed", "digest", "replayed", "replayed at once"])
@pytest.mark.parametrize("phase", [1, 2])
def test_a_broken_chain_is_refused(known, check1, check2, phase, how):
    if phase == 1:
        broken = restamped(replace(known.powers, taus=broken_chains(known.powers.taus)[how]))
        check = check1
    else:
        broken = restamped(replace(known.open, deltas=broken_chains(known.open.deltas)[how]))
        check = check2
    with pytest.raises(CeremonyError, match="at this place of the chain|changes nothing"):
        check(broken)


@pytest.mark.parametrize("phase", [1, 2])
def test_an_entry_of_another_ceremony_is_refused(known, arithmetic, check1, check2, phase):
    """The same secret and name, contributed to a ceremony that began otherwise: replay across ceremonies."""
    if phase == 1:
        secret = phase1.TauSecrets(3, 5, 7, (11, 13, 17))
        other = phase1.contribute(phase1.start(LOG2 + 1), "Ada", secret, arithmetic, silent)
        own = phase1.contribute(known.started, "Ada", secret, arithmetic, silent)
        check1(own)
        assert other.taus[0].tau1 == own.taus[0].tau1
        moved, check = replace(own, taus=(replace(other.taus[0], state=own.taus[0].state),)), check1
    else:
        secret = phase2.DeltaSecret(3, 5)
        powers = known.add_tau(known.powers, "Dan")
        other = phase2.contribute(
            phase2.prepare(powers, "cube", known.system, arithmetic, silent), "Ada", secret, arithmetic, silent
        )
        own = phase2.contribute(known.prepared, "Ada", secret, arithmetic, silent)
        check2(own)
        assert other.deltas[0].delta1 == own.deltas[0].delta1
        moved, check = replace(own, deltas=(replace(other.deltas[0], state=own.deltas[0].state),)), check2
    with pytest.raises(CeremonyError, match="at this place of the chain"):
        check(moved)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_tau_contribution_needs_each_proof(known, check1, place):
    *rest, last = known.powers.taus
    proofs = list(last.proofs)
    proofs[place] = last.proofs[(place + 1) % 3]
    with pytest.raises(CeremonyError, match="at this place of the chain"):
        check1(replace(known.powers, taus=(*rest, replace(last, proofs=tuple(proofs)))))


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        (bytes(96), "no valid point"),
        (ecc_g1([1]) + R.to_bytes(32, "little"), "no valid point or number"),
        (ecc_g1([1]) + bytes(32), "at this place of the chain"),
    ],
)
def test_a_proof_of_knowledge_that_is_none(known, check2, proof, why):
    *rest, last = known.open.deltas
    with pytest.raises(CeremonyError, match=why):
        check2(replace(known.open, deltas=(*rest, replace(last, proof=proof))))


@pytest.mark.parametrize("point", [bytes(64), b"\1" + bytes(63)], ids=["infinity", "off the curve"])
def test_an_entry_that_names_no_point_is_refused(known, check2, point):
    first, *rest = known.open.deltas
    with pytest.raises(CeremonyError, match="names a point that is at infinity or off the curve"):
        check2(replace(known.open, deltas=(replace(first, delta1=point), *rest)))


def test_a_contribution_of_one_is_refused(known, arithmetic, check2):
    with pytest.raises(CeremonyError, match="Eve changes nothing"):
        check2(phase2.contribute(known.open, "Eve", phase2.DeltaSecret(1, 5), arithmetic, silent))


@pytest.mark.parametrize("change", [{"beacon": BEACON[:-1] + b"\0"}, {"log2": BEACON_LOG2 + 1}, {"name": "b"}])
def test_another_beacon_than_the_one_applied_is_refused(known, check2, change):
    *rest, last = known.final.deltas
    with pytest.raises(CeremonyError, match="does not follow from the beacon"):
        check2(replace(known.final, deltas=(*rest, replace(last, **change))))


def test_a_successor_continues_the_very_file(known):
    once = known.add_delta(known.prepared, "Ada")
    verification.require_successor(known.final, known.prepared)
    verification.require_successor(known.add_delta(once, "Bea"), once)
    for later, earlier, why in (
        (known.open, once, "its history is another"),
        (once, known.powers, "its history is another"),
        (once, once, "adds no contribution"),
    ):
        with pytest.raises(CeremonyError, match=why):
            verification.require_successor(later, earlier)


def test_weights_are_drawn_anew(known, arithmetic):
    """A file that is prepared for one choice of weights must not pass another: the checks ask for their own."""
    drawn = []

    def draw(bound):
        drawn.append(bound)
        return random.Random(len(drawn)).randrange(bound)

    phase2.check(known.final, known.system, arithmetic, draw, silent)
    wires, n = known.system.n_wires, 1 << LOG2
    assert drawn.count(1 << 128) == 3 * wires + wires + n - 1
    assert drawn.count(10_069) == 10 * (wires + 1)
