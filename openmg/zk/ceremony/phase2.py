"""Phase 2: the keys of one circuit, with a delta that is a product of secrets.

From the powers of tau follow A, B1, B2 and IC, which stay; with delta = 1 follow L and H, which each contribution
divides by its secret while it multiplies delta. Rules: gamma is 1, so a delta of 1 would let anybody forge and is
refused; a check needs the circuit and nothing else, no earlier file: random sums of the key are compared with the same
sums of powers of tau. Pure but for the randomness that the caller gives. Not here: files, the beacon's value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from openmg.zk import curve
from openmg.zk.ceremony import knowledge
from openmg.zk.ceremony.arithmetic import Arithmetic, Say
from openmg.zk.ceremony.columns import Columns
from openmg.zk.ceremony.entries import BeaconEntry, DeltaEntry, context, require_beacon, require_name
from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.ceremony.groups import Draw, require_points, require_subgroup, weights
from openmg.zk.ceremony.phase1 import group_of, pairings_agree, require_knowledge, within
from openmg.zk.ceremony.randomness import beacon_scalar
from openmg.zk.ceremony.sparse import GROUP1, GROUP2, Group, Point, bytes_of, diagonal, matrix_of, point_of
from openmg.zk.ceremony.transcript import Subject, Transcript, powers_sizes
from openmg.zk.ceremony.transform import scaled_lagrange
from openmg.zk.field import R, invert
from openmg.zk.proving_key import KeyHeader
from openmg.zk.r1cs import ConstraintSystem, circuit_hash


@dataclass(frozen=True)
class DeltaSecret:
    """One contribution's factor of delta and the nonce of its proof of knowledge."""

    delta: int
    nonce: int


def prepare(transcript: Transcript, name: str, system: ConstraintSystem, arithmetic: Arithmetic, say: Say) -> Transcript:
    """Phase 2 before its first contribution, from a phase 1 that is at least as large as the circuit needs."""
    header = header_of(system)
    if transcript.subject is not None:
        raise CeremonyError("phase 2 starts from a phase 1, and this file is already of phase 2; give the other file")
    require_contributions(transcript)
    cut = cut_to(transcript, header.domain_log2)
    powers, columns, size = cut.sections, Columns.of(system), GROUP1.size
    n = columns.domain
    lagrange = {
        label: scaled_lagrange(group_of(section), powers[section][: n * group_of(section).size], header.domain_log2,
                               arithmetic, within(say, f"transform of {section}"))
        for label, section in (("tau", "tau1"), ("alpha", "alpha1"), ("beta", "beta1"), ("tau2", "tau2"))
    }  # fmt: skip

    def section(label: str, group: Group, points: bytes, matrix: str) -> bytes:
        return arithmetic.combinations(group, points, columns.by_wire(matrix), within(say, f"key section {label}"))

    joined = lagrange["beta"] + lagrange["alpha"] + lagrange["tau"]
    mixed = arithmetic.combinations(GROUP1, joined, columns.mixed_by_wire(), within(say, "key sections IC and L"))
    vanishing = matrix_of([[(i + n, 1), (i, R - 1)] for i in range(n - 1)])
    public = (header.n_public + 1) * size
    sections = {
        "delta1": bytes_of(GROUP1, [GROUP1.generator]), "delta2": bytes_of(GROUP2, [GROUP2.generator]),
        "A": section("A", GROUP1, lagrange["tau"], "a"), "B1": section("B1", GROUP1, lagrange["tau"], "b"),
        "B2": section("B2", GROUP2, lagrange["tau2"], "b"),
        "L": mixed[public:], "IC": mixed[:public],
        "H": arithmetic.combinations(GROUP1, powers["tau1"], vanishing, within(say, "key section H")),
    }  # fmt: skip
    return replace(cut, subject=Subject(name, header), sections=powers | sections)


def header_of(system: ConstraintSystem) -> KeyHeader:
    """Hash and sizes of a circuit, as its key file states them."""
    return KeyHeader(circuit_hash(system), system.n_wires, system.n_public, system.domain_log2, system.n_constraints)


def cut_to(transcript: Transcript, log2: int) -> Transcript:
    """The first 2^log2 powers of a phase 1."""
    if transcript.log2 < log2:
        raise CeremonyError(f"phase 1 has 2^{transcript.log2} powers and the circuit needs 2^{log2}; use a larger one")
    sizes = powers_sizes(log2)
    sections = {name: transcript.sections[name][:size] for name, size in sizes.items()}
    return replace(transcript, log2=log2, sections=sections)


def require_contributions(transcript: Transcript) -> None:
    """CeremonyError while anybody knows tau (phase 1 of our own without a contribution)."""
    if transcript.origin.own and not transcript.taus:
        raise CeremonyError("nobody has contributed to phase 1 yet, so anybody knows its tau; contribute first")


def _moved(transcript: Transcript, factor: int, arithmetic: Arithmetic, say: Say) -> dict[str, bytes]:
    """The sections that change when delta is multiplied by the factor."""
    old = transcript.sections
    sections = {
        name: arithmetic.combinations(group_of(name), old[name], diagonal([factor]), say) for name in ("delta1", "delta2")
    }
    inverse = invert(factor, R)
    for name in ("L", "H"):
        factors = diagonal([inverse] * (len(old[name]) // GROUP1.size))
        sections[name] = arithmetic.combinations(GROUP1, old[name], factors, within(say, f"key section {name}"))
    return sections


def contribute(transcript: Transcript, name: str, secret: DeltaSecret, arithmetic: Arithmetic, say: Say) -> Transcript:
    """The transcript with one more contribution to phase 2; CeremonyError for a final one."""
    require_name(name)
    _require_open(transcript)
    base = curve.g1_from_bytes(transcript.sections["delta1"])
    if base is None:
        raise CeremonyError("delta is at infinity; refuse this file")
    proof = knowledge.prove(base, secret.delta, secret.nonce, context(transcript.tip, "delta", name))
    sections = _moved(transcript, secret.delta, arithmetic, say)
    return transcript.with_entry(DeltaEntry(name, sections["delta1"], proof.to_bytes(), b""), sections)


def apply_beacon(transcript: Transcript, name: str, beacon: bytes, log2: int, arithmetic: Arithmetic, say: Say) -> Transcript:
    """The last contribution, by a public value that nobody could foresee when the contributions were made."""
    require_name(name)
    require_beacon(beacon, log2)
    _require_open(transcript)
    if not transcript.deltas:
        raise CeremonyError("nobody has contributed to phase 2 yet, and a beacon alone is no secret; contribute first")
    say(f"hashing the beacon 2^{log2} times")
    scalar = beacon_scalar(beacon, log2, context(transcript.tip, "beacon", name))
    sections = _moved(transcript, scalar, arithmetic, say)
    return transcript.with_entry(BeaconEntry(name, beacon, log2, sections["delta1"], b""), sections)


def _require_open(transcript: Transcript) -> None:
    _ = transcript.circuit
    if transcript.final:
        raise CeremonyError("this ceremony is final: its beacon was applied; start another one")


def check(transcript: Transcript, system: ConstraintSystem, arithmetic: Arithmetic, draw: Draw, say: Say) -> None:
    """CeremonyError unless the points are this circuit's keys under the checked powers of tau and the chain's delta."""
    if transcript.circuit.header != header_of(system):
        found = transcript.circuit.header.circuit_hash.hex()
        raise CeremonyError(f"this ceremony is for a circuit with the hash {found}, not for the given one; refuse this file")
    require_contributions(transcript)
    columns = Columns.of(system)
    _check_points(transcript, columns, arithmetic, draw, say)
    _check_chain(transcript, say)
    _check_fixed(transcript, columns, arithmetic, draw, say)
    _check_divided(transcript, columns, arithmetic, draw, say)


def _check_points(transcript: Transcript, columns: Columns, arithmetic: Arithmetic, draw: Draw, say: Say) -> None:
    """Only wires that do not occur in a matrix may have infinity there."""
    header, sections = transcript.circuit.header, transcript.sections
    first = header.n_public + 1
    absent = {
        name: frozenset(range(header.n_wires)) - columns.wires(*matrices)
        for name, matrices in (("A", "a"), ("B1", "b"), ("B2", "b"), ("L", "abc"))
    }
    absent["L"] = frozenset(wire - first for wire in absent["L"])
    for name in ("delta1", "delta2", "A", "B1", "B2", "L", "H", "IC"):
        say(f"points of {name}")
        require_points(group_of(name), sections[name], name, absent.get(name, frozenset()))
    say("subgroup of B2")
    require_subgroup(sections["delta2"] + sections["B2"], "delta2 or B2", arithmetic, draw)


def _check_chain(transcript: Transcript, say: Say) -> None:
    delta = bytes_of(GROUP1, [GROUP1.generator])
    hashes = [transcript.phase2_genesis, *transcript.phase2_hashes]
    for i, (entry, before) in enumerate(zip(transcript.deltas, hashes, strict=False)):
        if isinstance(entry, DeltaEntry):
            require_knowledge(delta, entry.delta1, entry.proof, context(before, "delta", entry.name), entry.name)
        else:
            say(f"hashing the beacon 2^{entry.log2} times")
            if i == 0 or i != len(transcript.deltas) - 1:
                raise CeremonyError("the beacon does not come last, after a contribution; refuse this file")
            scalar = beacon_scalar(entry.beacon, entry.log2, context(before, "beacon", entry.name))
            if entry.delta1 != bytes_of(GROUP1, [curve.multiply_g1(curve.g1_from_bytes(delta), scalar)]):
                raise CeremonyError("the last delta does not follow from the beacon; refuse this file")
        delta = entry.delta1
    if transcript.sections["delta1"] != delta:
        raise CeremonyError("delta is not where the contributions lead; refuse this file")
    delta2 = point_of(GROUP2, transcript.sections["delta2"])
    if not pairings_agree([(point_of(GROUP1, delta), GROUP2.generator)], [(GROUP1.generator, delta2)]):
        raise CeremonyError("delta differs between the two groups; refuse this file")
    if transcript.deltas and delta2 == GROUP2.generator:
        raise CeremonyError("the contributions cancel: gamma = delta, so proofs could be forged; refuse this file")
    if transcript.deltas and transcript.deltas[-1].state != transcript.state():
        raise CeremonyError("the points are not those that the last contribution left; refuse this file")


def _check_fixed(transcript: Transcript, columns: Columns, arithmetic: Arithmetic, draw: Draw, say: Say) -> None:
    """A, B1, B2, IC: sums with random weights equal the same sums of powers of tau, in the same group."""
    sections, n = transcript.sections, columns.domain
    for name, matrix, powers in (("A", "a", "tau1"), ("B1", "b", "tau1"), ("B2", "b", "tau2")):
        say(f"key section {name} against the circuit")
        group = group_of(name)
        factors = weights(draw, columns.system.n_wires)
        found = arithmetic.total(group, sections[name], factors)
        base = sections[powers][: n * group.size]
        if found != arithmetic.total(group, base, columns.coefficients(matrix, factors)):
            raise CeremonyError(f"key section {name} is not the circuit's; refuse this file")
    say("key section IC against the circuit")
    public = transcript.circuit.header.n_public + 1
    factors = weights(draw, public)
    found = arithmetic.total(GROUP1, sections["IC"], factors)
    rest = [0] * (columns.system.n_wires - public)
    if found != _mixed_total(transcript, columns, factors + rest, arithmetic):
        raise CeremonyError("key section IC is not the circuit's; refuse this file")


def _mixed_total(transcript: Transcript, columns: Columns, factors: list[int], arithmetic: Arithmetic) -> Point | None:
    """The sum of factor_i (beta u_i + alpha v_i + w_i) at tau, from powers of tau."""
    sections, length = transcript.sections, columns.domain * GROUP1.size
    points = sections["beta1"] + sections["alpha1"] + sections["tau1"][:length]
    scalars = [value for matrix in "abc" for value in columns.coefficients(matrix, factors)]
    return arithmetic.total(GROUP1, points, scalars)


def _check_divided(transcript: Transcript, columns: Columns, arithmetic: Arithmetic, draw: Draw, say: Say) -> None:
    """L and H times delta are what the circuit and the domain say."""
    sections, n, size = transcript.sections, columns.domain, GROUP1.size
    delta2 = point_of(GROUP2, sections["delta2"])
    public = transcript.circuit.header.n_public + 1
    say("key section L against the circuit")
    factors = weights(draw, columns.system.n_wires - public)
    found = arithmetic.total(GROUP1, sections["L"], factors)
    expected = _mixed_total(transcript, columns, [0] * public + factors, arithmetic)
    if not pairings_agree([(found, delta2)], [(expected, GROUP2.generator)]):
        raise CeremonyError("key section L is not the circuit's divided by delta; refuse this file")
    say("key section H against the domain")
    factors = weights(draw, n - 1)
    found = arithmetic.total(GROUP1, sections["H"], factors)
    shifted = [*[-value % R for value in factors], 0, *factors]
    expected = arithmetic.total(GROUP1, sections["tau1"][: (2 * n - 1) * size], shifted)
    if not pairings_agree([(found, delta2)], [(expected, GROUP2.generator)]):
        raise CeremonyError("key section H is not the domain's divided by delta; refuse this file")
