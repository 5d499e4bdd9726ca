"""Things of frames: perfect offsets give perfect things, and each mistake its own number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.report.statistics import divided
from posejax.systems.bifusion import things
from posejax.systems.bifusion.objective import instance_centers, instance_numbers

CLASSES = ("wall", "chair", "table")
N = 300


@pytest.fixture(scope="module")
def example():
    """Two chairs, a table (things 7, 900, 4) and a wall."""
    rng = np.random.default_rng(0)
    instance = np.repeat([7, 900, 4, -1], [80, 60, 90, 70]).astype(np.int32)
    middle = {7: [0, 0, 0.5], 900: [1.0, 0, 0.5], 4: [0, 1.5, 0.7], -1: [3, 3, 1]}
    points = np.array([middle[i] for i in instance.tolist()]) + rng.uniform(-0.4, 0.4, (N, 3))
    semantic = np.repeat([1, 1, 2, 0], [80, 60, 90, 70]).astype(np.int32)
    found = {"points": points.astype(np.float32), "instance": instance, "semantic": semantic}
    found["mask"] = np.arange(N) < N - 5
    return {k: jnp.asarray(v)[None] for k, v in found.items()}


@jax.jit
def judged(example, offset, label):
    found = things.decode(example["points"], offset, label, example["mask"], CLASSES)
    return found, things.panoptic(found, example, jnp.ones(1, bool), CLASSES)


def offsets(example):
    return jax.vmap(instance_centers)(example["points"], example["instance"]) - example["points"]


def test_perfect_ways_to_the_centres_give_perfect_things(example):
    found, sums = judged(example, offsets(example), example["semantic"])
    np.testing.assert_allclose(sums[0], [3, 3, 0, 0])
    assert not np.asarray(found)[0, 230:].any()
    for number in (7, 900, 4):
        assert len(np.unique(np.asarray(found)[np.asarray(example["instance"]) == number])) == 1


def test_what_is_missed_merged_or_made_up_is_counted(example):
    right, semantic = offsets(example), example["semantic"]
    wall = jnp.where(example["instance"] == 900, 0, semantic)
    np.testing.assert_allclose(judged(example, right, wall)[1][0], [2, 2, 0, 1])
    # All three point to one place: a thing that overlaps none by half, or the largest barely not.
    one = jnp.where(example["instance"][..., None] >= 0, -example["points"], right)
    np.testing.assert_allclose(judged(example, one, semantic)[1][0], [0, 0, 1, 3])
    made_up = jnp.where(semantic == 0, 2, semantic)
    stray = jnp.where(
        (semantic == 0)[..., None], np.array([[[3.0, 3, 1]]]) - example["points"], right
    )
    np.testing.assert_allclose(judged(example, stray, made_up)[1][0], [3, 3, 1, 0])


def test_points_without_label_are_on_neither_side(example):
    blind = {**example, "semantic": jnp.where(example["instance"] == 900, -1, example["semantic"])}
    sums = judged(blind, offsets(example), example["semantic"])[1]
    np.testing.assert_allclose(sums[0], [2, 2, 0, 0])
    none = things.panoptic(jnp.ones((1, N), jnp.int32), example, jnp.zeros(1, bool), CLASSES)
    assert not np.asarray(none).any() and np.isnan(divided(0.0, 0.0))


def test_numbered_walls_are_no_things_that_could_be_missed(example):
    """As ScanNet numbers walls and floors too; in frames and in maps."""
    instance = jnp.where(example["semantic"] == 0, 12, example["instance"])
    numbered = {**example, "instance": instance}
    right, semantic = offsets(example), example["semantic"]
    np.testing.assert_allclose(judged(numbered, right, semantic)[1][0], [3, 3, 0, 0])
    wall = jnp.where(example["instance"] == 900, 0, semantic)
    np.testing.assert_allclose(judged(numbered, right, wall)[1][0], [2, 2, 0, 1])
    votes, truth = np.asarray(example["points"] + right)[0], np.asarray(semantic[0])
    _, sums = things.of_map(votes, truth, np.asarray(instance[0]), truth, CLASSES)
    assert sums == (3, pytest.approx(3), 0, 0)
    unknown = np.where(np.asarray(instance[0]) == 900, -1, truth)
    _, sums = things.of_map(votes, truth, np.asarray(instance[0]), unknown, CLASSES)
    assert sums == (2, pytest.approx(2), 0, 0)


def test_numbers_of_things_are_in_their_order():
    got = instance_numbers(jnp.array([900, -1, 4, 7, 7, -5, 900]))
    np.testing.assert_array_equal(got, [2, -1, 0, 1, 1, -1, 2])


def test_things_of_a_map_are_those_of_its_frames_wherever_it_lies(example):
    """The same votes as voxels of a map: the same things, and their quality."""
    votes = np.asarray(example["points"] + offsets(example))[0]
    label, instance = (np.asarray(example[k])[0] for k in ("semantic", "instance"))
    found, sums = things.of_map(votes + 1000, label, instance, label, CLASSES)
    frame, _ = judged(example, offsets(example), example["semantic"])
    there = np.asarray(example["mask"])[0]
    np.testing.assert_array_equal((found > 0)[there], np.asarray(frame)[0][there] > 0)
    assert sums == (3, pytest.approx(3), 0, 0) and found.shape == (N,)
    none = np.zeros(0, np.int32)
    empty = things.of_map(np.zeros((0, 3)), none, none, none, CLASSES)
    assert empty[0].shape == (0,) and sum(empty[1]) == 0
