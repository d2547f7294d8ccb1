"""Poseidon over the BN254 circuit field (Grassi et al., USENIX Security 2021), x^5, 8 full rounds, widths 2 to 8.

Rules: constants and matrix come from the paper's Grain LFSR (appendix F) and from nothing else; the partial rounds
are evaluated in a cheaper equal form (`fast_form`), which `permute_plain`, the definition, checks in tests. Lane 0 is
the capacity: it starts as the caller's domain tag and the digest is read from it. With tag 0 the digest equals the
common BN254 instance, whose published vectors are the known answers.
Not here: which tag means what (`tags`), the hash as constraints (`gadgets`), as Solidity (`solidity_poseidon`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from openmg.zk.field import FR, R, fast, fast_list, invert

Vector = list[int]
Matrix = list[list[int]]

FULL_ROUNDS = 8
PARTIAL_ROUNDS = {2: 56, 3: 57, 4: 56, 5: 60, 6: 60, 7: 63, 8: 64}
"""By width t = inputs + 1, for x^5 at 128 bits of security over a 254-bit field (paper, table 7)."""

FIELD_BITS = R.bit_length()
LFSR_BITS = 80
LFSR_TAPS = (62, 51, 38, 23, 13, 0)
LFSR_STEP = 16
"""Bits made at once; at most 80 - 62, so that no tap reads a bit of the same step."""
LFSR_WARM_UP = 160


@dataclass(frozen=True)
class Constants:
    """The definition: `rounds[k]` is added before round k's S-boxes, `mds` is the linear layer of every round."""

    width: int
    partial_rounds: int
    rounds: tuple[tuple[int, ...], ...]
    mds: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class FastForm:
    """The same permutation with partial rounds of 2 t - 1 products instead of t^2.

    The idle lanes 1.. of the partial rounds stand in another basis z, the same in all of them:
    x = S(u) + after_k;  u' = corner x + z_1;  z_i' = alpha_i z_1 + omega_i x + z_(i+1)  (the last without z_(i+1)).
    `enter` is the matrix of the full round before, `first_partial` is added behind it; the last partial round uses
    `leave` as its whole matrix, which returns to the common basis.
    """

    width: int
    first_half: tuple[tuple[int, ...], ...]
    enter: tuple[tuple[int, ...], ...]
    first_partial: tuple[int, ...]
    after: tuple[int, ...]
    corner: int
    alpha: tuple[int, ...]
    omega: tuple[int, ...]
    leave: tuple[tuple[int, ...], ...]
    second_half: tuple[tuple[int, ...], ...]
    mds: tuple[tuple[int, ...], ...]


def _grain_bits(width: int) -> Iterator[int]:
    """The self-shrinking output of the LFSR, seeded with field type, S-box, size, width and round numbers."""
    numbers = ((FIELD_BITS, 12), (width, 12), (FULL_ROUNDS, 10), (PARTIAL_ROUNDS[width], 10))
    seed = ((1, 2), (0, 4), *numbers, ((1 << 30) - 1, 30))
    text = "".join(format(value, f"0{bits}b") for value, bits in seed)
    state = int(text[::-1], 2)
    mask = (1 << LFSR_STEP) - 1
    produced = 0
    while True:
        fresh = 0
        for tap in LFSR_TAPS:
            fresh ^= state >> tap
        fresh &= mask
        state = state >> LFSR_STEP | fresh << (LFSR_BITS - LFSR_STEP)
        produced += LFSR_STEP
        if produced <= LFSR_WARM_UP:
            continue
        for i in range(0, LFSR_STEP, 2):
            if fresh >> i & 1:
                yield fresh >> (i + 1) & 1


def _grain_integers(width: int) -> Iterator[int]:
    bits = _grain_bits(width)
    while True:
        value = 0
        for _ in range(FIELD_BITS):
            value = value << 1 | next(bits)
        yield value


@lru_cache(maxsize=len(PARTIAL_ROUNDS))
def constants(width: int) -> Constants:
    """Round constants and Cauchy matrix of the given width (2 to 8)."""
    if width not in PARTIAL_ROUNDS:
        raise ValueError(f"Poseidon takes 1 to {max(PARTIAL_ROUNDS) - 1} inputs, not {width - 1}")
    stream = _grain_integers(width)
    total = FULL_ROUNDS + PARTIAL_ROUNDS[width]
    flat: list[int] = []
    while len(flat) < total * width:
        value = next(stream)
        if value < R:
            flat.append(value)
    while True:
        xy = [next(stream) % R for _ in range(2 * width)]
        if len(set(xy)) == 2 * width:
            break
    mds = tuple(tuple(int(invert((x + y) % R, R)) for y in xy[width:]) for x in xy[:width])
    rounds = tuple(tuple(flat[k * width : (k + 1) * width]) for k in range(total))
    return Constants(width, PARTIAL_ROUNDS[width], rounds, mds)


def _multiply(left: Matrix, right: Matrix) -> Matrix:
    return [[sum(a * b for a, b in zip(row, col, strict=True)) % R for col in zip(*right, strict=True)] for row in left]


def _apply(matrix: Matrix, vector: Sequence[int]) -> Vector:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) % R for row in matrix]


def _inverse(matrix: Matrix) -> Matrix:
    """Gauss-Jordan elimination; the matrices here are Cauchy products and therefore regular."""
    n = len(matrix)
    work = [[*row, *(int(i == j) for j in range(n))] for i, row in enumerate(matrix)]
    for i in range(n):
        pivot = next(k for k in range(i, n) if work[k][i])
        work[i], work[pivot] = work[pivot], work[i]
        scale = invert(work[i][i], R)
        work[i] = [v * scale % R for v in work[i]]
        for k in range(n):
            if k != i and work[k][i]:
                factor = work[k][i]
                work[k] = [(a - factor * b) % R for a, b in zip(work[k], work[i], strict=True)]
    return [row[n:] for row in work]


def _transposed(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def _frozen(matrix: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(fast_list(row)) for row in matrix)


def _moved_constants(plain: Constants) -> tuple[list[int], list[int]]:
    """Constants added before the first partial round, and the one added behind lane 0's S-box in each.

    M x + c = M (x + M^-1 c), and only lane 0 stands behind an S-box there: so the constants of all rounds after the
    first, including the full round that follows, move backwards (appendix B of the paper).
    """
    first = FULL_ROUNDS // 2
    mds_inverse = _inverse([list(row) for row in plain.mds])
    pending = list(plain.rounds[first + plain.partial_rounds])
    after: list[int] = []
    for own in reversed(plain.rounds[first : first + plain.partial_rounds]):
        head, *rest = _apply(mds_inverse, pending)
        after.append(head)
        pending = [own[0], *((a + b) % R for a, b in zip(own[1:], rest, strict=True))]
    return pending, after[::-1]


def _companion_basis(row: Vector, corner: Matrix) -> tuple[Matrix, Vector]:
    """The change of basis B and alpha with: z = B s makes row . s = z_1 and B corner B^-1 the companion of alpha."""
    powers = [row]
    for _ in corner:
        powers.append(_apply(_transposed(corner), powers[-1]))
    observed, last = powers[:-1], powers[-1]
    # Cayley-Hamilton: row corner^n is alpha_1 row corner^(n-1) + ... + alpha_n row.
    alpha = _apply(_inverse(_transposed(observed)), last)[::-1]
    # z_(j+1) = z_j' - alpha_j z_1, hence row corner^j less the sum of alpha_i row corner^(j-i).
    basis: Matrix = []
    for j, power in enumerate(observed):
        earlier = observed[:j][::-1]
        used = list(zip(alpha, earlier, strict=False))
        basis.append([(value - sum(a * e[k] for a, e in used)) % R for k, value in enumerate(power)])
    return basis, alpha


def _beside_one(matrix: Matrix) -> Matrix:
    """diag(1, matrix)."""
    return [[1, *([0] * len(matrix))], *([0, *line] for line in matrix)]


@lru_cache(maxsize=len(PARTIAL_ROUNDS))
def fast_form(width: int) -> FastForm:
    """The tables of `permute` for the given width (2 to 8)."""
    plain = constants(width)
    half = FULL_ROUNDS // 2
    mds: Matrix = [list(row) for row in plain.mds]
    first, after = _moved_constants(plain)
    basis, alpha = _companion_basis(mds[0][1:], [line[1:] for line in mds[1:]])
    inward = _beside_one(basis)
    return FastForm(
        width=width,
        first_half=_frozen(plain.rounds[:half]),
        enter=_frozen(_multiply(inward, mds)),
        first_partial=tuple(fast_list(_apply(inward, first))),
        after=tuple(fast_list(after)),
        corner=fast(mds[0][0]),
        alpha=tuple(fast_list(alpha)),
        omega=tuple(fast_list(_apply(basis, [line[0] for line in mds[1:]]))),
        leave=_frozen(_multiply(mds, _inverse(inward))),
        second_half=_frozen([[0] * width, *plain.rounds[half + plain.partial_rounds + 1 :]]),
        mds=_frozen(mds),
    )


def permute_plain(state: Sequence[int]) -> list[int]:
    """The permutation as the paper defines it; slow, the reference for everything faster."""
    plain = constants(len(state))
    half, lanes = FULL_ROUNDS // 2, list(state)
    for k, added in enumerate(plain.rounds):
        lanes = [(a + c) % R for a, c in zip(lanes, added, strict=True)]
        full = k < half or k >= half + plain.partial_rounds
        lanes = [pow(a, 5, R) if full or i == 0 else a for i, a in enumerate(lanes)]
        lanes = _apply([list(row) for row in plain.mds], lanes)
    return lanes


def _full_round(lanes: list[int], added: Sequence[int], matrix: Sequence[Sequence[int]]) -> list[int]:
    boxed = []
    for lane, constant in zip(lanes, added, strict=True):
        value = lane + constant
        square = value * value % FR
        boxed.append(square * square % FR * value % FR)
    return [sum([a * b for a, b in zip(row, boxed, strict=True)]) % FR for row in matrix]


def permute(state: Sequence[int]) -> list[int]:
    """The permutation of 2 to 8 lanes, each an integer modulo r."""
    table = fast_form(len(state))
    lanes = fast_list(state)
    half = FULL_ROUNDS // 2
    for k in range(half):
        lanes = _full_round(lanes, table.first_half[k], table.mds if k < half - 1 else table.enter)
    head, *rest = [a + c for a, c in zip(lanes, table.first_partial, strict=True)]
    for after in table.after[:-1]:
        square = head * head % FR
        x = (square * square % FR * head + after) % FR
        lead = rest[0]
        head = table.corner * x + lead
        shifted = [*rest[1:], 0]
        rest = [(a * lead + w * x + z) % FR for a, w, z in zip(table.alpha, table.omega, shifted, strict=True)]
    lanes = [pow(head, 5, FR) + table.after[-1], *rest]
    lanes = [sum([a * b for a, b in zip(row, lanes, strict=True)]) % FR for row in table.leave]
    for added in table.second_half:
        lanes = _full_round(lanes, added, table.mds)
    return lanes


def poseidon(inputs: Sequence[int], tag: int = 0) -> int:
    """Digest of one to seven field elements; ValueError for another count or an element that is not reduced."""
    for value in (tag, *inputs):
        if not 0 <= value < R:
            raise ValueError("a Poseidon input is outside the circuit field; reduce it below r first")
    return int(permute((tag, *inputs))[0])
