"""Functions of arrays take NumPy's numbers as they are and compile once.

The others of the room make modules and tables of names, and touch no device.
"""

import jax
import numpy as np

from posejax.nn import depthwise_conv
from tests.eager import check, example

X, KERNEL = np.ones((1, 6, 6, 2), np.float32), np.ones((3, 3, 1, 2), np.float32)


def test_depthwise_convolution_and_its_gradient_compile_once():
    check(depthwise_conv, example(X, KERNEL, np.int64(1), (np.int64(1), 1)))
    gradient = jax.grad(lambda x: depthwise_conv(x, KERNEL, 2, (1, 1)).sum())
    check(gradient, example(X))
