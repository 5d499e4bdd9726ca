"""Recordings become maps: they know more than a frame, cost the same all along, hide nothing."""

import numpy as np
import pytest

from posejax.config import ConfigError
from posejax.systems.bifusion.online import BUCKETS, Mapper, OnlineConfig, relative
from posejax.systems.bifusion.walk import SETTLED, confusion, walk
from tests.systems.bifusion.recordings import FAR, Corner, noisy

SMALL = OnlineConfig(capacity=4096)


def walked(data, config=SMALL, full=-1, noise=2.0):
    mapper = Mapper(noisy(data, noise), {}, np.int32(full), config, 0.1)  # type: ignore[arg-type]
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
    mapper = Mapper(system, {}, np.int32(-1), SMALL, 0.1)  # type: ignore[arg-type]
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
    frame = Corner(zero=FAR).source("test").frame(0)  # type: ignore[attr-defined]
    moved = relative(frame, np.array(FAR))
    assert np.abs(moved.points).max() < 10
    ours = moved.points @ moved.camera_from_world[:3, :3].T + moved.camera_from_world[:3, 3]
    theirs = frame.points @ frame.camera_from_world[:3, :3].T + frame.camera_from_world[:3, 3]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("weight", ["depth", "gate"])
def test_weights_are_of_the_points(weight):
    world = walked(Corner(length=1), OnlineConfig(capacity=4096, weight=weight)).world
    share = {"depth": 1 / 4, "gate": 1 / 2}[weight]
    np.testing.assert_allclose(np.asarray(world.weight).sum(), 400 * share, rtol=1e-5)


def test_what_is_not_said_is_wrong():
    example = {"semantic": np.array([0, 1, -1, 1]), "mask": np.array([True, True, True, False])}
    np.testing.assert_array_equal(
        confusion(example, np.array([-1, 1, 0, 0]), 2), [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    )


def test_settings_out_of_range_are_refused():
    wrong = OnlineConfig(0), OnlineConfig(half_life=0.0), OnlineConfig(most_age=-1.0)
    for config, name in zip(wrong, ("capacity", "half-life", "most-age"), strict=True):
        with pytest.raises(ConfigError, match=name):
            config.check()
    OnlineConfig().check()
