"""Projection, sampling, heads, gate: the reference numbers, and what they do at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.geometry import convert_intrinsics
from posejax.image import bilinear_sample
from posejax.nn import from_flax, to_flax
from posejax.systems.bifusion.config import ModelConfig
from posejax.systems.bifusion.data import SevenScenes, SunRgbd
from posejax.systems.bifusion.gate import LiteFusionGate, MaskedSE
from posejax.systems.bifusion.model import FusionHead
from posejax.systems.bifusion.objective import consistency, cosine, mean_over
from posejax.systems.bifusion.pretrained import fusion_table
from posejax.systems.bifusion.projection import project_points, sample_features
from tests.nn.conftest import Reference

IMAGE, MAP, POINTS = (480, 640), (30, 40), 500
COMPAT = {"half_pixel": "centers", "scaled_only": "scaled_only"}


def head_shapes():
    one = jnp.zeros((1, 2, 256))
    arguments = (one, one[..., :96], jnp.ones((1, 2), bool), jnp.ones((1, 2), bool))
    return jax.eval_shape(
        lambda key: FusionHead(ModelConfig(early=0.0)).init(
            key, *arguments, jnp.zeros((1, 2, 3)), jnp.float32(1), False
        ),
        jax.random.key(0),
    )


def run(case, params, features, raw, xyz, k, pose, target):
    """The forward pass on a batch of one, and the scalars whose gradients the reference has."""
    k = convert_intrinsics(k, source="opencv", target="posejax")
    place = project_points(
        xyz, k, pose, image_size=IMAGE, map_size=MAP, min_depth=1e-6, compat=COMPAT[case]
    )
    mask = jnp.ones((1, POINTS), bool)
    sampled = sample_features(features[None], place.xy[None], place.valid[None])
    model = FusionHead(ModelConfig(early=0.0))
    found, inner = model.apply(
        {"params": params},
        sampled,
        raw[None],
        place.valid[None],
        mask,
        jnp.zeros((1, POINTS, 3)),
        jnp.float32(1),
        False,
        capture_intermediates=lambda m, _: m.name in ("gate", "squeeze", "project3d_norm"),
    )
    return place, sampled, found, inner["intermediates"], jnp.sum(found.fused[0] * target)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["half_pixel", "scaled_only"])
def test_everything_gives_the_reference_numbers(golden, case):
    r = Reference(golden("bifusion.npz"))
    seed = r.meta["cases"][case]["seed"]
    raw, features, target = (
        np.random.default_rng(seed + n).standard_normal(shape, dtype=np.float32)
        for n, shape in enumerate([(POINTS, 96), (256, *MAP), (POINTS, 256)])
    )
    features = np.moveaxis(features, 0, -1)
    shapes = head_shapes()
    assert sum(s.size for s in jax.tree.leaves(shapes)) == 25_344 + 2 * 132_096 + 41_361
    gate = [shapes["params"][name] for name in ("gate", "squeeze")]
    assert sum(s.size for s in jax.tree.leaves(gate)) == 41_361
    table = fusion_table()
    state = {name: r.make(name, shape) for name, shape in r.meta["names"]}
    params = to_flax(state, table, shapes)["params"]
    xyz, k, cam_to_world = (r.arrays[f"{case}/{n}"] for n in ("xyz", "K", "cam_to_world"))
    pose = np.linalg.inv(cam_to_world.astype(np.float64)).astype(np.float32)

    def objective(params, features, raw):
        *rest, loss = run(case, params, features, raw, xyz, k, pose, target)
        return loss, rest

    def agreement(params, features):
        place, _, found, _, _ = run(case, params, features, raw, xyz, k, pose, target)
        angle = consistency(found.fused, found.f2d, 0.05)
        return mean_over(angle, place.valid[None])

    step = jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True))
    (loss, (place, sampled, found, inner)), slopes = step(params, features, raw)
    valid = np.asarray(place.valid)
    gate, squeeze = inner["gate"]["__call__"][0], inner["squeeze"]["__call__"][0]
    # The reference's pixels are whole at their centres, and zero where not valid.
    taps = {
        "uv": np.where(valid[:, None], np.asarray(place.xy) - 0.5, 0),
        "depth": place.depth[:, None],
        "valid": valid[:, None],
        "sampled": sampled[0],
        "f2d": found.f2d[0],
        "f3d": found.f3d[0],
        "proj3": inner["project3d_norm"]["__call__"][0][0],
        "gate_logit": gate.logit[0, :, None],
        "alpha": gate.alpha[0, :, None],
        "mix": gate.mix[0],
        "se_mean": squeeze.squeezed[0],
        "se_weight": squeeze.weight[0],
        "gated": squeeze.features[0],
        "fused": found.fused[0],
        "loss": loss,
        "grad_feat3d": slopes[2],
        "grad_fmap": np.moveaxis(slopes[1], -1, 0),
    }
    for name, value in taps.items():
        r.check(f"{case}/{name}", value)
    for name, value in from_flax({"params": slopes[0]}, table).items():
        r.check(f"{case}/grad_param/{name}", value)
    angle, slopes = jax.jit(jax.value_and_grad(agreement, argnums=(0, 1)))(params, features)
    r.check(f"{case}/monitor/clip_cons", angle)
    r.check(f"{case}/monitor_grad/fmap", np.moveaxis(slopes[1], -1, 0))
    mlp = np.asarray(slopes[0]["gate"]["dense1"]["kernel"]).T
    r.check(f"{case}/monitor_grad/fusion_gate.mlp.0.weight", mlp)
    share = gate.alpha[0, valid].mean()
    r.check(f"{case}/monitor/fusion_2d_ratio", share)
    similar = cosine(found.f2d[0, valid], found.f3d[0, valid]).mean()
    r.check(f"{case}/monitor/feature_similarity", similar)
    r.check(f"{case}/monitor/balance", (share - 0.4) ** 2)


def camera(rng, count=200):
    """Points in front of a tilted camera, on its image."""
    k = np.array([[60.0, 0, 31], [0, 60, 25], [0, 0, 1]], np.float32)
    xy = rng.uniform([0, 0], [64, 48], (count, 2))
    depth = rng.uniform(0.5, 5, count)
    rays = np.concatenate([(xy - k[:2, 2]) / 60, np.ones((count, 1))], 1)
    turn = np.array([[0.96, 0, 0.28], [0, 1, 0], [-0.28, 0, 0.96]])
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3], pose[:3, 3] = turn, [0.1, -0.2, 0.3]
    world = (rays * depth[:, None] - pose[:3, 3]) @ turn
    return world.astype(np.float32), k, pose, xy


def test_points_of_an_image_are_all_on_it_and_find_their_place(rng):
    """A map that holds its own coordinates is read at the coordinates, whatever its size."""
    points, k, pose, xy = camera(rng)
    for size in ((48, 64), (30, 40)):
        place = project_points(points, k, pose, image_size=(48, 64), map_size=size)
        assert np.asarray(place.valid).all()
        scale = np.array([size[1] / 64, size[0] / 48])
        np.testing.assert_allclose(place.xy, xy * scale, atol=1e-4)
        grid = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), -1) + 0.5
        read = sample_features(grid[None].astype(np.float32), place.xy[None], place.valid[None])
        ends = np.clip(xy * scale, 0.5, np.array(size[::-1]) - 0.5)
        np.testing.assert_allclose(read[0], ends, atol=1e-4)
    turned = pose.copy()
    turned[:3, :3] = pose[:3, :3].T
    wrong = project_points(points, k, turned, image_size=(48, 64), map_size=(48, 64))
    assert 0 < np.asarray(wrong.valid).mean() < 0.9
    behind = project_points(points, k, np.diag([-1, 1, -1, 1.0]) @ pose, image_size=(48, 64),
                            map_size=(48, 64))  # fmt: skip
    assert not np.asarray(behind.valid).any()


def test_sampling_and_its_gradients_are_the_plain_ones_without_scatter(rng):
    features = rng.standard_normal((2, 5, 7, 3)).astype(np.float32)
    xy = rng.uniform([-1, -1], [8, 6], (2, 300, 2)).astype(np.float32)
    valid = rng.random((2, 300)) < 0.9
    weight = rng.standard_normal((2, 300, 3)).astype(np.float32)

    def plain(features, xy):
        sample = jax.vmap(lambda f, p: bilinear_sample(f, p, padding="border")[0])
        return jnp.sum(jnp.where(valid[..., None], sample(features, xy), 0) * weight)

    def ours(features, xy):
        return jnp.sum(sample_features(features, xy, valid) * weight)

    step = jax.jit(jax.value_and_grad(ours, argnums=(0, 1)))
    got, want = step(features, xy), jax.value_and_grad(plain, argnums=(0, 1))(features, xy)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    text = step.lower(features, xy).as_text()
    assert "scatter" not in text and "stablehlo.gather" in text
    again = step(features, xy)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pose_and_intrinsics_have_gradients(rng):
    """Central differences of a smooth map's samples."""
    points, k, pose, _ = camera(rng, 40)
    y, x = np.mgrid[:12, :16]
    smooth = np.stack([np.sin(0.4 * x + 0.2 * y)], -1)[None].astype(np.float32)

    def total(k, pose):
        place = project_points(points, k, pose, image_size=(48, 64), map_size=(12, 16))
        return jnp.sum(sample_features(smooth, place.xy[None], place.valid[None]))

    slopes = jax.jit(jax.grad(total, argnums=(0, 1)))(jnp.asarray(k), jnp.asarray(pose))
    value = jax.jit(total)
    for which, index, step in ((0, (0, 2), 2e-2), (0, (1, 1), 2e-2), (1, (0, 3), 1e-3)):
        moved = [np.array([k, pose][which]) for _ in range(2)]
        moved[0][index] += step
        moved[1][index] -= step
        ends = [value(*((m, pose) if which == 0 else (k, m))) for m in moved]
        slope = (float(ends[0]) - float(ends[1])) / (2 * step)
        assert slopes[which][index] == pytest.approx(slope, rel=0.05, abs=0.02)


def test_the_gate_waits_and_what_is_not_seen_has_no_image(rng):
    a, b = (jnp.asarray(rng.standard_normal((1, 6, 8)), jnp.float32) for _ in range(2))
    valid = jnp.arange(6)[None] < 4
    gate = LiteFusionGate(early=0.2)
    variables = gate.init(jax.random.key(0), a, b, valid, jnp.float32(0))
    early, late = (gate.apply(variables, a, b, valid, jnp.float32(p)) for p in (0.1, 0.2))
    np.testing.assert_array_equal(early.alpha, [[0.5] * 4 + [0] * 2])
    np.testing.assert_allclose(late.alpha[0, :4], jax.nn.sigmoid(late.logit[0, :4]))
    np.testing.assert_array_equal(late.mix[0, 4:], b[0, 4:])
    squeeze = MaskedSE(4)
    variables = squeeze.init(jax.random.key(0), a, valid)
    got = squeeze.apply(variables, a, valid)
    np.testing.assert_allclose(got.squeezed, np.asarray(a)[:, :4].mean(1), rtol=1e-5)
    other = squeeze.apply(variables, a.at[:, 4:].set(9), valid)
    np.testing.assert_array_equal(other.weight, got.weight)
    nothing = squeeze.apply(variables, a, jnp.zeros((1, 6), bool))
    assert np.isfinite(nothing.features).all()


@pytest.mark.real
@pytest.mark.parametrize("name", ["sevenscenes_rgbd", "sunrgbd_000017"])
def test_every_point_of_a_real_frame_is_on_its_image(data_dir, name):
    """And hardly one is half a cell off: the map of a shrunken photograph has its colours."""
    root = str(data_dir(name))
    if name.startswith("seven"):
        data = SevenScenes(root=root, points=4000, verify=False)
    else:
        lists = {"train_list": "infos.json", "val_list": "infos.json"}
        data = SunRgbd(root=root, points=4000, verify=False, **lists)
    example = data.transform(data.source("train")[0], np.random.default_rng(0), False)
    image = example["image"].astype(np.float32)
    shrunk = image.reshape(120, 4, 160, 4, 3).mean((1, 3))
    places = {}
    for compat in ("none", "scaled_only"):
        places[compat] = project_points(
            example["points"],
            example["intrinsics"],
            example["camera_from_world"],
            image_size=image.shape[:2],
            map_size=(120, 160),
            compat=compat,
        )
    place, other = places["none"], places["scaled_only"]
    assert np.asarray(place.valid)[example["mask"]].mean() == 1.0
    colors = 255 * example["colors"]

    def off(xy):
        read = sample_features(shrunk[None], xy[None], place.valid[None])[0]
        return np.sqrt(np.mean((np.asarray(read) - colors)[example["mask"]] ** 2))

    assert off(place.xy) < 0.95 * off(other.xy)
