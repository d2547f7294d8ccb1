"""Sums of many multiples of points: Pippenger's buckets for a proof, fixed-base windows for a set-up.

Rules: both groups run through one routine over coordinate columns and that group's `add_many`; scalars are cut into
signed digits, which halves the buckets. Every result is exact for any input: equal and opposite points are handled
where sums are made. Not here: threads; the native backend has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openmg.zk.curve import G1, G2, G1Point, G2Point, add_g1, add_g2, add_many_g1, add_many_g2
from openmg.zk.field import FELT_BYTES, FQ, R, fast

SCALAR_BITS = R.bit_length()
Columns = tuple[list[int], ...]
AddMany = Callable[[Columns, Columns], tuple[Columns, list[int]]]

MAX_WINDOW_BITS = 13
FIXED_WINDOW_BITS = 12
"""22 tables of 4096 points; fits the some 60,000 multiples of a set-up."""


class Points:
    """Finite points of one group as coordinate columns, each followed by all negatives, with their place in the key."""

    def __init__(self, coordinates: Columns, places: list[int], add_many: AddMany) -> None:
        self.places = places
        self.add_many = add_many
        half = len(coordinates) // 2
        xs, ys = coordinates[:half], coordinates[half:]
        self.count = len(places)
        self.columns: Columns = (*(x + x for x in xs), *(y + [FQ - c if c else c for c in y] for y in ys))

    @property
    def half(self) -> int:
        return len(self.columns) // 2


def points_from_bytes(data: bytes, coordinates: int, offset: int = 0) -> Points:
    """The points of a key section (2 coordinates for G1, 4 for G2); infinity is left out.

    `offset` is added to every place, so that places are wire numbers where a section starts later.
    """
    size = coordinates * FELT_BYTES
    blank = bytes(size)
    places = [i for i in range(len(data) // size) if data[i * size : (i + 1) * size] != blank]
    columns = tuple(
        [fast(int.from_bytes(data[i * size + k : i * size + k + FELT_BYTES], "little")) for i in places]
        for k in range(0, size, FELT_BYTES)
    )
    add_many: AddMany = add_many_g1 if coordinates == 2 else add_many_g2  # type: ignore[assignment]
    return Points(columns, [i + offset for i in places], add_many)


def joined(*parts: Points) -> Points:
    """Several sections as one, places and all; one sum over many points is cheaper than many sums."""
    half = parts[0].half
    columns = tuple([value for part in parts for value in part.columns[k][: part.count]] for k in range(2 * half))
    return Points(columns, [place for part in parts for place in part.places], parts[0].add_many)


def window_bits(count: int) -> int:
    """Digit width that makes additions into buckets and additions of buckets about balance."""
    return max(2, min(MAX_WINDOW_BITS, count.bit_length() - 4))


def _signed_digits(scalars: Sequence[int], bits: int) -> list[list[int]]:
    """digits[k][i] with scalar_i = sum of digits[k][i] 2^(bits k) and each in -2^(bits-1) .. 2^(bits-1)."""
    windows = SCALAR_BITS // bits + 1
    half, mask, full = 1 << (bits - 1), (1 << bits) - 1, 1 << bits
    digits = [[0] * len(scalars) for _ in range(windows)]
    for i, scalar in enumerate(scalars):
        rest = int(scalar)
        k = 0
        while rest:
            digit = rest & mask
            rest >>= bits
            if digit > half:
                digit -= full
                rest += 1
            digits[k][i] = digit
            k += 1
    return digits


def _select(columns: Columns, places: list[int]) -> Columns:
    return tuple([column[i] for i in places] for column in columns)


def _fill_buckets(points: Points, digits: list[int], bits: int) -> list[list[int]]:
    """For each bucket the places of its points in `points.columns`; a negative digit takes the negated point."""
    count = points.count
    buckets: list[list[int]] = [[] for _ in range((1 << (bits - 1)) + 1)]
    for i, digit in enumerate(digits):
        if digit > 0:
            buckets[digit].append(i)
        elif digit:
            buckets[-digit].append(i + count)
    return buckets


def _bucket_sums(points: Points, digits: list[int], bits: int) -> list[tuple[int, ...] | None]:
    """The sum of each bucket (bucket 0 stays empty); rounds of pairwise additions, all buckets together."""
    buckets = _fill_buckets(points, digits, bits)
    columns: Columns = tuple(list(column) for column in points.columns)
    active = [b for b, members in enumerate(buckets) if len(members) > 1]
    while active:
        left: list[int] = []
        right: list[int] = []
        for b in active:
            members = buckets[b]
            even = len(members) & ~1
            left += members[0:even:2]
            right += members[1:even:2]
        sums, infinite = points.add_many(_select(columns, left), _select(columns, right))
        start = len(columns[0])
        for column, fresh in zip(columns, sums, strict=True):
            column += fresh
        dropped = {start + i for i in infinite}
        for b in active:
            members = buckets[b]
            pairs = len(members) // 2
            odd = members[-1:] if len(members) & 1 else []
            buckets[b] = [*range(start, start + pairs), *odd]
            start += pairs
            if dropped:
                buckets[b] = [i for i in buckets[b] if i not in dropped]
        active = [b for b in active if len(buckets[b]) > 1]
    return [tuple(column[m[0]] for column in columns) if m else None for m in buckets]


class _Accumulators:
    """A few running sums that advance together, so that their additions share inversions."""

    def __init__(self, count: int, add_many: AddMany) -> None:
        self.values: list[tuple[int, ...] | None] = [None] * count
        self.add_many = add_many

    def add(self, addends: Sequence[tuple[int, ...] | None]) -> None:
        both = []
        for i, addend in enumerate(addends):
            if addend is None:
                continue
            if self.values[i] is None:
                self.values[i] = addend
            else:
                both.append(i)
        if not both:
            return
        left = tuple(map(list, zip(*(self.values[i] or () for i in both), strict=True)))
        right = tuple(map(list, zip(*(addends[i] or () for i in both), strict=True)))
        sums, infinite = self.add_many(left, right)
        for i, value in zip(both, zip(*sums, strict=True), strict=True):
            self.values[i] = value
        for k in infinite:
            self.values[both[k]] = None


def _weighted_sums(windows: list[list[tuple[int, ...] | None]], add_many: AddMany) -> list[tuple[int, ...] | None]:
    """For each window the sum of b * bucket b, by running sums from the highest bucket down."""
    count = len(windows)
    sums = _Accumulators(2 * count, add_many)
    for b in range(len(windows[0]) - 1, 0, -1):
        running = sums.values[:count]
        # The total takes the running sum of the step before: both additions fit one batch.
        sums.add([*(window[b] for window in windows), *running])
    sums.add([*([None] * count), *sums.values[:count]])
    return sums.values[count:]


def sum_of_multiples(points: Points, scalars: Sequence[int]) -> tuple[int, ...] | None:
    """The sum over all points of scalars[place] * point; scalars are below r. None is infinity."""
    chosen = [scalars[place] for place in points.places]
    bits = window_bits(points.count)
    digits = _signed_digits(chosen, bits)
    windows = [_bucket_sums(points, column, bits) for column in digits]
    add = add_g1 if points.half == 1 else add_g2
    result: tuple[int, ...] | None = None
    for total in reversed(_weighted_sums(windows, points.add_many)):
        for _ in range(bits):
            result = add(result, result)  # type: ignore[arg-type]
        result = add(result, total)  # type: ignore[arg-type]
    return result


def _window_table(base: tuple[int, ...], bits: int, add_many: AddMany) -> Columns:
    """Columns of 0 (a place holder), base, 2 base, ... (2^bits - 1) base."""
    table: Columns = tuple([fast(0), c] for c in base)
    while len(table[0]) < 1 << bits:
        known = len(table[0]) - 1
        last: Columns = tuple([column[known]] * known for column in table)
        fresh, infinite = add_many(tuple(column[1:] for column in table), last)
        if infinite:
            raise ValueError("the base point has too small an order for a window table")
        for column, values in zip(table, fresh, strict=True):
            column += values
    return tuple(column[: 1 << bits] for column in table)


def _fixed_base(base: tuple[int, ...], scalars: Sequence[int], add_many: AddMany) -> list[tuple[int, ...] | None]:
    bits = FIXED_WINDOW_BITS if len(scalars) > 1 << FIXED_WINDOW_BITS else FIXED_WINDOW_BITS // 2
    add = add_g1 if len(base) == 2 else add_g2
    sums = _Accumulators(len(scalars), add_many)
    rest, shift, mask = [int(s) for s in scalars], 0, (1 << bits) - 1
    power: tuple[int, ...] | None = base
    while shift < SCALAR_BITS:
        if power is None:
            raise ValueError("the base point has too small an order for a window table")
        rows = list(zip(*_window_table(power, bits, add_many), strict=True))
        sums.add([rows[digit] if (digit := value >> shift & mask) else None for value in rest])
        shift += bits
        for _ in range(bits):
            power = add(power, power)  # type: ignore[arg-type]
    return sums.values


def multiples_of_g1(scalars: Sequence[int]) -> list[G1Point | None]:
    """Every scalar times the generator of G1."""
    return _fixed_base(G1, scalars, add_many_g1)  # type: ignore[arg-type, return-value]


def multiples_of_g2(scalars: Sequence[int]) -> list[G2Point | None]:
    """Every scalar times the generator of G2."""
    return _fixed_base(G2, scalars, add_many_g2)  # type: ignore[arg-type, return-value]
