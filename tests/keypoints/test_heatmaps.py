"""Targets and loss against sums over all cells in float64, and what may go wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from posejax.keypoints import heatmap_nll, heatmap_targets

SIZE = 24, 32
XY = np.array([[12.0, 9.5], [20.37, 14.81], [16.5, 12.25], [9.02, 11.99]])


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.3])
def test_the_mean_of_a_target_is_the_point(sigma):
    p = np.asarray(heatmap_targets(XY, SIZE, sigma=sigma), np.float64)
    assert p.shape == (*SIZE, 4) and p.min() >= 0
    np.testing.assert_allclose(p.sum((0, 1)), 1, atol=1e-6)
    y, x = (np.arange(n) + 0.5 for n in SIZE)
    mean = np.stack([np.einsum("hwp,w->p", p, x), np.einsum("hwp,h->p", p, y)], -1)
    np.testing.assert_allclose(mean, XY, atol=2e-5)
    if sigma > 1:
        spread = np.einsum("hwp,wp->p", p, (x[:, None] - XY[:, 0]) ** 2)
        np.testing.assert_allclose(spread, sigma**2 + 1 / 6, rtol=1e-4)


def test_a_target_is_a_normal_density_behind_a_hat():
    p = heatmap_targets(XY[1:2], SIZE, sigma=0.8)[:, :, 0]
    hat = lambda x, c: max(0, 1 - abs(x - c))  # noqa: E731
    density = lambda x, m: np.exp(-0.5 * ((x - m) / 0.8) ** 2) / (0.8 * np.sqrt(2 * np.pi))  # noqa: E731
    for row, column in ((14, 20), (13, 22)):
        want = 1.0
        for m, c in ((XY[1, 1], row + 0.5), (XY[1, 0], column + 0.5)):
            want *= quad(lambda x, m=m, c=c: hat(x, c) * density(x, m), c - 1, c + 1, points=[c])[0]
        np.testing.assert_allclose(p[row, column], want, rtol=1e-4)


def test_points_outside_have_no_target_and_no_loss():
    xy = np.array([[-0.1, 5], [5, 24.1], [np.nan, 5], [np.inf, 5], [1e20, 5], [0.0, 24.0]])
    p = heatmap_targets(xy, SIZE, sigma=1.0)
    np.testing.assert_allclose(p.sum((0, 1)), [0, 0, 0, 0, 0, 1], atol=1e-6)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(*SIZE, 6)), jnp.float32)

    def total(logits, xy):
        return heatmap_nll(logits, xy, sigma=1.0).sum()

    loss, slopes = jax.value_and_grad(total, (0, 1))(logits, jnp.asarray(xy, jnp.float32))
    assert np.isfinite(loss) and all(np.isfinite(s).all() for s in slopes)
    assert np.all(np.asarray(slopes[0])[..., :5] == 0) and np.abs(slopes[0][..., 5]).max() > 0
    assert np.all(np.asarray(heatmap_nll(logits, xy, sigma=1.0))[:5] == 0)


def test_the_loss_is_the_cross_entropy(rng):
    logits = 3 * rng.normal(size=(*SIZE, 4))
    target = np.asarray(heatmap_targets(XY, SIZE, sigma=1.1), np.float64)
    log_p = logits - np.log(np.exp(logits).sum((0, 1)))
    want = -(target * log_p).sum((0, 1))
    weight = np.array([1, 0.5, 0, 2])
    np.testing.assert_allclose(heatmap_nll(logits, XY, sigma=1.1), want, rtol=1e-5)
    np.testing.assert_allclose(heatmap_nll(logits, XY, weight, sigma=1.1), weight * want, rtol=1e-5)
    entropy = -(target * np.log(np.maximum(target, 1e-30))).sum((0, 1))
    found = heatmap_nll(logits, XY, sigma=1.1, divergence=True)
    np.testing.assert_allclose(found, want - entropy, rtol=1e-4)
    # Nothing is left when the heatmaps are the targets; p - target is the slope otherwise.
    exact = np.log(np.maximum(target, 1e-30))
    np.testing.assert_allclose(heatmap_nll(exact, XY, sigma=1.1, divergence=True), 0, atol=1e-4)
    slope = jax.grad(lambda x: heatmap_nll(x, XY, sigma=1.1).sum())(jnp.asarray(logits))
    np.testing.assert_allclose(slope, np.exp(log_p) - target, atol=1e-6)


def test_vmap_is_a_loop(rng):
    logits = jnp.asarray(rng.normal(size=(3, *SIZE, 4)), jnp.float32)
    xy = jnp.asarray(XY + rng.normal(size=(3, 4, 2)), jnp.float32)
    together = jax.vmap(lambda a, b: heatmap_nll(a, b, sigma=1.0))(logits, xy)
    apart = [heatmap_nll(a, b, sigma=1.0) for a, b in zip(logits, xy, strict=True)]
    np.testing.assert_allclose(together, apart, rtol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="sigma"):
        heatmap_targets(XY, SIZE, sigma=0.0)
    with pytest.raises(ValueError, match="vmap"):
        heatmap_targets(XY[None], SIZE, sigma=1.0)
    with pytest.raises(ValueError, match="logits"):
        heatmap_nll(np.zeros((*SIZE, 3)), XY, sigma=1.0)
