"""The examples of docs/conventions.md do what the page says."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conventions.md"

# Every line of the page that states a result, and that result.
STATED = {
    "se3_apply(map_from_lidar": [10, 6, 0],
    "quat_xyzw_to_matrix(jnp": [0, 1, 0],
    "yaw_to_matrix2(np": [0, 1],
    "rotation_angle(jnp.eye(3), yaw": np.pi,
    "resize_intrinsics(K, 0.25)": [80, 60],
    "crop_intrinsics(K": [300, 240],
    "bilinear_sample(image, jnp": [1.0],
    "grid.cell_centers()[0, :, 0]": [-0.75, -0.25, 0.25, 0.75],
    "grid.pixel_from_xy(jnp": [2.5, 0.5],
    "jnp.argwhere(moved": [[26, 20]],
    "jax.grad(lambda R": np.zeros((3, 3)),
    "jax.grad(safe_norm)": np.zeros(3),
}


def test_every_example_runs_and_gives_what_it_says():
    lines = "\n".join(
        re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    ).splitlines()
    namespace, seen = {}, set()
    for line in lines:
        key = next((k for k in STATED if line.startswith(k)), None)
        if key is None:
            exec(line, namespace)
        else:
            np.testing.assert_allclose(eval(line, namespace), STATED[key], atol=2e-6, err_msg=line)
            seen.add(key)
    assert seen == set(STATED)
