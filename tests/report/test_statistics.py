"""Statistics against SciPy and against simulation."""

import numpy as np
import pytest
from scipy import stats

from posejax.report.statistics import (
    bootstrap_interval,
    chi_square_cdf,
    chi_square_quantile,
    cluster_bootstrap,
    coverage_curve,
    squared_mahalanobis,
)


@pytest.mark.parametrize("dof", [1, 2, 3, 5, 6])
def test_chi_square_matches_scipy(dof):
    x = np.concatenate([[0, 1e-9, 1e-3], np.linspace(0.01, 60, 200), [1e4, np.inf]])
    np.testing.assert_allclose(chi_square_cdf(x, dof), stats.chi2.cdf(x, dof), atol=1e-13)
    assert np.isnan(chi_square_cdf(np.array([np.nan]), dof))
    for level in (0.1, 0.5, 0.8, 0.95, 0.999):
        found = chi_square_quantile(level, dof)
        assert found == pytest.approx(stats.chi2.ppf(level, dof), rel=1e-11)


def test_unknown_laws_are_refused():
    for level in (0, 1, 1.5, np.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            chi_square_quantile(level, 3)
    with pytest.raises(ValueError, match="got 0"):
        chi_square_cdf(np.ones(2), 0)


def test_squared_mahalanobis_matches_a_dense_solve_in_mixed_units(rng):
    a = rng.normal(size=(50, 3, 3))
    # Metres beside microradians: the test of definiteness must not depend on the units.
    scale = np.diag([10.0, 1.0, 1e-6])
    covariance = scale @ (a @ a.transpose(0, 2, 1) + 0.1 * np.eye(3)) @ scale
    error = rng.normal(size=(50, 3)) * [10, 1, 1e-6]
    expected = [e @ np.linalg.inv(c) @ e for e, c in zip(error, covariance, strict=True)]
    np.testing.assert_allclose(squared_mahalanobis(error, covariance), expected, rtol=1e-6)


def test_squared_mahalanobis_refuses_what_means_nothing():
    good = np.diag([1.0, 4.0])
    covariance = np.stack(
        [good, np.zeros((2, 2)), np.ones((2, 2)), -good, [[1, 3], [3, 1]], good * np.nan, good]
    )
    error = np.full((7, 2), 2.0)
    error[6, 0] = np.inf
    result = squared_mahalanobis(error, covariance)
    assert result[0] == pytest.approx(4 + 1)
    assert np.isnan(result[1:]).all()


def test_coverage_of_a_calibrated_estimator_is_nominal(rng):
    nees = rng.chisquare(3, 20_000)
    levels = np.array([0.1, 0.5, 0.9, 0.95])
    np.testing.assert_allclose(coverage_curve(nees, 3, levels), levels, atol=0.012)
    # Errors twice as large as claimed: P(chi2_3 <= q / 4).
    expected = stats.chi2.cdf(stats.chi2.ppf(levels, 3) / 4, 3)
    np.testing.assert_allclose(coverage_curve(4 * nees, 3, levels), expected, atol=0.012)
    # Without a usable covariance nothing is covered.
    assert coverage_curve(np.array([np.nan, 0.0]), 2, np.array([0.5])) == 0.5


def test_bootstrap_interval_is_that_of_the_mean(rng):
    values = rng.normal(3, 2, 400)
    low, high = bootstrap_interval(values, lambda v: v.mean(-1), resamples=4000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)
    assert (low, high) == bootstrap_interval(values, lambda v: v.mean(-1), resamples=4000)
    assert np.isnan(bootstrap_interval(values[:0], lambda v: v.mean(-1))).all()


def test_bootstrap_in_blocks_draws_all_resamples(rng):
    seen = []
    bootstrap_interval(
        rng.normal(size=30_000), lambda v: seen.append(v.shape) or v.mean(-1), resamples=100
    )
    assert max(rows for rows, _ in seen) * 30_000 <= 1_000_000
    assert sum(rows for rows, _ in seen) == 100


def _sequences(rng, clusters, mean=2.0):
    """Examples of `clusters` sequences of unequal length that err together."""
    sizes = rng.integers(20, 60, clusters)
    labels = np.repeat(np.arange(clusters), sizes)
    return mean + rng.normal(size=clusters)[labels] + 0.3 * rng.normal(size=len(labels)), labels


def test_cluster_bootstrap_covers_the_truth_where_single_examples_do_not():
    rng = np.random.default_rng(0)
    by_cluster, by_example = 0, 0
    for trial in range(200):
        values, labels = _sequences(rng, 30)
        low, high = cluster_bootstrap(values, labels, np.mean, resamples=200, seed=trial)
        by_cluster += low <= 2 <= high
        low, high = bootstrap_interval(values, lambda v: v.mean(-1), resamples=200, seed=trial)
        by_example += low <= 2 <= high
    # Three standard deviations of a binomial share of 0.95 are 0.046.
    assert 0.88 <= by_cluster / 200 <= 0.99
    assert by_example / 200 < 0.5


def test_cluster_bootstrap_of_single_members_is_the_plain_one(rng):
    values = rng.normal(3, 2, 300)
    low, high = cluster_bootstrap(values, np.arange(300), np.mean, resamples=2000)
    half = 1.96 * values.std() / np.sqrt(300)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_cluster_bootstrap_draws_rows_and_repeats_itself(rng):
    values, labels = _sequences(rng, 12)
    rows = np.stack([values, np.ones_like(values)], axis=1)
    names = np.array([f"RT{k:03d}" for k in labels])
    ratio = lambda v: v[:, 0].sum() / v[:, 1].sum()  # noqa: E731
    found = cluster_bootstrap(rows, names, ratio, resamples=50, seed=3)
    # The mean of the resample is the ratio of its sums; labels may be strings.
    want = cluster_bootstrap(values, labels, np.mean, resamples=50, seed=3)
    assert found == pytest.approx(want, rel=1e-12)
    assert found != cluster_bootstrap(rows, names, ratio, resamples=50, seed=4)


def test_cluster_bootstrap_knows_what_it_cannot_know(rng):
    assert np.isnan(cluster_bootstrap(rng.normal(size=9), np.zeros(9), np.mean)).all()
    with pytest.raises(ValueError, match="3 values in 2 cluster"):
        cluster_bootstrap(np.zeros(3), np.zeros(2), np.mean)
