"""Which homes of a microgrid are summed together: groups of about ten, each home in exactly one.

Rules: pure and deterministic. n homes make max(1, n // size) groups whose sizes differ by one at most: of `size` to
2 * size - 1 homes each, or one smaller group where there are fewer. With the same homes the groups stay as they are; when
homes come or go few others move: each move costs two groups a new roster, and the difference of two slots' sums says
something of who moved (docs/MASKING.md).
Not here: rosters and when they begin (`rosters`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from openmg.masking import MAX_GROUP, MIN_GROUP

MAX_GROUP_SIZE = MAX_GROUP // 2
"""A group may get nearly twice as many members as are asked for."""


def require_group_size(size: int) -> int:
    """The size; ValueError when no group may be asked for that is so small or so large."""
    if not MIN_GROUP <= size <= MAX_GROUP_SIZE:
        raise ValueError(f"group_size is {size}; give {MIN_GROUP} to {MAX_GROUP_SIZE} homes")
    return size


def partition(homes: Iterable[bytes], size: int, before: Sequence[Collection[bytes]] = ()) -> tuple[tuple[bytes, ...], ...]:
    """The groups of these homes (addresses), each ascending; `before`: the groups until now, no home in two of them.

    Raises ValueError for a size out of bounds.
    """
    require_group_size(size)
    present = sorted(set(homes))
    kept = [[home for home in sorted(group) if home in set(present)] for group in before]
    count = max(1, len(present) // size)
    while len(kept) > count:  # the smallest is given up, of equals the last
        del kept[min(range(len(kept)), key=lambda i: (len(kept[i]), -i))]
    kept += [[] for _ in range(count - len(kept))]
    least, more = divmod(len(present), count)
    by_size = sorted(range(count), key=lambda i: (-len(kept[i]), i))
    room = {i: least + (rank < more) for rank, i in enumerate(by_size)}
    groups = [group[: room[i]] for i, group in enumerate(kept)]
    placed = {home for group in groups for home in group}
    free = [home for home in present if home not in placed]
    for i, group in enumerate(groups):
        missing = room[i] - len(group)
        groups[i], free = sorted(group + free[:missing]), free[missing:]
    return tuple(tuple(group) for group in groups)
