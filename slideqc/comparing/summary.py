"""Statistics of the samples: pure functions, numbers in, numbers and sentences out."""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

NOISY = 0.25   # (max − min) / median above which a row is not to be trusted
LOADED = 0.25  # load average before the start, divided by the number of CPUs
FEW = 3        # rounds: with fewer, a spread says little
SHARE = 0.10   # of the whole: a cost below it no longer matters


class Spread(NamedTuple):
    """A middle value, and the least and the greatest."""

    median: float
    low: float
    high: float


class Line(NamedTuple):
    """y = intercept + slope · x; `error` is the standard error of the slope."""

    slope: float
    error: float
    intercept: float

    @property
    def known(self) -> bool:
        """Does the slope stand out from its error?"""
        return self.slope > 2 * self.error


def spread(values: Sequence[float]) -> Spread:
    """Median, least and greatest."""
    return Spread(statistics.median(values), min(values), max(values))


def relative(values: Sequence[float], reference: Sequence[float]) -> Spread:
    """The ratio of the medians, and the least and the greatest ratio of the two values of a round."""
    ratios = [value / other for value, other in zip(values, reference, strict=True)]
    return Spread(statistics.median(values) / statistics.median(reference), min(ratios), max(ratios))


def line(xs: Sequence[float], ys: Sequence[float]) -> Line:
    """The straight line nearest to the points, of three or more different x, by least squares."""
    slope, intercept = statistics.linear_regression(xs, ys)
    middle = statistics.fmean(xs)
    squares = sum((y - intercept - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return Line(slope, math.sqrt(squares / (len(xs) - 2) / sum((x - middle) ** 2 for x in xs)), intercept)


def slides_until_small(fixed: float, per_slide: float) -> int:
    """How many slides make `fixed`, in seconds, less than a tenth of the whole?"""
    return math.ceil(fixed * (1 / SHARE - 1) / per_slide)


def work_until_small(orchestration: float, side_by_side: int) -> float:
    """How many seconds of work in a slide make orchestration less than a tenth of the time of a slide?

    `orchestration` is in seconds for each slide; the work of `side_by_side` slides is done at the same time.
    """
    return orchestration * (1 / SHARE - 1) * side_by_side


def doubts(rows: Mapping[str, Sequence[float]], load: float, cpus: int) -> list[str]:
    """Sentences about what is not to be trusted, such as rows that are too noisy to rank. `rows`: seconds, by label."""
    found = []
    if load > LOADED * cpus:
        found.append(f"The machine was busy before the start (load average {load:.1f} on {cpus} CPUs): "
                     "close what else runs, and measure again.")
    rounds = len(next(iter(rows.values()), ()))
    if rounds < FEW:
        found.append(f"{rounds} round{'s' * (rounds != 1)} only: the spread says little.")
    spreads = {label: spread(seconds) for label, seconds in rows.items()}
    for label, (median, low, high) in spreads.items():
        if (high - low) / median > NOISY:
            found.append(f"{label} is too noisy to rank: its slowest and its fastest run are "
                         f"{(high - low) / median:.0%} of its median apart.")
    for (first, one), (second, other) in pairwise(sorted(spreads.items(), key=lambda item: item[1].median)):
        if one.high >= other.median or other.low <= one.median:
            found.append(f"{first} and {second} cannot be told apart: the spread of one reaches the other's median.")
    return found
