"""Subsets as integers: the combinatorial number system, exact for any size.

A set of M of K indices takes log2 C(K, M) bits when its order carries nothing, against
M log2 K for a list: 2155 against 4200 bits for 300 of 16,384.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def rank_subset(subset: Sequence[int]) -> int:
    """Rank of a strictly ascending subset c_1 < c_2 < ...: the sum of C(c_j, j).

    It lies in [0, C(K, M)) for M indices below K, whatever K is.
    """
    if any(a >= b for a, b in pairwise([-1, *subset])):
        raise ValueError("a subset must be strictly ascending and not negative")
    return sum(math.comb(int(index), j) for j, index in enumerate(subset, 1))


def unrank_subset(rank: int, size: int, count: int) -> tuple[int, ...]:
    """The ascending subset of ``count`` indices below ``size`` that has this rank.

    One walk from the top, C(c, j) updated by a multiplication and a division a place, so that
    the time is size + count steps. ValueError for a rank outside [0, C(size, count)).
    """
    if not 0 <= rank < math.comb(size, count):
        raise ValueError(f"rank outside the subsets of {count} of {size}")
    subset = []
    index, left = size - 1, count
    value = math.comb(index, left) if count else 0
    while left:
        while value > rank:  # C(c - 1, j) = C(c, j) (c - j) / c
            value = value * (index - left) // index
            index -= 1
        subset.append(index)
        rank -= value
        if left > 1:  # C(c - 1, j - 1) = C(c, j) j / c; C(c, j) is 0 once c < j
            value = value * left // index if value else math.comb(index - 1, left - 1)
        index -= 1
        left -= 1
    return tuple(reversed(subset))
