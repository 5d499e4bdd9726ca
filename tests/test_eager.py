"""The check of eager calls sees what it is there for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.eager import check, compiled_programs, example


def test_a_fresh_closure_is_caught():
    def fresh(x):
        return jax.lax.scan(lambda carry, y: (carry + y * len(x), None), 0.0, x)[0]

    with pytest.raises(AssertionError, match=r"compiles jit\(scan\) anew"):
        check(fresh, example(np.arange(3.0)))
    check(jax.jit(fresh), example(np.arange(3.0)))


def test_new_shapes_are_seen_as_compilations():
    with compiled_programs() as programs:
        jax.jit(lambda x: x + 1)(jnp.zeros(7))
    assert len(programs) >= 1


def test_a_request_for_float64_is_caught():
    with pytest.raises(UserWarning, match="float64"):
        check(lambda x: jnp.zeros(2, x.dtype), example(np.ones(2)))
