"""Poses from points against SciPy's least squares and the truth, in float64; OpenCV where it is."""

import importlib
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from posejax.keypoints import Peaks, refine_pose, rotation_grid, solve_pnp
from posejax.keypoints.descent import descend
from posejax.keypoints.mixture import mixture
from tests.keypoints.scenes import BOX, K, degrees_between, projected, random_pose, twist_between


def moved(pose, xi):
    step = np.eye(4)
    step[:3, :3], step[:3, 3] = Rotation.from_rotvec(xi[3:]).as_matrix(), xi[:3]
    return pose @ step


def problem(rng, noise=0.7):
    pose = random_pose(rng)
    root = rng.normal(size=(26, 2, 2)) * 0.3 + np.eye(2)
    information = root @ root.swapaxes(1, 2) / noise**2
    xy = projected(pose) + noise * rng.normal(size=(26, 2))
    return pose, moved(pose, 0.1 * rng.normal(size=6)), xy, information


@pytest.mark.parametrize("loss", ["none", "huber", "cauchy"])
def test_the_least_error_is_scipys(rng, loss):
    _, start, xy, information = problem(rng)
    xy[3] += 12
    cut = {"none": 1.0, "huber": 2.45, "cauchy": 3.03}[loss]

    def residuals(xi):  # SciPy's losses take one number for each point
        away = xy - projected(moved(start, xi))
        return np.sqrt(np.einsum("pi,pij,pj->p", away, information, away))

    name = {"none": "linear"}.get(loss, loss)
    want = least_squares(residuals, np.zeros(6), loss=name, f_scale=cut, xtol=1e-12, ftol=1e-14)
    with jax.enable_x64(True):
        pose, covariance = refine_pose(start, BOX, xy, information, K, iterations=20, loss=loss)
        np.testing.assert_allclose(twist_between(pose, moved(start, want.x)), 0, atol=2e-6)
    assert np.all(np.linalg.eigvalsh(covariance) > 0)
    if loss == "none":
        # The inverse of J^T W J, J by differences.
        step = 1e-5 * np.eye(6)
        found = np.asarray(pose)
        ahead, behind = (
            np.stack([projected(moved(found, s * h)) for h in step], -1) for s in (1, -1)
        )
        slope = (ahead - behind) / 2e-5
        normal = np.einsum("pia,pij,pjb->ab", slope, information, slope)
        np.testing.assert_allclose(covariance, np.linalg.inv(normal), rtol=1e-4, atol=1e-12)


def test_an_unknown_loss_is_refused(rng):
    _, start, xy, information = problem(rng)
    with pytest.raises(ValueError, match="'cauchy'; got 'l1'"):
        refine_pose(start, BOX, xy, information, K, loss="l1")


@pytest.mark.parametrize("loss", ["none", "cauchy"])
def test_the_derivative_is_that_of_the_minimum(rng, loss):
    _, start, xy, information = problem(rng)
    weights = rng.normal(size=(4, 4))

    def value(points, xy, information, intrinsics):
        pose, _ = refine_pose(start, points, xy, information, intrinsics, iterations=30, loss=loss)
        return jnp.sum(pose * weights)

    given = [BOX, xy, information, K]
    change = [rng.normal(size=x.shape) for x in given]
    change[2] = change[2] + change[2].swapaxes(1, 2)
    change[3] = change[3] * np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]])
    with jax.enable_x64(True):
        slopes = jax.jit(jax.grad(value, argnums=(0, 1, 2, 3)))(*map(jnp.asarray, given))
        for k in range(4):
            ahead, behind = (
                value(*(x + s * change[k] if i == k else x for i, x in enumerate(given)))
                for s in (1e-5, -1e-5)
            )
            found = np.vdot(slopes[k], change[k])
            np.testing.assert_allclose(found, (ahead - behind) / 2e-5, rtol=1e-3, atol=1e-5)


def test_the_covariance_covers(rng):
    count, squares = 400, []
    poses = np.stack([random_pose(rng) for _ in range(count)])
    noise = rng.uniform(0.3, 1.5, (count, 26, 1))
    xy = np.stack([projected(p) for p in poses]) + noise * rng.normal(size=(count, 26, 2))
    information = np.eye(2) / noise[..., None] ** 2
    for loss in ("none", "cauchy"):
        run = jax.jit(jax.vmap(lambda p, x, i, m=loss: refine_pose(p, BOX, x, i, K, loss=m)))
        found, covariance = run(poses, xy, information)
        steps = np.stack([twist_between(p, t) for p, t in zip(found, poses, strict=True)])
        solved = np.linalg.solve(np.asarray(covariance, np.float64), steps[..., None])[..., 0]
        squares = np.sum(steps * solved, axis=1)
        assert 0.90 <= np.mean(squares < chi2.ppf(0.95, 6)) <= 0.98, loss


def test_no_step_goes_behind_the_camera(rng):
    truth = random_pose(rng)
    start = moved(truth, np.zeros(6))
    start[2, 3] = 1.2
    eye = np.tile(np.eye(2), (26, 1, 1))
    pose, _ = refine_pose(start, BOX, projected(truth), eye, K, iterations=25)
    assert np.all((BOX @ np.asarray(pose)[:3, :3].T + np.asarray(pose)[:3, 3])[:, 2] > 0)
    np.testing.assert_allclose(twist_between(pose, truth), 0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("points", [BOX, BOX * 0, BOX[:1], BOX - [0, 0, 50]])
def test_what_determines_nothing_is_finite(points):
    xy = np.full((len(points), 2), 30.0)
    information = np.tile(np.eye(2), (len(points), 1, 1))

    def value(points, xy):
        found = refine_pose(np.eye(4), points, xy, information, K)
        return sum(map(jnp.sum, found)) + solve_pnp(points, xy, None, K).sum()

    value, slopes = jax.jit(jax.value_and_grad(value, (0, 1)))(points, xy)
    assert np.isfinite(value) and all(np.isfinite(s).all() for s in slopes)


def test_exact_points_give_the_exact_pose(rng):
    poses = np.stack([random_pose(rng) for _ in range(24)])
    xy = np.stack([projected(p) for p in poses])
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(jax.vmap(lambda x: solve_pnp(BOX, x, None, K)))(xy))
    np.testing.assert_allclose(found, poses, atol=1e-6)


def test_wrong_points_and_noise_do_little(rng):
    poses = np.stack([random_pose(rng) for _ in range(200)])
    xy = np.stack([projected(p) for p in poses]) + 0.7 * rng.normal(size=(200, 26, 2))
    wrong = rng.random((200, 26)) < 0.25
    xy[wrong] = rng.uniform(0, 64, (wrong.sum(), 2))
    found = jax.jit(jax.vmap(lambda x: solve_pnp(BOX, x, None, K, sigma=0.7)))(xy)
    error = degrees_between(found, poses)
    assert np.median(error) < 1.5 and np.mean(error > 10) <= 0.01
    if importlib.util.find_spec("cv2") is None:
        return
    cv2, theirs = importlib.import_module("cv2"), poses.copy()
    for k, x in enumerate(xy):
        _, turn, _, _ = cv2.solvePnPRansac(BOX, x, K, None, reprojectionError=3.0)
        theirs[k, :3, :3] = Rotation.from_rotvec(turn[:, 0]).as_matrix()
    assert error.mean() < 1.05 * degrees_between(theirs, poses).mean()


def test_weights_of_zero_take_points_out(rng):
    truth = random_pose(rng)
    xy, weight = projected(truth), np.ones(26)
    xy[::3], weight[::3] = 10.0, 0
    np.testing.assert_allclose(solve_pnp(BOX, xy, weight, K), truth, atol=2e-4)


def test_a_body_far_from_the_axis_is_found(rng):
    truth = random_pose(rng)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0.5, -0.6, 0]).as_matrix()
    truth = turn @ truth
    np.testing.assert_allclose(solve_pnp(BOX, projected(truth), None, K), truth, atol=5e-4)


def test_the_grid_leaves_no_rotation_far_away():
    grid = rotation_grid(2048)
    np.testing.assert_allclose(
        grid @ grid.swapaxes(1, 2), np.tile(np.eye(3), (2048, 1, 1)), atol=1e-6
    )
    assert np.all(np.linalg.det(grid) > 0.999)
    other = Rotation.random(2000, rng=np.random.default_rng(0)).as_matrix()
    trace = np.einsum("gij,rij->rg", grid, other).max(axis=1)
    assert np.degrees(np.arccos((trace - 1) / 2)).max() < 20


def test_vmap_is_a_loop(rng):
    data = [problem(rng)[1:] for _ in range(3)]
    start, xy, information = (np.stack(x) for x in zip(*data, strict=True))
    together = jax.vmap(lambda p, x, i: refine_pose(p, BOX, x, i, K))(start, xy, information)
    for k in range(3):
        apart = refine_pose(start[k], BOX, xy[k], information[k], K)
        np.testing.assert_allclose(together[0][k], apart[0], atol=2e-4)
        np.testing.assert_allclose(together[1][k], apart[1], rtol=1e-2, atol=1e-7)


@pytest.fixture(scope="module")
def solved():
    """Of random bodies [N, 12, 3] scaled by `shape`: errors in degrees of `solve_pnp`, and by how
    much twenty more trials would move its answers."""
    camera = np.array([[150.0, 0, 64], [0, 150, 64], [0, 0, 1]])

    def one(points, xy):
        found = solve_pnp(points, xy, None, camera, sigma=1.0)
        eye = jnp.broadcast_to(jnp.eye(2)[None, None], (12, 1, 2, 2))
        measure = mixture(Peaks(xy[:, None], eye, jnp.ones((12, 1))))
        return found, descend(found, points, jnp.asarray(camera, jnp.float32), measure, 20)[0]

    both = jax.jit(jax.vmap(one))

    def run(shape, count=1000):
        rng = np.random.default_rng(17)
        points = rng.uniform(-0.8, 0.8, (count, 12, 3)) * shape
        truths = np.tile(np.eye(4), (count, 1, 1))
        truths[:, :3, :3] = Rotation.random(count, rng=rng).as_matrix()
        truths[:, :3, 3] = np.c_[0.4 * rng.normal(size=(count, 2)), rng.uniform(3, 5, count)]
        pairs = zip(truths, points, strict=True)
        xy = np.stack([projected(pose, body, camera) for pose, body in pairs])
        xy = xy + rng.normal(size=xy.shape)
        found, further = both(points.astype(np.float32), xy.astype(np.float32))
        return degrees_between(found, truths), degrees_between(found, further)

    return run


def test_a_flat_body_is_hardly_ever_seen_from_the_wrong_side(solved):
    """Two poses look much alike, and one step does not tell them apart."""
    errors, _ = solved((1, 1, 0))
    assert np.median(errors) < 2.5 and np.mean(errors > 15) < 0.03


def test_answers_are_minima(solved):
    errors, left = solved((1, 1, 1))
    assert errors.max() < 15 and np.mean(left > 0.1) < 0.03
