"""The system in the engine: matches, poses, summary, what it refuses, and that it learns."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.cli import load_config
from posejax.config import (
    ConfigError,
    Experiment,
    Log,
    Optimizer,
    RunOptions,
    Schedule,
    TrainConfig,
    replace,
)
from posejax.matching import Band, Full, Rows
from posejax.systems.tinyroma import (
    Augment,
    MatchConfig,
    ModelConfig,
    ObjectiveConfig,
    RgbdFolder,
    SearchConfig,
    Tinyroma,
    poses,
    summary,
)
from posejax.systems.tinyroma.model import make_search
from posejax.train import setup, train
from posejax.train.system import Batch
from tests.systems.tinyroma.pairs import Surfaces, batch_of, centers

SIZE = (64, 96)
SYSTEM = Tinyroma(
    Surfaces(SIZE),
    ModelConfig(zero_out=True, symmetric=True, refine=1),
    MatchConfig(count=64, iterations=64, consistency=4.0),
)


BOTH_WAYS = RgbdFolder(both_ways=True)


@functools.cache
def batch():
    return Batch(batch_of(2, SIZE))


@functools.cache
def started():
    return jax.jit(SYSTEM.init)(jax.random.key(0), batch())


@functools.cache
def program():
    """Without intrinsics, so without the estimate of poses, which takes long to compile."""
    return jax.jit(SYSTEM.predict)


def flat(examples):
    return Batch({k: v for k, v in examples.items() if not k.startswith("K_")})


@functools.cache
def pose_program():
    """The estimate of poses, compiled once for all; only in slow tests."""
    return jax.jit(lambda m, k_a, k_b: poses.relative_poses(m, k_a, k_b, SYSTEM.match))


@functools.cache
def predicted():
    out = program()(*started(), flat(batch().examples))
    assert "b_from_a" not in out
    return out | {
        "b_from_a": jnp.stack([jnp.eye(4).at[0, 3].set(1)] * 2),
        "covariance": jnp.stack([0.01 * jnp.eye(5)] * 2),
        "inliers": out["weights"] > 0,
        "valid": jnp.array([True, False]),
    }


@functools.cache
def scored():
    return jax.jit(SYSTEM.metrics)(predicted(), batch())


# ---- matches and poses, from true warps


def test_matches_are_the_most_certain_of_each_block(rng):
    warp = jnp.float32(rng.normal(size=(7, 10, 2)))
    certainty = np.float32(rng.uniform(size=(7, 10)))
    certainty[0, 0], certainty[3, 3] = np.nan, 0.999
    found = jax.jit(poses.certain_matches, static_argnums=2)(warp, certainty, 20, 0.1)
    weight = np.asarray(found.weights)
    assert found.xy_a.shape == (20, 2) and (np.diff(weight) <= 0).all()
    used = weight > 0
    cell = np.asarray(found.xy_a)[used] - 0.5
    column, row = cell.astype(int).T
    np.testing.assert_array_equal(certainty[row, column], weight[used])
    np.testing.assert_array_equal(np.asarray(warp)[row, column], np.asarray(found.xy_b)[used])
    assert weight[0] == np.float32(0.999) and (weight[used] >= 0.1).all()
    # 70 cells, 20 matches: blocks of one cell; with 12, of two by two.
    few = poses.certain_matches(warp, certainty, 12, 0.1)
    blocks = {(int(y) // 2, int(x) // 2) for x, y in np.asarray(few.xy_a)[few.weights > 0]}
    assert len(blocks) == (few.weights > 0).sum()
    nothing = poses.certain_matches(warp, jnp.zeros((7, 10)), 12, 0.1)
    assert not nothing.weights.any() and np.isfinite(nothing.xy_b).all()


def true_warps():
    examples = batch().examples
    return examples["target_4"], examples["visible_4"]


@functools.cache
def of_true_warps():
    """Estimates from true warps with noise of a fifth of a pixel."""
    rng, (warp, visible) = np.random.default_rng(0), true_warps()
    warp = jnp.float32(warp + 0.2 * rng.normal(size=warp.shape))
    found = jax.vmap(lambda w, c: poses.certain_matches(w, c, 64, 0.5))(warp, visible)
    found = found._replace(xy_a=4 * found.xy_a)
    k_a, k_b = (batch().examples[k] for k in ("K_a", "K_b"))
    return pose_program()(found, k_a, k_b)


@pytest.mark.slow
def test_true_warps_give_the_true_poses():
    pose, examples = of_true_warps(), batch().examples
    has = jnp.ones(2)
    scores = jax.jit(poses.pose_scores)(
        pose.b_from_a, pose.covariance, pose.valid, examples["b_from_a"], has
    )
    assert pose.valid.all() and (scores.error < 3).all()
    assert (scores.chi2 < 20).all()
    missing = jax.jit(poses.pose_scores)(
        pose.b_from_a, pose.covariance, ~pose.valid, examples["b_from_a"], has.at[1].set(0)
    )
    assert missing.error[0] == poses.FAILURE and np.isnan(missing.error[1])
    assert np.isnan(missing.chi2).all()


def test_forward_and_backward_meet_where_both_are_right():
    """A shift and its opposite; one cell sent elsewhere, one sent out of B."""
    own = np.float32(centers(SIZE, 4))
    step = np.float32([5, 3])
    forward, back = own + step, jnp.float32(own - step)
    forward[2, 2] += 9
    forward[3, 3] = -1
    away = np.asarray(poses.forward_backward_distance(jnp.float32(forward), back, 4))
    inner = np.ones(away.shape, bool)
    inner[[0, -1, -2], :] = inner[:, [0, -1, -2, -3]] = inner[2, 2] = inner[3, 3] = False
    np.testing.assert_allclose(away[inner], 0, atol=1e-4)
    np.testing.assert_allclose(away[2, 2], 9 * 2**0.5, rtol=1e-4)
    assert away[3, 3] == np.inf


def test_warp_scores_of_known_errors():
    warp, visible = true_warps()
    certainty = jnp.full(visible.shape, 0.95)
    scores = poses.warp_scores(jnp.float32(warp + np.array([2, 0])), certainty, batch().examples)
    np.testing.assert_allclose(scores["epe"], 2, rtol=1e-4)
    assert (scores["pck1"] == 0).all() and (scores["pck3"] == 1).all()
    records = {k: np.asarray(v) for k, v in scores.items()}
    want = abs(0.95 - visible.mean())  # all visible cells are within three pixels
    np.testing.assert_allclose(summary.certainty_error(records), want, rtol=1e-4)
    blind = {**batch().examples, "visible_4": 0 * visible}
    scores = poses.warp_scores(jnp.float32(warp), certainty, blind)
    assert all(np.isnan(scores[k]).all() for k in ("epe", "pck1", "pck5"))


# ---- the protocol


def test_outputs_have_the_shapes_of_the_pair():
    out, (h, w) = predicted(), (SIZE[0] // 4, SIZE[1] // 4)
    want = {
        "warp": (h, w, 2), "certainty": (h, w), "back_warp": (h, w, 2), "consistency": (h, w),
        "coarse_warp": (h // 2, w // 2, 2), "coarse_certainty": (h // 2, w // 2),
        "matches_a": (64, 2), "weights": (64,),
        "matches_b": (64, 2), "true_b_from_a": (4, 4), "loss": (),
    }  # fmt: skip
    for name, shape in want.items():
        assert out[name].shape == (2, *shape), name
    used = out["weights"] > 0
    assert used.any()
    # Matches are cells of the warp, and return to where they came from.
    for pair in range(2):
        column, row = np.asarray(out["matches_a"][pair][used[pair]]).T
        row, column = ((x / 4).astype(int) for x in (row, column))
        got = np.asarray(out["matches_b"][pair][used[pair]])
        np.testing.assert_array_equal(got, np.asarray(out["warp"][pair])[row, column])
        assert (np.asarray(out["consistency"][pair])[row, column] <= 4).all()


def test_zero_out_starts_at_the_expectation():
    """Nothing is moved, every cell is as certain as not."""
    out = predicted()
    np.testing.assert_array_equal(out["coarse_certainty"], 0.5)
    np.testing.assert_array_equal(out["certainty"], 0.5)
    small, large = (np.asarray(out[k]) for k in ("coarse_warp", "warp"))
    inner = large[:, 1:-1, 1:-1]
    mean = inner.reshape(2, 7, 2, 11, 2, 2).mean((2, 4))
    corners = [small[:, i : i + 7, j : j + 11] for i in (0, 1) for j in (0, 1)]
    np.testing.assert_allclose(mean, np.mean(corners, 0), atol=1e-3)


def test_a_pair_does_not_depend_on_its_batch():
    """The released model is wrong in batches of two."""
    swapped = flat({k: v[::-1].copy() for k, v in batch().examples.items()})
    other = program()(*started(), swapped)
    for name in ("warp", "matches_b", "loss"):
        np.testing.assert_allclose(other[name][::-1], predicted()[name], atol=1e-3)


def test_loss_of_a_batch_and_of_each_pair():
    """`predict` states the loss of each pair; gradients are finite, with nothing seen, too."""
    params, state = started()

    def loss(params, examples):
        return SYSTEM.loss(params, state, Batch(examples), jax.random.key(0), 0.0, False)[0]

    value_and_grad = jax.jit(jax.value_and_grad(loss))
    twice = {k: np.stack([v[1]] * 2) for k, v in batch().examples.items()}
    value, grads = value_and_grad(params, twice)
    np.testing.assert_allclose(value, predicted()["loss"][1], rtol=1e-4)
    unseen = {k: 0 * v if k.startswith("visible") else v for k, v in twice.items()}
    for grad in (grads, value_and_grad(params, unseen)[1]):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(grad))
    assert np.abs(grads["coarse_out"]["kernel"]).max() > 0


def test_summary_of_a_split():
    records = {k: np.asarray(v) for k, v in scored().items()}
    found = SYSTEM.summarize(records)
    assert found["pairs"] == found["poses"] == 2
    assert 0 <= found["auc5"] <= found["auc10"] <= found["auc20"] <= 1
    assert records["error"][1] == poses.FAILURE and np.isnan(records["chi2"][1])
    assert found["auc20_low"] <= found["auc20"] <= found["auc20_high"]
    assert {"pck1", "pck3", "pck5", "epe_median", "coverage", "certainty_ece"} <= set(found)
    # Without a pose the error is that of the warp, in degrees as well: a mixed split has one order.
    unposed = {**batch().examples, "has_pose": np.zeros(2, np.float32)}
    bare = jax.jit(SYSTEM.metrics)(predicted(), Batch(unposed))
    focal = batch().examples["K_b"][:, 0, 0]
    np.testing.assert_allclose(bare["error"], np.rad2deg(np.arctan(bare["epe"] / focal)), rtol=1e-5)
    found = SYSTEM.summarize({k: np.asarray(v) for k, v in bare.items()})
    assert found["poses"] == 0 and np.isnan(found["auc5"]) and np.isnan(found["coverage"])
    assert found["pck5"] >= 0


def test_calibration_gives_the_median_error_its_place():
    _, state = started()
    records = {k: np.asarray(v) for k, v in scored().items()}
    records["chi2"] = np.array([8.0, 8.0, np.nan]) * summary.MEDIAN
    fitted = SYSTEM.calibrate(state, records)
    np.testing.assert_allclose(fitted["covariance"]["scale"], 8, rtol=1e-6)
    none = {**records, "chi2": np.array([np.nan])}
    np.testing.assert_allclose(SYSTEM.calibrate(fitted, none)["covariance"]["scale"], 8, rtol=1e-6)


def test_searches_of_the_config():
    assert make_search(SearchConfig()) == Full()
    assert make_search(SearchConfig("rows")) == Rows()
    assert make_search(SearchConfig("rows", columns=(-12, 0))) == Rows((0, 12))
    assert make_search(SearchConfig("band", 2, (-12, 1))) == Band(2, (-12, 1))


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"model.symmetric": False}, "match.consistency"),
        (
            {"model.symmetric": False, "match.consistency": None, "data": BOTH_WAYS},
            "data.both_ways: True; needs --system.model.symmetric",
        ),
        ({"model.matcher": 0}, "model.matcher: 0; expected"),
        (
            {"model": ModelConfig(weights="x", matcher=128), "match.consistency": None},
            "model.weights: published weights fit matcher 256",
        ),
        ({"model.backbone": "x", "model.weights": "y"}, "model.backbone"),
        ({"model.backbone": "x", "model.width": 2.0}, "model.backbone"),
        ({"baseline": "xfeat"}, "baseline"),
        ({"model.coarse_passes": 0}, "model.coarse_passes"),
        ({"model.mode": "official_fast"}, "model.mode"),
        ({"model.width": 0.0}, "model.width: 0.0; expected"),
        ({"model.temperature": 0.0}, "model.temperature: 0.0; expected"),
        ({"model.refine": -1}, "model.refine: -1; expected"),
        ({"model.search.rows": 3}, "model.search.rows: 3; expected .*kind band"),
        (
            {"model.search": SearchConfig("rows", rows=3)},
            "model.search.rows: 3; expected .*kind band",
        ),
        ({"model.search": SearchConfig("band", rows=-1)}, "model.search.rows: -1; expected"),
        ({"model.search.columns": (-4, 0)}, "model.search.columns: .-4, 0.; expected .*kind rows"),
        (
            {"model.search": SearchConfig("rows", columns=(0, -4))},
            "model.search.columns: .0, -4.; ",
        ),
        ({"match.threshold": 0.0}, "match.threshold: 0.0; expected"),
        ({"match.threshold": np.inf}, "match.threshold: inf; expected"),
        ({"match.count": 0}, "match.count: 0; expected"),
        ({"match.iterations": 0}, "match.iterations: 0; expected"),
        ({"match.confidence": 1.0}, "match.confidence: 1.0; expected"),
        ({"match.min_certainty": 1.5}, "match.min_certainty: 1.5; expected .* at most 1"),
        ({"match.consistency": -1.0}, "match.consistency: -1.0; expected"),
        ({"objective.alpha": 0.0}, "objective.alpha: 0.0; expected"),
        ({"objective.c": 0.0}, "objective.c: 0.0; expected"),
        ({"objective.certain": np.nan}, "objective.certain: nan; expected"),
        ({"objective.contrast": -1.0}, "objective.contrast: -1.0; expected"),
        ({"data": RgbdFolder(augment=Augment(flip=2))}, "data.augment.flip: 2; expected"),
        ({"data": RgbdFolder(augment=Augment(roll_deg=-5))}, "data.augment.roll_deg: -5; expected"),
        (
            {"data": RgbdFolder(augment=Augment(quarter_turns=2))},
            "data.augment.quarter_turns: 2; expected",
        ),
        ({"data": RgbdFolder(size=(64, 100))}, "data.size: .64, 100.; expected"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes, option):
    with pytest.raises(ConfigError, match=rf"system\.{option}"):
        replace(SYSTEM, **changes).check()
    SYSTEM.check()


def test_training_keeps_partners_where_they_are_looked_for():
    """An evaluation changes no pair: a network trained on the full image may search rows there."""
    experiment: Any = load_config("tinyroma_stereo")
    system = experiment.system
    system.check_start()
    moving = {"crop": 0.1, "roll_deg": 5.0, "quarter_turns": 0.5, "swap": 0.5, "flip": 0.5}
    for name, value in moving.items():
        wrong = replace(system, **{f"data.augment.{name}": value})
        wrong.check()
        with pytest.raises(ConfigError, match=rf"system\.data\.augment\.{name}: {value}; exp"):
            wrong.check_start()
        # Bounds that are the same from right to left know no difference.
        same = replace(wrong, **{"model.search.columns": (-16, 16)})
        if name in ("swap", "flip"):
            same.check_start()
        else:
            with pytest.raises(ConfigError, match=name):
                same.check_start()


def test_weights_are_looked_at_before_the_data_are_opened(tmp_path, monkeypatch):
    """Simulating takes minutes: a name that is mistyped is told before."""
    monkeypatch.setattr(setup, "make_examples", lambda *a, **k: pytest.fail("data were opened"))
    np.savez(tmp_path / "parity.npz", stem=np.ones(3))
    plain = Tinyroma(Surfaces(SIZE), ModelConfig())
    wrong = {
        "model.backbone": (tmp_path / "nowhere", "no such file"),
        "model.weights": (tmp_path / "parity.npz", "tensors: stem"),
    }
    for option, (path, words) in wrong.items():
        system = replace(plain, **{option: str(path)})
        options = RunOptions(tmp_path / "run", cache="off", log=Log(view="quiet"))
        with pytest.raises(ConfigError, match=rf"system\.{option}: {path}.*{words}"):
            train(Experiment("pair", system, TrainConfig(steps=1, batch_size=2)), options)
    assert not (tmp_path / "run").exists()
    system = replace(plain, **{"model.backbone": str(tmp_path / "nowhere"), "baseline": "xfeat"})
    with pytest.raises(ConfigError, match=r"system\.model\.backbone: .*nowhere: no such file"):
        setup.open_split(Experiment("pair", system), "val")


def test_baseline_matches_what_looks_alike(data_dir):
    """Training-free XFeat: no parameters, sane matches."""
    folder = str(data_dir("xfeat_weights"))
    system = Tinyroma(
        Surfaces((128, 192)), ModelConfig(backbone=folder), SYSTEM.match, baseline="xfeat"
    )
    system = replace(system, **{"match.consistency": None})
    examples = flat(batch_of(2, (128, 192)))
    params, state = system.init(jax.random.key(0), examples)
    assert params == {}
    out = jax.jit(system.predict)(params, state, examples)
    scores = poses.warp_scores(out["warp"], out["certainty"], examples.examples)
    assert (np.asarray(scores["pck5"]) > 0.4).all()
    assert (out["weights"] > 0).sum(1).min() > 32 and (out["matches_a"] % 8 == 4).any()


# ---- learning


@pytest.mark.slow
def test_two_pairs_are_learned_to_a_pixel():
    """From scratch, with the loss as it is: the warp of two pairs to under a pixel."""
    import optax

    system = Tinyroma(Surfaces(SIZE), ModelConfig(zero_out=True))
    params, state = jax.jit(system.init)(jax.random.key(1), batch())
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(2e-3))

    @jax.jit
    def step(params, state, memory):
        def loss(params):
            return system.loss(params, state, batch(), jax.random.key(0), 0.0, True)

        (_, out), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, memory = optimizer.update(grads, memory)
        return optax.apply_updates(params, updates), out.state, memory

    @jax.jit
    def error(params, state):
        variables = {"params": params, "batch_stats": state["batch_stats"]}
        pair = (jnp.float32(batch().examples[f"image_{s}"]) / 255 for s in "ab")
        out, _ = system.net.apply(variables, *pair, True, mutable=["batch_stats"])
        warp = (out.fine.flow + 1) / 2 * jnp.float32([SIZE[1], SIZE[0]]).reshape(1, 1, 1, 2)
        return poses.warp_scores(warp, out.fine.logit, batch().examples)["epe"]

    before, memory = error(params, state), optimizer.init(params)
    for _ in range(400):
        params, state, memory = step(params, state, memory)
    assert (before > 5).all()
    assert (error(params, state) < 1).all()


@pytest.mark.slow
def test_it_trains_in_the_engine(tmp_path):
    system = replace(SYSTEM, **{"match.count": 32, "objective": ObjectiveConfig()})
    experiment = Experiment(
        "surfaces",
        system,
        TrainConfig(
            steps=3,
            batch_size=2,
            optimizer=Optimizer(schedule=Schedule(peak=1e-3), clip_norm=0.01),
        ),
    )
    options = RunOptions(tmp_path / "run", cache="off", log=Log(view="quiet"))
    result = train(experiment, options)
    assert result.step == 3
    assert {"auc5", "pck3", "loss"} <= set(result.lines("eval")[-1])
