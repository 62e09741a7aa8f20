"""Means, paired differences and verdicts.

Runs of one seed share initial weights (where the models share layers) and the order of data, so a
variant is compared with the base seed by seed: what the seeds have in common cancels out. The
interval is Student's t over the differences. Each variant is one more chance to see a difference
that is not there, so that verdicts rest on p-values corrected by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: What is called a difference, and the share of intervals that cover the truth.
ALPHA = 0.05


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation; ``sd`` is NaN for a single value."""

    n: int
    mean: float
    sd: float

    def text(self, sign: str = "±") -> str:
        """Return both in three places, or nothing where there is no value.

        Args:
            sign: Between the two.
        """
        spread = "" if math.isnan(self.sd) else f" {sign} {self.sd:.3f}"
        return f"{self.mean:.3f}{spread}" if self.n else ""


@dataclass(frozen=True)
class Paired:
    """Differences to a reference, seed by seed.

    Attributes:
        differences: Seed to difference.
        mean: Of the differences.
        sd: Sample standard deviation of the differences.
        low: Lower end of the 95 % interval of the mean, for this comparison alone.
        high: Upper end.
        p: Of the two-sided paired t-test; NaN with fewer than two seeds.
        holm: The same, corrected for the number of comparisons.
        verdict: In plain words, from ``holm``.
    """

    differences: dict[int, float]
    mean: float
    sd: float
    low: float
    high: float
    p: float
    holm: float
    verdict: str

    @property
    def interval(self) -> str:
        """Return the interval in words; empty where there is none."""
        return "" if math.isnan(self.low) else f"95 % interval {self.low:+.4f} to {self.high:+.4f}"


def summarize(values: Sequence[float]) -> Summary:
    """Return mean and sample standard deviation; NaN where there is none.

    Args:
        values: One per seed.
    """
    n = len(values)
    mean = math.fsum(values) / n if n else math.nan
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else math.nan
    return Summary(n, mean, sd)


def compare(
    reference: Mapping[int, float], variants: Mapping[str, Mapping[int, float]]
) -> dict[str, Paired]:
    """Return the paired difference of each variant to a reference.

    Only seeds that both have finished count.

    Args:
        reference: Seed to value.
        variants: Name to the same.
    """
    pairs = {
        name: {seed: values[seed] - reference[seed] for seed in sorted({*values} & {*reference})}
        for name, values in variants.items()
    }
    tests = {name: test(list(pair.values())) for name, pair in pairs.items()}
    corrected = dict(zip(tests, holm([p for *_, p in tests.values()]), strict=True))
    found = {}
    for name, pair in pairs.items():
        low, high, p = tests[name]
        total = summarize(list(pair.values()))
        verdict = _verdict(total, p, corrected[name], len(pairs))
        found[name] = Paired(pair, total.mean, total.sd, low, high, p, corrected[name], verdict)
    return found


def test(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the 95 % interval of the mean by Student's t, and the p-value of it being zero.

    Args:
        values: One per seed; of fewer than two, all three numbers are NaN.
    """
    from scipy import stats

    total = summarize(values)
    if total.n < 2:
        return math.nan, math.nan, math.nan
    if total.sd == 0:  # the same in every seed; t is 0/0 or infinite
        return total.mean, total.mean, 1.0 if total.mean == 0 else 0.0
    found = stats.ttest_1samp(values, 0.0)  # of differences: the paired test
    interval = found.confidence_interval(1 - ALPHA)
    return float(interval.low), float(interval.high), float(found.pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected by Holm's step-down method; NaN stays and does not count.

    Args:
        values: One per comparison.
    """
    order = sorted((p, i) for i, p in enumerate(values) if not math.isnan(p))
    corrected, least = list(values), 0.0
    for rank, (p, i) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p))
        corrected[i] = least
    return corrected


def _verdict(total: Summary, p: float, corrected: float, tests: int) -> str:
    seeds = f"{total.n} seed{'s' * (total.n != 1)}"
    if total.n == 0:
        return "nothing to compare: no seed finished in both"
    if total.n == 1:
        return "one seed says nothing about chance"
    if corrected < ALPHA:
        return f"{'higher' if total.mean > 0 else 'lower'} than the base at {seeds}"
    if p < ALPHA:
        return f"no difference seen at {seeds}, once corrected for {tests} comparisons"
    return f"no difference seen at {seeds}"
