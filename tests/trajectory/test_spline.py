"""The SE(3) spline: SciPy's B-splines, screws to rounding, noise, gaps, queries, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from posejax.trajectory import SplineFit, spline_poses, spline_smooth

SEGMENTS = 48


@pytest.fixture(scope="module")
def smooth(compiled):
    """A batch of tracks, in float32."""
    return compiled(
        jax.vmap(lambda t, p, v: spline_smooth(t, p, v, segments=SEGMENTS, drift=(0.1, 0.1)))
    )


@pytest.mark.slow
@pytest.mark.real
def test_batches_of_noisy_tracks_are_smoothed(rt002, tumbling, smooth, spoil, errors):
    rng = np.random.default_rng(1)
    t, truth = rt002
    swaying = tumbling[1]
    tracks = [truth, *(spoil(p, rng, 10, 0.3, s)[0] for p in (truth, swaying) for s in (0, 0.3))]
    valid = np.ones((6, 480), bool)
    # A gap of two seconds and a track that ends early, with what is lost in it.
    lost, short = (t > 20) & (t < 22), t < 30
    valid[5] = short & ~lost
    tracks.append(np.where(valid[5][:, None, None], tracks[3], np.nan))
    found = smooth(np.tile(t, (6, 1)), np.stack(tracks), valid)
    assert np.abs(found.poses[0] - truth).max() < 2e-5
    for k, want in ((1, truth), (2, truth), (3, swaying), (4, swaying)):
        e_t, angle = errors(want, found.poses[k])
        assert e_t < 0.02 and angle < 3.5, k
        assert errors(want, tracks[k])[1] > 9
    assert np.isfinite(np.asarray(found.poses[5])).all()
    e_t, angle = errors(swaying[valid[5]], found.poses[5][valid[5]])
    assert e_t < 0.02 and angle < 3.5
    # Inside the gap the poses are bridged; they have neither weight nor residual.
    assert errors(swaying[lost], found.poses[5][lost])[0] < 0.08
    assert np.all(np.asarray(found.weights[5])[~valid[5]] == 0)
    assert np.all(np.asarray(found.residuals[5])[~valid[5]] == 0)
    assert float(found.spacing[5]) == pytest.approx(29.9 / SEGMENTS, rel=1e-4)


def test_translation_alone_is_a_penalised_b_spline(rng, compiled):
    """Without turning the least-squares problem is linear: SciPy's basis, NumPy's solver."""
    m, segments, sigma, drift = 90, 12, 0.2, 0.05
    t = np.sort(rng.uniform(0, 9, m))
    poses = np.tile(np.eye(4), (m, 1, 1))
    poses[:, :3, 3] = np.stack([np.sin(t), 0.3 * t, 5 + np.cos(t)], 1)
    poses[:, :3, 3] += rng.normal(size=(m, 3)) * sigma

    def fit(step):
        moved = jnp.asarray(poses).at[:, 0, 3].multiply(1 + step)
        # A known attitude; otherwise the direction of motion tells about it.
        given = np.array([sigma, 1e-6])
        settings = {"segments": segments, "drift": (drift, 1e-6), "robust": "none"}
        found = spline_smooth(t, moved, None, given, **settings)
        return jnp.sum(found.controls[:, 0, 3] ** 2), found.controls, found.poses

    with jax.enable_x64(True):
        found, slopes = compiled(lambda step: jax.jvp(fit, (step,), (1.0,)))(0.0)
    h = (t[-1] - t[0]) / segments
    knots = t[0] + h * (np.arange(segments + 7) - 3)
    basis = BSpline.design_matrix(np.minimum(t, t[-1] - 1e-12), knots, 3).toarray()
    bend = np.diff(np.eye(segments + 3), n=2, axis=0) / (drift * h**1.5)
    normal = basis.T @ basis / sigma**2 + bend.T @ bend
    want = np.linalg.solve(normal, basis.T @ poses[:, :3, 3] / sigma**2)
    np.testing.assert_allclose(found[1][:, :3, 3], want, atol=1e-6)
    np.testing.assert_allclose(found[2][:, :3, 3], basis @ want, atol=1e-6)
    # The solution is linear in the measurements: the sum of squares has slope 2.
    assert slopes[0] == pytest.approx(2 * np.sum(want[:, 0] ** 2), rel=1e-5)


def test_queries_between_and_beyond(screw):
    """Control poses of a screw give the screw at any time, and go on as one."""
    poses = screw[1]
    with jax.enable_x64(True):
        step = np.linalg.inv(poses[0]) @ poses[1]
        controls = [poses[0]]
        for _ in range(7):
            controls.append(controls[-1] @ step)
        none = jnp.zeros((0, 2))
        fit = SplineFit(jnp.stack(controls), jnp.array(2.0), jnp.array(0.5), controls, none, none)
        # The second control pose is that of the first knot.
        when = np.array([1.0, 1.5, 2.0, 2.5, 4.5, 5.0])
        found = jax.jit(spline_poses)(fit, when)
        root = [np.linalg.inv(step), np.eye(4), step, step @ step]
        want = [poses[0] @ m for m in root]
        np.testing.assert_allclose(found[:4], want, atol=1e-12)
        np.testing.assert_allclose(found[4], controls[6], atol=1e-12)
        np.testing.assert_allclose(found[5], controls[7], atol=1e-12)


def test_a_spline_needs_a_segment(screw):
    with pytest.raises(ValueError, match="at least one segment"):
        spline_smooth(*screw, segments=0)
