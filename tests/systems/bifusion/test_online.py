"""Recordings become maps: they know more than a frame, cost the same all along, hide nothing."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from posejax.config import ConfigError
from posejax.data.rigid import se3_apply, se3_inverse
from posejax.systems.bifusion.frames import moved, upright_from_world
from posejax.systems.bifusion.map_report import map_points
from posejax.systems.bifusion.online import BUCKETS, Mapper, OnlineConfig
from posejax.systems.bifusion.walk import SETTLED, confusion, walk
from tests.systems.bifusion.recordings import FAR, Corner, noisy

SMALL = OnlineConfig(capacity=4096)


def walked(data, config=SMALL, full=-1, noise=2.0):
    mapper = Mapper(noisy(data, noise), {}, np.int32(full), config, 0.1)
    source = data.source("test")
    return walk(mapper, source, range(len(source)), "corner", len(data.classes))


@pytest.fixture(scope="module")
def found():
    return walked(Corner(length=SETTLED + 4))


def test_a_map_knows_more_than_a_frame(found):
    """The same guesses, averaged where they meet: better at once, and best at the end."""
    f = found.figures
    assert f["miou/alone"] < 0.6 and f["miou/online"] > f["miou/alone"] + 0.1
    assert f["miou/map"] > f["miou/online"] and f["accuracy/map"] > 0.9
    assert f["frames"] == SETTLED + 4 and f["read_back"] == 1 and f["lost"] == 0
    for table in found.confusion.values():
        assert table.sum() == f["points"] == 400 * f["frames"]


def test_a_stream_compiles_one_program_and_one_to_read(found):
    f = found.figures
    assert f["compilations"] == 2 <= 4 and f["ms_per_frame"] > 0
    assert abs(f["rss_growth_mb"]) < 64 and f["map_mb"] == found.world.nbytes / 2**20


def test_every_row_has_the_votes_of_its_points(found):
    mask = np.asarray(found.world.mask)
    assert found.votes[mask].any(1).all() and not found.votes[~mask].any()
    assert found.votes.sum() == found.figures["points"]
    # Without noise, the map says what most points of a voxel are.
    clean = walked(Corner(length=2), noise=0.0)
    said = np.asarray(clean.world.values["log_probability"]).argmax(1)
    voted = clean.votes.max(1) > 0.5 * clean.votes.sum(1)
    np.testing.assert_array_equal(said[voted], clean.votes.argmax(1)[voted])


def test_frames_of_few_points_run_smaller_programs_and_fall_back():
    """Where a blind frame's voxels do not fit into its own program, they do into the next ones."""
    f = walked(Corner(length=3, blind=1), full=1).figures
    assert f["compilations"] == len(BUCKETS) + 1 <= 4 and f["lost"] == 0
    assert f["dropped"] == 0 and f["points"] == 812 and f["read_back"] == 1


def test_a_frame_that_does_not_fit_is_counted_and_changes_nothing():
    data = Corner(length=2)
    system = noisy(data)
    predict = system.predict

    def never(params, state, batch):
        return {k: v * np.float32(np.nan) if v.dtype == np.float32 else v
                for k, v in predict(params, state, batch).items()}  # fmt: skip

    system.predict = never
    mapper = Mapper(system, {}, np.int32(-1), SMALL, 0.1)
    f = walk(mapper, data.source("test"), range(2), "corner", 3).figures
    assert f["lost"] == 2 and f["voxels"] == 0 and f["dropped"] == 0
    assert f["accuracy/alone"] == 0 and f["accuracy/map"] == 0 and f["read_back"] == 0


def test_a_small_map_says_that_it_forgot(found):
    f = walked(Corner(length=3), OnlineConfig(capacity=64)).figures
    assert f["evicted"] > 0 and f["voxels"] == 64 and f["read_back"] < 1
    assert found.figures["evicted"] == 0 < found.figures["voxels"] < 4096


def test_far_worlds_give_the_same_map():
    near, far = (walked(Corner(length=2, zero=zero)) for zero in ((0, 0, 0), FAR))
    for key in ("voxels", "miou/alone", "miou/map"):
        assert near.figures[key] == far.figures[key]
    frame = Corner(zero=FAR).source("test").frame(0)
    close = moved(frame, far.map_from_world)
    assert np.abs(close.points).max() < 10
    ours, theirs = (se3_apply(f.camera_from_world, f.points) for f in (close, frame))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def by_height(data) -> Any:
    """A system that says "floor" of what is low in the axes that it is given, "wall" of the rest:
    a network that knows which way is up, as trained ones do."""
    system = noisy(data)
    predict = system.predict

    def told_by_height(params, state, batch):
        z = batch.examples["points"][..., 2]
        low = z < z.min(1, keepdims=True) + 0.08
        logits = np.float32(5) * jnp.stack([low, ~low, jnp.zeros_like(low)], -1)
        said = jnp.where(low, 0, 1).astype(jnp.int32)
        return predict(params, state, batch) | {"logits": logits, "class": said}

    return SimpleNamespace(data=data, predict=told_by_height)


def test_a_lying_recording_gives_the_labels_of_the_standing_one():
    """And its map lies in the recording's own world, however far that is."""
    zero, turn = (0.03, 0.02, 0.045), (1.7, 0.9, -0.4)
    level = Corner(length=2, zero=zero)
    standing, lying, far = (
        walk(
            Mapper(by_height(data), {}, np.int32(-1), SMALL, 0.1),
            data.source("test"), range(2), "corner", 3,
        )
        for data in (level, replace(level, turn=turn), replace(level, zero=FAR, turn=turn))
    )  # fmt: skip
    assert standing.figures["accuracy/alone"] > 0.7
    for done, place in ((lying, zero), (far, FAR)):
        np.testing.assert_array_equal(done.confusion["alone"], standing.confusion["alone"])
        source = Corner(length=2, zero=place, turn=turn).source("test")
        found, _ = map_points(done, ("floor", "wall", "picture"))
        points = np.concatenate([source.frame(k).points for k in range(2)])
        away = np.linalg.norm(found.points[:, None] - points[None], axis=-1).min(1)
        assert len(found.points) > 100 and away.max() < 0.1 * np.sqrt(3) / 2 + 1e-6
        floor = found.label == 0
        assert np.ptp(found.level[floor, 2]) < 0.25 < 0.5 < np.ptp(found.points[floor, 2])


def test_upright_is_the_shortest_turn():
    for up in ([0, 0, 1.0], [0, 0, -1.0], [0.6, 0, 0.8], [0, -1.0, 0]):
        turn = upright_from_world(np.array(up))
        np.testing.assert_allclose(turn[:3, :3] @ up, [0, 0, 1], atol=1e-12)
        np.testing.assert_allclose(turn @ se3_inverse(turn), np.eye(4), atol=1e-12)
        assert np.trace(turn[:3, :3]) == pytest.approx(1 + 2 * up[2])  # 1 + 2 cos


@pytest.mark.parametrize("weight", ["depth", "gate"])
def test_weights_are_of_the_points(weight):
    world = walked(Corner(length=1), OnlineConfig(capacity=4096, weight=weight)).world
    share = {"depth": 1 / 4, "gate": 1 / 2}[weight]
    np.testing.assert_allclose(np.asarray(world.weight).sum(), 400 * share, rtol=1e-5)


def test_points_that_are_not_on_the_image_have_no_weight_by_the_gate():
    """They are left out of the map, and of nothing else."""
    data = Corner(length=1)
    system = noisy(data)
    predict = system.predict

    def half_seen(params, state, batch):
        found = predict(params, state, batch)
        return found | {"gate": jnp.where(batch.examples["points"][..., 0] > 0, found["gate"], 0)}

    system.predict = half_seen
    config = OnlineConfig(capacity=4096, weight="gate")
    mapper = Mapper(system, {}, np.int32(-1), config, 0.1)
    done = walk(mapper, data.source("test"), range(1), "corner", 3)
    frame = data.source("test").frame(0)
    seen = np.mean(moved(frame, done.map_from_world).points[:, 0] > 0)
    assert 0.2 < seen < 0.8 and done.figures["dropped"] == 0
    assert done.figures["read_back"] == pytest.approx(seen, abs=0.05)
    assert done.figures["accuracy/online"] < done.figures["read_back"]
    weight = np.asarray(done.world.weight)
    assert weight.sum() == pytest.approx(400 * seen / 2, rel=0.1)


def test_what_is_not_said_is_wrong():
    example = {"semantic": np.array([0, 1, -1, 1]), "mask": np.array([True, True, True, False])}
    np.testing.assert_array_equal(
        confusion(example, np.array([-1, 1, 0, 0]), 2), [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    )


def test_settings_out_of_range_are_refused():
    wrong = (
        (OnlineConfig(0), "capacity"),
        (OnlineConfig(2**31), "capacity"),
        (OnlineConfig(half_life=0.0), "half-life"),
        (OnlineConfig(most_age=-1.0), "most-age"),
    )
    for config, name in wrong:
        with pytest.raises(ConfigError, match=name):
            config.check()
    OnlineConfig().check()
