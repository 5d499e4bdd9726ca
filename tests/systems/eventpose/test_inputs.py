"""What the network sees of windows and frames that the border of the picture cuts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.events import AugmentRule, events_from_arrays
from posejax.systems.eventpose import InputConfig
from posejax.systems.eventpose.inputs import prepare_events, prepare_frame
from posejax.systems.eventpose.view import outside

K = jnp.array([[90.0, 0, 24.0], [0, 90.0, 24.0], [0, 0, 1]])
LABEL = {
    "poses": np.array([[0.1, -0.2, 5.0, 0, 0, 0, 1]] * 2, np.float32),
    "fraction": np.float32(0),
    "duration_us": np.int32(100_000),
}
SIDE = 48


@partial(jax.jit, static_argnums=2)
def of_frame(x, y, config):
    image = jnp.zeros((SIDE, SIDE, 3), jnp.uint8).at[y, x].set(200)
    return with_outside(prepare_frame({**LABEL, "image": image}, config, K, None))


@partial(jax.jit, static_argnums=2)
def of_events(x, y, config):
    events = events_from_arrays(x, y, jnp.full(len(x), 0.05), x % 2)
    return with_outside(prepare_events(LABEL, events, config, K, (SIDE, SIDE), None))


def with_outside(prepared):
    return prepared, outside(prepared.view, K, (SIDE, SIDE), (32, 32))


@pytest.mark.parametrize("prepare", [of_frame, of_events])
def test_only_where_the_border_cuts_it_is_marked(rng, prepare):
    x, y = rng.integers(18, 32, 400), rng.integers(0, 10, 400)
    plain, marked = (InputConfig((32, 32), border=border) for border in (False, True))
    cut, beyond = jax.device_get(prepare(x, y, marked))
    assert cut.view.cut == 1 and 50 < beyond.sum() < 1000
    grid = cut.grid
    assert (grid[beyond] <= -0.5).all() and (grid[~beyond] >= 0).all() and grid.max() > 0
    # Away from the border nothing changes, though the view reaches beyond it.
    (a, _), (b, beyond) = prepare(x, y + 6, plain), prepare(x, y + 6, marked)
    assert beyond.any()
    for ours, theirs in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("other", [{"view": "full"}, {"augment": AugmentRule(roll=1.0)}])
def test_a_border_that_turns_with_the_events_is_refused(other):
    with pytest.raises(ValueError, match="border"):
        InputConfig(border=True, **other)
