"""Statistics of a comparison, against scipy and planted truths."""

import math

import numpy as np
import pytest
from scipy import stats

from yolograft.compare import statistics


def _planted(rng, shift, seeds, noise=0.01):
    """Runs whose seeds differ far more than the variant does, as trainings do."""
    level = rng.normal(0.4, 0.05, seeds)
    base = {s: float(level[s] + rng.normal(0, noise)) for s in range(seeds)}
    return base, {s: float(level[s] + shift + rng.normal(0, noise)) for s in range(seeds)}


@pytest.mark.parametrize("seeds", [2, 3, 5, 12])
def test_equal_to_scipy(seeds):
    base, variant = _planted(np.random.default_rng(seeds), 0.02, seeds)
    found = statistics.compare(base, {"a": variant})["a"]
    a, b = list(variant.values()), list(base.values())
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.mean == pytest.approx(np.mean(a) - np.mean(b))
    assert found.sd == pytest.approx(np.std(np.subtract(a, b), ddof=1))
    total = statistics.summarize(a)
    assert (total.mean, total.sd) == pytest.approx((np.mean(a), np.std(a, ddof=1)))


def test_planted_difference_is_found_and_planted_null_is_not():
    rng = np.random.default_rng(0)
    base, better = _planted(rng, 0.1, 5)
    null = {
        s: v + d for (s, v), d in zip(base.items(), [0.01, -0.01, 0.005, -0.004, 0], strict=True)
    }
    worse = {s: v - 0.1 - 0.001 * s for s, v in base.items()}
    found = statistics.compare(base, {"better": better, "null": null, "worse": worse})
    assert found["better"].verdict == "higher than the base at 5 seeds"
    assert found["worse"].verdict == "lower than the base at 5 seeds"
    assert found["null"].verdict == "no difference seen at 5 seeds"
    assert found["null"].low < 0 < found["null"].high


def test_what_correction_takes_away_is_told():
    base = dict.fromkeys(range(3), 0.5)
    near = {0: 0.51, 1: 0.512, 2: 0.514}  # p = 0.009
    many = {f"v{i}": {0: 0.5, 1: 0.49, 2: 0.51} for i in range(9)}
    assert statistics.compare(base, {"a": near})["a"].verdict == "higher than the base at 3 seeds"
    told = statistics.compare(base, {"a": near, **many})["a"].verdict
    assert told == "no difference seen at 3 seeds, once corrected for 10 comparisons"


def test_nulls_are_rarely_called_a_difference():
    """Of 20 variants that differ by chance alone, Holm lets through one set in twenty at most."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        base = dict(enumerate(rng.normal(0.4, 0.01, 4)))
        nulls = {f"v{i}": dict(enumerate(rng.normal(0.4, 0.01, 4))) for i in range(20)}
        found = statistics.compare(base, nulls).values()
        alarms += any(one.holm < statistics.ALPHA for one in found)
    assert alarms / 200 < 0.08  # 0.05, and chance of 200 rounds


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []
    with_gap = statistics.holm([math.nan, 0.02])
    assert math.isnan(with_gap[0])
    assert with_gap[1] == 0.02


def test_few_seeds_and_equal_ones():
    one = statistics.compare({0: 0.5}, {"a": {0: 0.6}})["a"]
    assert one.verdict == "one seed says nothing about chance"
    assert math.isnan(one.low)
    none = statistics.compare({0: 0.5}, {"a": {1: 0.6}})["a"]
    assert none.verdict == "nothing to compare: no seed finished in both"
    same = statistics.compare({0: 0.5, 1: 0.25}, {"a": {0: 0.5, 1: 0.25}})["a"]
    assert (same.p, same.verdict) == (1.0, "no difference seen at 2 seeds")
    steady = statistics.compare({0: 0.5, 1: 0.25}, {"a": {0: 0.75, 1: 0.5}})["a"]
    assert (steady.p, steady.low, steady.high) == (0.0, 0.25, 0.25)


def test_only_common_seeds_count():
    found = statistics.compare({0: 0.5, 1: 0.4, 2: 0.3}, {"a": {0: 0.6, 2: 0.5, 7: 0.9}})["a"]
    assert [*found.differences] == [0, 2]
    assert found.mean == pytest.approx(0.15)
