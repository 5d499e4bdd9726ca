"""Examples of pairs: cut, resized and mirrored exactly, changed in their light, mixed by index."""

import dataclasses

import numpy as np
import pytest

from posejax.config import ConfigError
from posejax.data.dataset import Source
from posejax.data.rigid import se3_inverse
from posejax.systems.tinyroma.augment import Augment, View, photometric
from posejax.systems.tinyroma.data import HomographyPairs, MixedPairs, Pairs, RgbdFolder
from posejax.systems.tinyroma.pairs import MixedSource
from posejax.systems.tinyroma.sources.homographies import homography_of, warped
from posejax.systems.tinyroma.warp_targets import apply_map, cell_centers
from tests.systems.tinyroma.pair_data import (
    NORMAL,
    POSES,
    SIZE,
    K,
    plane_depth,
    telling,
    told,
    write_seven_scenes,
)

STILL = Augment(gain=0, contrast=0, gamma=0, grey=0, noise=0, blur=0, shift=6, crop=0.4)
DATA = RgbdFolder(size=(64, 96), augment=STILL)
SPEC = {
    "image_a": (64, 96, 3), "image_b": (64, 96, 3), "target_8": (8, 12, 2), "target_4": (16, 24, 2),
    "visible_8": (8, 12), "visible_4": (16, 24), "known_8": (8, 12), "known_4": (16, 24),
    "K_a": (3, 3), "K_b": (3, 3), "b_from_a": (4, 4), "has_pose": (), "overlap": (),
    "rotation_deg": (), "index": (),
}  # fmt: skip


def record(**changes):
    b_from_a = se3_inverse(POSES[1])
    images = {f"image_{c}": telling() for c in "ab"}
    depths = {"depth_a": plane_depth(POSES[0]), "depth_b": plane_depth(POSES[1])}
    same = {"index": 3, "K_a": K, "K_b": K, "b_from_a": b_from_a, "overlap": np.nan}
    return {**same, **images, **depths, **changes}


def planar_homography():
    """b_from_a of the plane n.x = 2, in pixels of the pictures as they were read."""
    b_from_a = se3_inverse(POSES[1])
    return K @ (b_from_a[:3, :3] + np.outer(b_from_a[:3, 3], NORMAL) / 2) @ np.linalg.inv(K)


def homography_record():
    blank = record(homography=planar_homography(), b_from_a=np.full((4, 4), np.nan))
    return {k: v for k, v in blank.items() if not k.startswith("depth")}


def test_examples_have_the_stated_form_whatever_they_are_made_of():
    plain = {k: v for k, v in record(overlap=0.4).items() if not k.startswith("depth")}
    for made in (record(), plain, homography_record()):
        for train in (False, True):
            found = DATA.transform(made, np.random.default_rng(0), train)
            assert {k: v.shape for k, v in found.items()} == SPEC
            floats = [v for k, v in found.items() if k not in ("image_a", "image_b", "index")]
            assert {v.dtype for v in floats} == {np.dtype(np.float32)}
            assert found["image_a"].dtype == np.uint8 and found["index"].dtype == np.int32
            for name in ("target_8", "target_4", "b_from_a", "K_a", "K_b"):
                assert np.isfinite(found[name]).all()
    posed = DATA.transform(plain, np.random.default_rng(0), False)
    assert posed["has_pose"] == 1 and posed["overlap"] == np.float32(0.4)
    assert not posed["known_4"].any() and not posed["visible_8"].any()
    flat = DATA.transform(homography_record(), np.random.default_rng(0), False)
    assert flat["has_pose"] == 0 and np.isnan(flat["rotation_deg"])
    np.testing.assert_array_equal(flat["b_from_a"], np.eye(4))
    again = DATA.transform(record(), np.random.default_rng(7), True)
    for key, value in DATA.transform(record(), np.random.default_rng(7), True).items():
        np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize(
    "seed, roll_deg, quarter_turns",
    [
        *((seed, 0, 0) for seed in range(8)),
        *((seed, 50, 0) for seed in range(6)),
        *((seed, 0, 1) for seed in range(6)),
    ],
)
def test_targets_lead_to_the_same_point_of_the_pictures(seed, roll_deg, quarter_turns):
    """Colours tell which pixel of the original each pixel is; the plane's homography does the rest.

    Seeds 0 to 7 hold swapped and mirrored pairs.
    """
    rng = np.random.default_rng(seed)
    augment = dataclasses.replace(STILL, roll_deg=roll_deg, quarter_turns=quarter_turns)
    example = dataclasses.replace(DATA, augment=augment).transform(record(), rng, True)
    if quarter_turns:
        assert abs(example["rotation_deg"] % 90 - 90 * (example["rotation_deg"] % 90 > 45)) < 10
        assert example["rotation_deg"] > 80
    if roll_deg:  # the pose turned, too
        still = DATA.transform(record(), np.random.default_rng(seed), True)
        assert abs(example["rotation_deg"] - still["rotation_deg"]) > 1
    seen = example["visible_4"] > 0
    assert seen.mean() > 0.15
    centers = cell_centers((64, 96), 4)[seen]
    colours = [
        _sampled(example["image_a"], centers),
        _sampled(example["image_b"], example["target_4"][seen]),
    ]
    # Blue tells what is mixed with black, beyond a moved or rolled image's border.
    whole = (np.abs(np.stack(colours)[..., 2] - 128) < 0.5).all(0)
    assert whole.mean() > 0.85
    at_a, at_b = (told(c[whole]) for c in colours)
    error = min(
        (np.abs(_moved(h, at_a) - at_b) for h in (planar_homography(), _inverse())),
        key=np.mean,
    )
    assert error.mean() < (0.22 if roll_deg or quarter_turns else 0.12), (
        "half a pixel beside would be 0.3 and more"
    )


def _inverse():
    return np.linalg.inv(planar_homography())


def _moved(homography, xy):
    xyw = np.concatenate([xy, np.ones((len(xy), 1))], 1) @ homography.T
    return xyw[:, :2] / xyw[:, 2:]


def _sampled(image, xy):
    """Bilinear, written out."""
    x, y = np.clip(xy - 0.5, 0, [image.shape[1] - 1.001, image.shape[0] - 1.001]).T
    j, i = x.astype(int), y.astype(int)
    fx, fy = (x - j)[:, None], (y - i)[:, None]
    image = image.astype(float)
    top = image[i, j] * (1 - fx) + image[i, j + 1] * fx
    low = image[i + 1, j] * (1 - fx) + image[i + 1, j + 1] * fx
    return top * (1 - fy) + low * fy


def test_the_way_back_is_that_of_the_swapped_pair():
    """Of a pair as it is read, so that nothing is drawn: B to A is what its swapped record has."""
    both = dataclasses.replace(DATA, both_ways=True)
    made = record(K_b=K * [[1.2], [1.1], [1]])
    other = {"a": "b", "b": "a"}
    swapped = {k[:-1] + other[k[-1]]: v for k, v in made.items() if k[:-1] in _SIDES}
    swapped = made | swapped | {"b_from_a": se3_inverse(made["b_from_a"])}
    found = both.transform(made, np.random.default_rng(0), False)
    there = DATA.transform(swapped, np.random.default_rng(0), False)
    for stride in (8, 4):
        assert found[f"back_visible_{stride}"].mean() > 0.3
        for name in ("target", "visible", "known"):
            back = found.pop(f"back_{name}_{stride}")
            np.testing.assert_allclose(back, there[f"{name}_{stride}"], atol=1e-4)
    assert set(found) == set(SPEC)


_SIDES = ("image_", "depth_", "K_")


def test_quarter_turns_are_as_frequent_as_asked():
    turned = dataclasses.replace(DATA, augment=dataclasses.replace(STILL, quarter_turns=0.5))
    angles = [
        turned.transform(record(), np.random.default_rng(seed), True)["rotation_deg"]
        for seed in range(40)
    ]
    assert 10 < (np.array(angles) > 45).sum() < 30
    assert {round(float(angle) / 90) for angle in angles} == {0, 1, 2}


@pytest.mark.parametrize("seed", range(4))
def test_depth_and_homography_agree_under_every_change(seed):
    one = DATA.transform(record(), np.random.default_rng(seed), True)
    two = DATA.transform(homography_record(), np.random.default_rng(seed), True)
    both = (one["visible_4"] > 0) & (two["visible_4"] > 0)
    assert both.sum() > 0.9 * two["visible_4"].sum() > 20
    np.testing.assert_allclose(one["target_4"][both], two["target_4"][both], atol=2e-2)
    np.testing.assert_array_equal(one["image_a"], two["image_a"])


def test_a_mirrored_view_keeps_a_right_handed_camera():
    view = View.of(telling(), K + np.array([[0, 2.0, 3], [0, 0, 1], [0, 0, 0]])).mirrored()
    assert view.intrinsics[0, 0] == 50 and view.intrinsics[0, 1] == -2
    assert view.intrinsics[0, 2] == 64 - 35
    np.testing.assert_allclose(
        told(view.image[5, 7]), apply_map(view.source_from_image, [7.5, 5.5])
    )


def test_light_changes_each_image_on_its_own_and_stays_in_range():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    one, two = (photometric(image, rng, Augment()) for _ in range(2))
    assert one.dtype == np.uint8 and np.abs(one.astype(int) - two).mean() > 2
    off = Augment(gain=0, contrast=0, gamma=0, grey=0, noise=0, blur=0)
    np.testing.assert_array_equal(photometric(image, rng, off), image)
    grey = photometric(image, rng, dataclasses.replace(off, grey=1.0))
    assert (grey == grey[..., :1]).all()


def test_settings_out_of_range_are_refused():
    RgbdFolder(size=(64, 96)).check()
    for wrong in ({"size": (64, 100)}, {"size": (0, 96)}, {"augment": Augment(crop=1.0)}):
        with pytest.raises(ConfigError):
            RgbdFolder(**wrong).check()


class Numbers(Source):
    def __init__(self, name, count):
        self.name, self.count = name, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"name": self.name, "inner": index, "index": index}


def test_a_mixture_has_its_shares_and_uses_every_part_evenly():
    mixed = MixedSource([Numbers("a", 7), Numbers("b", 50)], (3.0, 1.0), 400)
    drawn = [mixed[k] for k in range(400)]
    assert [d["index"] for d in drawn] == list(range(400))
    assert abs(sum(d["name"] == "a" for d in drawn[:100]) - 75) <= 2
    counts = np.bincount([d["inner"] for d in drawn if d["name"] == "a"])
    assert len(counts) == 7 and np.ptp(counts) <= 1
    assert mixed[17] == MixedSource([Numbers("a", 7), Numbers("b", 50)], (3.0, 1.0), 400)[17]
    one_by_one = MixedSource([Numbers("a", 2), Numbers("b", 1)], (), 0)
    assert [one_by_one[k]["name"] for k in range(3)] == ["a", "a", "b"]


def test_a_mixture_of_data_sets_reads_and_transforms_as_one(tmp_path):
    folder = RgbdFolder(root=str(write_seven_scenes(tmp_path)), split=(1, 0, 0))
    drawn = HomographyPairs(cache=str(tmp_path / "cache"), pictures=(2, 1, 1), length=(5, 2, 2))
    data = MixedPairs(parts=(folder, drawn), weights=(1, 2), size=(64, 96), length=12)
    assert isinstance(data, Pairs) and not data.simulated and "homographies" in data.title
    source = data.source("train")
    assert len(source) == 12
    poses = [
        float(data.transform(source[k], np.random.default_rng(k), True)["has_pose"])
        for k in range(12)
    ]
    assert 3 <= sum(poses) <= 5, "every third"
    for wrong in ({"parts": ()}, {"parts": (folder,), "weights": (1, 2)}):
        with pytest.raises(ValueError, match=r"data set|weights"):
            MixedPairs(**wrong)


def test_homography_pairs_are_warped_exactly(tmp_path):
    data = HomographyPairs(
        cache=str(tmp_path), pictures=(1, 1, 1), length=(12, 1, 1), size=(64, 96)
    )
    source = data.source("train")
    example = data.transform(source[0], np.random.default_rng(0), False)
    assert str(tmp_path) not in source.describe(3) and "homography 3" in source.describe(3)
    assert example["known_4"].all() and example["has_pose"] == 0
    for key in ("image_a", "image_b"):
        np.testing.assert_array_equal(source[5][key], data.source("train")[5][key])
    shares = [
        data.transform(source[k], np.random.default_rng(0), False)["overlap"] for k in range(12)
    ]
    assert min(shares) > 0.15 and max(shares) > 0.6 and np.ptp(shares) > 0.2
    quad = np.array([[10, 8], [50, 5], [58, 40], [6, 44.0]])
    corners = np.array([[0, 0], [40, 0], [40, 32], [0, 32.0]])
    back = homography_of(corners, quad)
    np.testing.assert_allclose(_moved(back, corners), quad)
    image = warped(telling(SIZE), back, (32, 40))
    centers = cell_centers((32, 40), 1)
    error = told(image) - _moved(back, centers.reshape(-1, 2)).reshape(32, 40, 2)
    # Pillow cuts fractions of a grey level off: 0.5 levels are 0.17 pixels.
    assert np.abs(error.mean((0, 1)) + 0.13).max() < 0.05 and np.abs(error).max() < 0.5
