"""Phase 1: powers of a tau that nobody knows, for any circuit of the size.

Rules: each contribution multiplies tau, alpha and beta by secrets of its own and proves that it knows them. What comes
out is checked as a whole, by pairings of random sums: two neighbours of every list stand in the ratio of tau. Pure but
for the randomness that the caller gives. Not here: files (`transcript`), the circuit (`phase2`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openmg.zk import curve, ntt
from openmg.zk.ceremony import knowledge
from openmg.zk.ceremony.arithmetic import Arithmetic, Say
from openmg.zk.ceremony.entries import TauEntry, context, require_name
from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.ceremony.groups import Draw, require_points, require_subgroup, weights
from openmg.zk.ceremony.sparse import GROUP1, GROUP2, Group, Point, bytes_of, diagonal, point_of
from openmg.zk.ceremony.transcript import MAX_LOG2, Origin, Transcript, powers_sizes, state_digest
from openmg.zk.field import FQ
from openmg.zk.pairing import product_is_one

SECRETS = ("tau1", "alpha1", "beta1")
"""What a contribution multiplies, by the section whose first changed point shows it."""


@dataclass(frozen=True)
class TauSecrets:
    """One contribution's factors, each with the nonce of its proof of knowledge."""

    tau: int
    alpha: int
    beta: int
    nonces: tuple[int, int, int]


def start(log2: int) -> Transcript:
    """Powers of tau = 1 with alpha = beta = 1: worth nothing before the first contribution."""
    if not 1 <= log2 <= MAX_LOG2:
        raise CeremonyError(f"phase 1 has 2^1 to 2^{MAX_LOG2} powers, not 2^{log2}; choose a size in between")
    sections = {}
    for name, size in powers_sizes(log2).items():
        group = group_of(name)
        sections[name] = bytes_of(group, [group.generator]) * (size // group.size)
    return Transcript(log2, Origin(log2), None, (), (), sections)


def group_of(name: str) -> Group:
    """The group of a section."""
    return GROUP2 if name in ("tau2", "beta2", "delta2", "B2") else GROUP1


def contribute(transcript: Transcript, name: str, secret: TauSecrets, arithmetic: Arithmetic, say: Say) -> Transcript:
    """The transcript with one more contribution to phase 1; CeremonyError for one of phase 2."""
    require_name(name)
    if transcript.subject is not None or not transcript.origin.own:
        raise CeremonyError("phase 1 of this file is closed; contribute to phase 2")
    before, old = transcript.tip, transcript.sections
    factors = {"tau1": 1, "tau2": 1, "alpha1": secret.alpha, "beta1": secret.beta}
    sections = {}
    for section, factor in factors.items():
        group = group_of(section)
        powers = ntt.powers(secret.tau, len(old[section]) // group.size, factor)
        sections[section] = arithmetic.combinations(group, old[section], diagonal(powers), within(say, section))
    sections["beta2"] = arithmetic.combinations(GROUP2, old["beta2"], diagonal([secret.beta]), say)
    proofs = [
        knowledge.prove(_g1(base), factor, nonce, context(before, section, name)).to_bytes()
        for section, base, factor, nonce in zip(
            SECRETS, _tips(old), (secret.tau, secret.alpha, secret.beta), secret.nonces, strict=True
        )
    ]
    tau1, alpha1, beta1 = _tips(sections)
    entry = TauEntry(name, tau1, alpha1, beta1, (proofs[0], proofs[1], proofs[2]), b"")
    return transcript.with_entry(entry, sections)


def within(say: Say, label: str) -> Say:
    """Progress of one part of a step."""
    return lambda part: say(f"{label}: {part}")


def _tips(sections: dict[str, bytes]) -> tuple[bytes, bytes, bytes]:
    """tau G1, alpha G1, beta G1."""
    size = GROUP1.size
    return sections["tau1"][size : 2 * size], sections["alpha1"][:size], sections["beta1"][:size]


def _g1(data: bytes) -> curve.G1Point:
    point = curve.g1_from_bytes(data)
    if point is None or not curve.on_curve_g1(point):
        raise CeremonyError("a contribution names a point that is at infinity or off the curve; refuse this file")
    return point


def check(transcript: Transcript, arithmetic: Arithmetic, draw: Draw, say: Say) -> None:
    """CeremonyError unless the points are powers of one tau and, for our own phase 1, come from the contributions."""
    sections = {name: transcript.sections[name] for name in powers_sizes(transcript.log2)}
    for name, data in sections.items():
        say(f"points of {name}")
        require_points(group_of(name), data, name)
    say("subgroup of tau2")
    require_subgroup(sections["tau2"] + sections["beta2"], "tau2 or beta2", arithmetic, draw)
    _check_ratios(sections, arithmetic, draw, say)
    if transcript.origin.own:
        _check_chain(transcript)
        whole = transcript.origin.log2 == transcript.log2
        if whole and transcript.taus and transcript.taus[-1].state != state_digest(sections):
            raise CeremonyError("the points of phase 1 are not those of its last contribution; refuse this file")


def _check_chain(transcript: Transcript) -> None:
    generator = bytes_of(GROUP1, [GROUP1.generator])
    points = (generator, generator, generator)
    hashes = [transcript.phase1_genesis, *transcript.phase1_hashes]
    for entry, before in zip(transcript.taus, hashes, strict=False):
        after = (entry.tau1, entry.alpha1, entry.beta1)
        for section, old, new, proof in zip(SECRETS, points, after, entry.proofs, strict=True):
            require_knowledge(old, new, proof, context(before, section, entry.name), entry.name)
        points = after
    if points != _tips(transcript.sections):
        raise CeremonyError("the powers of tau are not where the contributions lead; refuse this file")


def require_knowledge(old: bytes, new: bytes, proof: bytes, bound_to: bytes, name: str) -> None:
    """CeremonyError unless `new` is another multiple of `old` by a factor that the contributor proved to know."""
    base, image = _g1(old), _g1(new)
    if base == image:
        raise CeremonyError(f"the contribution of {name} changes nothing; refuse this file")
    try:
        good = knowledge.holds(base, image, knowledge.Knowledge.from_bytes(proof), bound_to)
    except ValueError as error:
        raise CeremonyError(f"the contribution of {name} has no proof of knowledge ({error}); refuse this file") from error
    if not good:
        raise CeremonyError(
            f"the proof of knowledge of {name} does not hold at this place of the chain: it was changed, moved or replayed"
        )


def _check_ratios(sections: dict[str, bytes], arithmetic: Arithmetic, draw: Draw, say: Say) -> None:
    tau1, tau2 = point_of(GROUP1, sections["tau1"], 1), point_of(GROUP2, sections["tau2"], 1)
    if point_of(GROUP1, sections["tau1"]) != GROUP1.generator or point_of(GROUP2, sections["tau2"]) != GROUP2.generator:
        raise CeremonyError("the powers of tau do not start at the generators; refuse this file")
    for name in ("tau1", "alpha1", "beta1", "tau2"):
        say(f"ratios of {name}")
        group, data = group_of(name), sections[name]
        factors = weights(draw, len(data) // group.size - 1)
        lower = arithmetic.total(group, data[: -group.size], factors)
        upper = arithmetic.total(group, data[group.size :], factors)
        if group is GROUP1:
            good = pairings_agree([(lower, tau2)], [(upper, GROUP2.generator)])
        else:
            good = pairings_agree([(tau1, lower)], [(GROUP1.generator, upper)])
        if not good:
            raise CeremonyError(f"{name} does not hold the powers of one tau; refuse this file")
    beta1, beta2 = point_of(GROUP1, sections["beta1"]), point_of(GROUP2, sections["beta2"])
    if not pairings_agree([(beta1, GROUP2.generator)], [(GROUP1.generator, beta2)]):
        raise CeremonyError("beta differs between the two groups; refuse this file")


Pair = tuple[Point | None, Point | None]


def pairings_agree(left: Sequence[Pair], right: Sequence[Pair]) -> bool:
    """Whether two products of pairings are equal; a pairing with infinity is 1."""
    pairs: list[Any] = [(p, q) for p, q in left if p is not None and q is not None]
    pairs += [((p[0], -p[1] % FQ), q) for p, q in right if p is not None and q is not None]
    return product_is_one(pairs)
