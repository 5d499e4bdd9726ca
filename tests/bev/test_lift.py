"""The lift by a plan and its differentiable twin, against the definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.bev import VoxelGrid, lift, lift_dynamic, make_lift_plan
from posejax.data.cameras import convert_intrinsics
from posejax.data.mmdet_infos import read_infos
from tests.bev.rigs import GRID, IMAGE, SIZE, reference_lift, rig, views

RULES = [None, "simple_bev"]
K, POSES = rig()
FEATURES = np.random.default_rng(1).standard_normal((4, *SIZE, 5)).astype(np.float32)
FEATURES[0, 2:5, 3:9, 1] = 0  # values that the original drops from its mean
ALL = np.ones(4, bool)
COTANGENT = np.random.default_rng(2).standard_normal((*GRID.shape, 5)).astype(np.float32)


def plan(compat=None, k=K, poses=POSES):
    return make_lift_plan(k, poses, grid=GRID, image_size=IMAGE, feature_size=SIZE, compat=compat)


def twin(features, k=K, poses=POSES, mask=None, compat=None):
    return lift_dynamic(
        features, k, poses, mask, grid=GRID, image_size=IMAGE, max_cameras=3, compat=compat
    )


@jax.jit
def by_plan(features, plan, mask):
    """Volume and gradient by a plan."""
    volume, pull = jax.vjp(lambda f: lift(f, plan, mask), features)
    return volume, *pull(jnp.asarray(COTANGENT))


@pytest.fixture(scope="module", params=RULES, ids=["exact", "simple_bev"])
def both(request):
    """Volumes and all gradients of the plan and of the twin."""
    compat = request.param

    @jax.jit
    def by_twin(features, k, poses):
        volume, pull = jax.vjp(lambda *args: twin(*args, compat=compat), features, k, poses)
        return volume, *pull(jnp.asarray(COTANGENT))

    k, poses = np.float32(K), np.float32(POSES)
    return compat, by_plan(FEATURES, plan(compat), ALL), by_twin(FEATURES, k, poses)


def test_the_rig_has_every_number_of_cameras():
    count = views(K, POSES, GRID, IMAGE, SIZE, None)[1].sum(0)
    assert set(np.unique(count)) == {0, 1, 2, 3}
    assert plan().max_cameras == 3 and plan().pairs == count.sum()
    np.testing.assert_array_equal(plan().coverage().reshape(-1), count)


def test_values_are_those_of_the_definition(both):
    compat, (volume, _), (twin, *_) = both
    expected = reference_lift(FEATURES, K, POSES, compat=compat)
    np.testing.assert_allclose(volume, expected, atol=2e-6)
    np.testing.assert_allclose(twin, expected, atol=1e-4)


def test_rules_differ():
    first, other = (reference_lift(FEATURES, K, POSES, compat=compat) for compat in RULES)
    assert np.abs(first - other).max() > 0.5


def test_feature_gradient_is_the_derivative(both):
    """The lift is linear in the features as long as no value becomes zero."""
    compat, (_, gradient), (_, twin, *_) = both
    rng = np.random.default_rng(3)
    step = rng.standard_normal(FEATURES.shape) * (FEATURES != 0)
    scale = 1e-4
    change = reference_lift(FEATURES + scale * step, K, POSES, compat=compat) - reference_lift(
        FEATURES - scale * step, K, POSES, compat=compat
    )
    slope = (change * COTANGENT).sum() / (2 * scale)
    np.testing.assert_allclose((gradient * step).sum(), slope, rtol=2e-5)
    np.testing.assert_allclose(gradient, twin, atol=2e-4)


def test_calibration_gradients_are_the_derivative(both):
    compat, _, (_, _, of_k, of_pose) = both
    rng = np.random.default_rng(4)
    for given, gradient, rows in ((K, of_k, 2), (POSES, of_pose, 3)):
        step = rng.standard_normal(given.shape) * (np.arange(given.shape[-1]) < rows)[:, None]
        scale = 1e-6  # so small that nothing crosses a border or the middle of a pixel

        def loss(amount, given=given, step=step):
            k, poses = (v + amount * step if v is given else v for v in (K, POSES))
            return (reference_lift(FEATURES, k, poses, compat=compat) * COTANGENT).sum()

        slope = (loss(scale) - loss(-scale)) / (2 * scale)
        np.testing.assert_allclose((gradient * step).sum(), slope, rtol=2e-3)


@pytest.mark.parametrize("compat", RULES)
def test_the_gradient_only_gathers(compat):
    def pulled(features, plan):
        return jax.vjp(lambda f: lift(f, plan), features)[1](jnp.asarray(COTANGENT))

    assert "scatter" not in str(jax.make_jaxpr(pulled)(FEATURES, plan(compat)))


def test_a_missing_camera_is_not_a_dark_one():
    mask = np.array([True, False, True, True])
    features = FEATURES.copy()
    features[1] = np.nan
    rest = reference_lift(FEATURES[mask], K[mask], POSES[mask])
    volume, gradient = by_plan(features, plan(), mask)
    np.testing.assert_allclose(volume, rest, atol=2e-6)
    np.testing.assert_allclose(twin(features, mask=mask), rest, atol=1e-4)
    assert np.isfinite(gradient).all() and not gradient[1].any()


def test_no_camera_at_all():
    away = POSES.copy()
    away[:, :3, 3] = 0, 0, -100
    empty = plan(poses=away)
    assert (empty.pairs, empty.max_cameras) == (0, 0)
    volume, gradient = by_plan(FEATURES, empty, ALL)
    assert not volume.any() and not gradient.any()
    assert not by_plan(FEATURES, plan(), np.zeros(4, bool))[0].any()


def test_batches_and_precision():
    batch = np.stack([FEATURES, 2 * FEATURES[::-1]])
    together = jax.vmap(lift, (0, None))(batch, plan())
    np.testing.assert_allclose(together[1], lift(batch[1], plan()), atol=1e-6)
    half = lift(FEATURES.astype(jnp.bfloat16), plan())
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), lift(FEATURES, plan()), atol=0.03)


def test_equal_calibrations_share_a_plan():
    assert plan() is plan(k=K.copy()) and plan() is not plan("simple_bev")
    inside = jax.jit(lambda f: lift(f, plan(poses=POSES[::-1].copy(), k=K[::-1].copy())))
    inside(FEATURES[::-1])  # built while a program is traced, and usable after it
    assert plan(poses=POSES[::-1].copy(), k=K[::-1].copy()).pairs == plan().pairs


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 8, 12\) \+ \(C,\)"):
        lift(FEATURES[:3], plan())
    with pytest.raises(ValueError, match=r"mask is \[4\]"):
        lift(FEATURES, plan(), np.ones(3, bool))
    with pytest.raises(ValueError, match="simple_bev"):
        plan("mmdet")
    with pytest.raises(ValueError, match="finite"):
        plan(poses=POSES * np.nan)
    with pytest.raises(ValueError, match="intrinsics are"):
        plan(k=K[0])
    with pytest.raises(ValueError, match="4 cameras"):
        lift_dynamic(FEATURES, K[:3], POSES, grid=GRID, image_size=IMAGE)


def test_cameras_see_what_the_original_sees(golden):
    """The original's valid voxels, camera by camera."""
    file = golden("segnet.npz")
    k = convert_intrinsics(file["B1/pix_T_cams"][0, :, :3, :3], source="opencv", target="posejax")
    poses = np.linalg.inv(file["B1/cam0_T_camXs"][0].astype(np.float64))
    grid = VoxelGrid((48, 4, 48), (-12, -4, -12), (12, 6, 12))
    for camera in range(2):
        plan = make_lift_plan(
            k[[camera]],
            poses[[camera]],
            grid=grid,
            image_size=(64, 96),
            feature_size=(8, 12),
            compat="simple_bev",
        )
        # Samples beyond the last pixels, where the original's grid is stretched, are zero.
        lit = np.asarray(plan.levels[0].weight).sum(1).reshape(grid.shape) > 0
        assert not (lit & (np.asarray(plan.coverage()) == 0)).any()
        np.testing.assert_array_equal(lit, file["res50/valid_cams"][camera])


def test_pairs_of_the_real_rig(data_dir):
    frame = read_infos(data_dir("nuscenes_sample") / "infos.json")[0]
    poses = np.linalg.inv(np.stack(list(frame.mounted.values()))) @ frame.mounted["CAM_FRONT"]

    def count(k, image, compat=None):
        plan = make_lift_plan(
            k, poses, grid=VoxelGrid(), image_size=image, feature_size=(56, 100), compat=compat
        )
        coverage = np.asarray(plan.coverage())
        return plan.pairs, int((coverage == 2).sum()), plan.max_cameras, (coverage == 0).mean()

    full = np.stack([c.camera.intrinsics for c in frame.cameras.values()])
    # The original resizes the images with OpenCV's numbers and no half pixel.
    shift = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    resized = (full - shift) * np.array([[0.5], [448 / 900], [1]]) + shift
    exact = count(resized, (448, 800))
    assert exact[:3] == (349_750, 38_572, 2)
    assert exact[3] == pytest.approx(0.028, abs=5e-4)
    assert count(resized, (448, 800), "simple_bev")[:3] == (349_513, 38_520, 2)
    assert count(full, (900, 1600))[:3] == (349_764, 38_584, 2)
