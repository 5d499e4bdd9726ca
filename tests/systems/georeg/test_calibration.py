"""Calibration: fitted scales and temperatures bring known miscalibrations back to truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.systems.georeg import calibration, summary
from posejax.systems.georeg.objective import TEMPERATURES, judge, read_volume


def records(rng, count=4000, claimed=(0.05, 0.05, 0.01), true=(0.1, 0.1, 0.03), best=20):
    """Gaussian errors of std `true` under covariances that claim `claimed`."""
    pose = rng.uniform(-1, 1, (count, 3))
    covariance = np.broadcast_to(np.diag(np.square(claimed)), (count, 3, 3))
    estimate = pose + rng.standard_normal((count, 3)) * true
    curve = (np.arange(len(TEMPERATURES)) - best) ** 2.0
    return {
        "pose": pose,
        "index": np.arange(count),
        "softmax": estimate,
        "gaussian": estimate,
        "argmax": estimate,
        "covariance": covariance,
        "gaussian_covariance": covariance,
        "nll_temperature": np.broadcast_to(curve, (count, len(curve))),
    }


def test_scales_recover_the_true_standard_deviations(rng):
    fitted = calibration.fit(records(rng), calibration.identity())
    np.testing.assert_allclose(fitted["softmax_scale"], [2, 2, 3], rtol=0.05)
    assert float(fitted["temperature"]) == pytest.approx(TEMPERATURES[20])


def test_calibrated_ellipse_covers_what_it_claims_on_new_records(rng):
    fitted = calibration.fit(records(rng, 1000), calibration.identity())
    fresh = records(rng, 4000)
    fresh |= {
        k: np.asarray(v)
        for k, v in calibration.scale_covariances(
            {n: fresh[n] for n in ("covariance", "gaussian_covariance")}, fitted
        ).items()
    }
    assert summary.summarize(fresh)["softmax/coverage_95_xy"] == pytest.approx(0.95, abs=0.015)


def test_a_second_fit_on_calibrated_records_changes_nothing(rng):
    raw = records(rng)
    first = calibration.fit(raw, calibration.identity())
    scaled = calibration.scale_covariances(
        {n: raw[n] for n in ("covariance", "gaussian_covariance")}, first
    )
    second = calibration.fit({**raw, **scaled}, first)
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=1e-5)


def test_too_few_records_and_useless_scores_are_refused(rng):
    with pytest.raises(ValueError, match="at least 50"):
        calibration.fit(records(rng, 10), calibration.identity())
    with pytest.raises(ValueError, match="no usable probability"):
        calibration.fit(records(rng, 100, best=0), calibration.identity())


def test_abstaining_follows_the_calibrated_covariance():
    """Gaussian volumes of known spread: one mode; two equal modes; no mode at all."""
    angles = jnp.deg2rad(jnp.arange(-4.0, 5.0))
    k, i, j = np.meshgrid(np.arange(-4, 5), np.arange(-12, 13), np.arange(-12, 13), indexing="ij")

    def bump(y, x):
        return -0.5 * (k**2 + ((i - y) / 1.5) ** 2 + ((j - x) / 2.0) ** 2)

    volumes = np.stack([bump(0, 0), np.logaddexp(bump(0, -6), bump(0, 6)), 0.0 * k])
    read = jax.jit(lambda v: read_volume(v, angles, 0.1, jnp.float32(1)))(jnp.float32(volumes))

    def judged(*scale):
        fitted = {**calibration.identity(), "softmax_scale": jnp.array(scale)}
        return jax.device_get(judge(calibration.scale_covariances(read, fitted), 0.5))

    plain = judged(1.0, 1.0, 1.0)
    np.testing.assert_allclose(plain["sigma_major"][0], 0.2, rtol=1e-3)
    np.testing.assert_allclose(plain["sigma_minor"][0], 0.15, rtol=1e-3)
    np.testing.assert_allclose(np.abs(plain["weak_direction"][0]), [1, 0], atol=1e-3)
    assert plain["abstain"].tolist() == [False, True, True]
    # Overconfident along y alone: the weak direction turns, and one limit is exceeded.
    wide = judged(1.0, 4.0, 1.0)
    np.testing.assert_allclose(wide["sigma_major"][0], 0.6, rtol=1e-3)
    np.testing.assert_allclose(np.abs(wide["weak_direction"][0]), [0, 1], atol=1e-3)
    assert wide["abstain"].all()
    # A rival mode or a flat volume is no matter of scale: shrinking does not take it back.
    assert judged(0.01, 0.01, 1.0)["abstain"].tolist() == [False, True, True]
    lost = {**read, "covariance": read["covariance"] * jnp.nan}
    assert judge(lost, 0.5)["abstain"].all()
