"""Typed frames: what does not fit is refused while tracing, and costs nothing at run time."""

import jax
import numpy as np
import pytest

from posejax.bev import FrameError, Points, transform
from posejax.data.rigid import se3_exp

A = transform(se3_exp([1, 2, 3, 0.1, -0.2, 0.3]), "camera", "ego")
B = transform(se3_exp([-1, 0.5, 2, 0.4, 0.1, 0.2]), "ego", "lidar")
XYZ = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)


def test_neighbours_match():
    chain = A @ B
    assert (chain.target, chain.source, chain.name) == ("camera", "lidar", "camera_from_lidar")
    np.testing.assert_allclose(chain.matrix, A.matrix @ B.matrix, atol=1e-6)
    seen = chain @ Points(XYZ, "lidar")
    assert seen.frame == "camera"
    np.testing.assert_allclose((chain.inverse @ seen).expect("lidar"), XYZ, atol=1e-5)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda: B @ A, "ego_from_lidar @ camera_from_ego: the inner frames differ"),
        (lambda: A @ B.inverse, "the inverse of lidar_from_ego would fit"),
        (lambda: A @ Points(XYZ, "lidar"), "points in 'lidar' given where 'ego' is needed"),
        (lambda: A.expect("ego", "camera"), "take its inverse"),
        (lambda: A.expect("world", "ego"), "camera_from_ego given where world_from_ego is needed"),
    ],
)
def test_what_does_not_meet_is_named(wrong, words):
    with pytest.raises(FrameError, match=words):
        wrong()


def test_the_check_is_made_while_tracing_and_leaves_nothing():
    @jax.jit
    def run(a, b, xyz):
        return (a @ b @ Points(xyz, "lidar")).xyz

    assert run(A, B, XYZ).shape == (7, 3)
    with pytest.raises(FrameError):
        run.lower(B, A, XYZ)
    text = run.lower(A, B, XYZ).as_text()
    assert "camera" not in text.replace("camera_from", "")
    mapped = jax.vmap(lambda xyz: (A @ Points(xyz, "ego")).xyz)(XYZ)
    np.testing.assert_allclose(mapped, (A @ Points(XYZ, "ego")).xyz, atol=1e-6)
    with pytest.raises(ValueError, match="4, 4"):
        transform(np.eye(3), "a", "b")
