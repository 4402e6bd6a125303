"""Statistics of the samples: pure functions, numbers in, numbers and sentences out."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

NOISY = 0.25   # (max − min) / median above which a row is not to be trusted
LOADED = 0.25  # load average before the start, divided by the number of CPUs
FEW = 3        # rounds: with fewer, a spread says little


class Spread(NamedTuple):
    """A middle value, and the least and the greatest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median, least and greatest."""
    return Spread(statistics.median(values), min(values), max(values))


def relative(values: Sequence[float], reference: Sequence[float]) -> Spread:
    """The ratio of the medians, and the least and the greatest ratio of the two values of a round."""
    ratios = [value / other for value, other in zip(values, reference, strict=True)]
    return Spread(statistics.median(values) / statistics.median(reference), min(ratios), max(ratios))


def count(number: int, what: str) -> str:
    """Such as "1 round" or "2 rounds"."""
    return f"{number} {what}{'s' * (number != 1)}"


def doubts(rows: Mapping[str, Sequence[float]], load: float, cpus: int) -> list[str]:
    """Sentences about what is not to be trusted, such as rows that are too noisy to rank. `rows`: seconds, by label."""
    found = []
    if load > LOADED * cpus:
        found.append(f"The machine was busy before the start (load average {load:.1f} on {count(cpus, 'CPU')}): "
                     "close what else runs, and measure again.")
    rounds = len(next(iter(rows.values()), ()))
    if rounds < FEW:
        found.append(f"{count(rounds, 'round')} only: the spread says little.")
    spreads = {label: spread(seconds) for label, seconds in rows.items()}
    if noisy := [f"{label} ({(high - low) / median:.0%})" for label, (median, low, high) in spreads.items()
                 if (high - low) / median > NOISY]:
        found.append("Too noisy to rank, since the slowest and the fastest run are so much of the median apart: "
                     f"{'; '.join(noisy)}.")
    ranked = pairwise(sorted(spreads.items(), key=lambda item: item[1].median))
    if close := [f"{first} and {second}" for (first, one), (second, other) in ranked
                 if one.high >= other.median or other.low <= one.median]:
        found.append(f"Not to be told apart, since the spread of one reaches the other's median: {'; '.join(close)}.")
    return found
