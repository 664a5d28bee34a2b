"""Lengths of steps from a few: a length divided by powers of two, in such an order that the end of an interval is hit.

A step of length h starts at a multiple of h from the start of the interval, so that steps can be halved and doubled at will and
two steps of a run make one step of a run with steps twice as long.
"""

from __future__ import annotations

import math

_SLACK = 1e-9  # relative, of lengths that are taken as equal
_WORTHWHILE = 4  # steps saved pay for the factors of a matrix of another length


def unit(interval: float) -> float:
    """The length whose parts and multiples by powers of two are the steps of an interval: 1, 10, .1 … where that divides it.

    So intervals of 1, 2 and 5 share their steps, and the factors of their matrices.
    """
    power = 10.0 ** math.floor(math.log10(interval) + _SLACK)
    return power if _whole(interval / power) else interval


def fitting(wish: float, interval: float, remaining: float, last: float) -> float:
    """The next step: the longest ≤ ``wish`` and ≤ ``remaining`` of the ``interval`` that starts at a multiple of itself.

    ``last`` is the step before it in the interval, 0 at its start. It is not doubled when twice as much is due soon, and made no
    longer near the end: new factors of a matrix would not pay.
    """
    position, whole = interval - remaining, unit(interval)
    wish = min(wish, remaining) * (1.0 + _SLACK)
    length = whole * 2.0 ** math.floor(math.log2(wish / whole))
    while not _whole(position / length):
        length /= 2.0
    if last and length > last * (1.0 + _SLACK):
        doubled = length < 3.0 * last
        saved = remaining / last - remaining / length
        if saved < _WORTHWHILE or (doubled and wish >= 4.0 * last):
            length = last
    return remaining if abs(length - remaining) <= _SLACK * remaining else length


def _whole(number: float) -> bool:
    return abs(number - round(number)) <= _SLACK * max(1.0, abs(number))
