"""Translation cost: correlation of an online raster with a geo raster over a square window.

    cost[i, j] = sum_{y, x, c} online[y, x, c] * geo[y + i - r, x + j - r, c],   i, j = 0 .. 2r

Two exact evaluations stand behind one function. The *FFT* one costs the same for every window. Its
backward pass is its own: the gradients of a correlation are again a correlation (for `online`) and
a convolution (for `geo`) with the `[2r+1, 2r+1]` cotangent as kernel. Automatic differentiation of
a convolution with the raster as kernel would instead run a `[2r+1, 2r+1]`-output convolution per
raster cell, which is two to three orders of magnitude slower.

The *direct* one is one product of matrices per row of the window; automatic differentiation of it
costs two to three times the forward pass. It reads the raster (2r+1)^2 times where the transforms
read it some ten times, at a higher rate: on CPUs it wins at radius 0, ties within tens of
microseconds at radius 1 with one channel, and from radius 2 on loses everywhere (measured with 16
and 32 cells, 1 and 16 channels, forward and gradient; 3 to 35 times slower with 16 channels). So
"auto" is direct for radius 0 and FFT for all others.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.registration.batching import one_by_one_on_cpu
from posejax.registration.rasters import check_rasters, search_window
from posejax.registration.spectral import correlate_spectra, fft_size, inverse_spectrum, spectrum

Method = Literal["auto", "fft", "direct"]


@partial(jax.jit, static_argnames=("radius", "method"))
def translation_cost(online: Array, geo: Array, radius: int, *, method: Method = "auto") -> Array:
    """Correlation of `online` with `geo` for all shifts of at most `radius` cells in x and y.

    Args:
      online: [H, W, C] raster.
      geo: [Hg, Wg, C] raster, both centred on the same point; cells beyond it count as zero.
        Hg - H and Wg - W must be even (and may be negative).
      radius: r, largest shift in cells (static).
      method: "direct" (matrix products), "fft", or "auto": the cheaper one, by radius.

    Returns:
      [2r+1, 2r+1]: entry [i, j] belongs to online moved by (x, y) = (j - r, i - r) cells.

    Raises:
      ValueError: shapes that do not fit together.

    Both methods are exact; FFT rounding is about 1e-7 of |online| |geo|. Differentiable once in
    reverse mode, with respect to both rasters.
    """
    radius = check_rasters(online, geo, radius)
    height, width, _ = online.shape
    dtype = jnp.result_type(online, geo, jnp.float32)
    online = online.astype(dtype)
    window = search_window(geo.astype(dtype), (height, width), radius)
    if method == "auto":
        method = "direct" if radius == 0 else "fft"
    if method == "fft":
        return _fft_correlation(online, window, (height, width), radius)
    if method == "direct":
        return _direct_correlation(online, window, radius)
    raise ValueError(f"method is 'auto', 'fft' or 'direct', got {method!r}")


# --- FFT ------------------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _fft_correlation(online: Array, window: Array, shape: tuple[int, int], radius: int) -> Array:
    return _fft_correlation_fwd(online, window, shape, radius)[0]


def _fft_correlation_fwd(online, window, shape, radius):
    return one_by_one_on_cpu(partial(_forward, shape=shape, radius=radius))(online, window)


def _forward(online, window, *, shape, radius):
    size = fft_size(shape, radius)
    online_hat, window_hat = spectrum(online, size), spectrum(window, size)
    return correlate_spectra(online_hat, window_hat, size, radius), (online_hat, window_hat)


def _fft_correlation_bwd(shape, radius, residuals, g):
    return one_by_one_on_cpu(partial(_backward, shape=shape, radius=radius))(*residuals, g)


def _backward(online_hat, window_hat, g, *, shape, radius):
    (height, width), size = shape, fft_size(shape, radius)
    g_hat = jnp.fft.rfft2(g, s=size)[None]
    d_online = inverse_spectrum(jnp.conj(g_hat) * window_hat, size, (height, width))
    d_window = inverse_spectrum(g_hat * online_hat, size, (height + 2 * radius, width + 2 * radius))
    return d_online, d_window


_fft_correlation.defvjp(_fft_correlation_fwd, _fft_correlation_bwd)


# --- direct ---------------------------------------------------------------------------------------


def _direct_correlation(online: Array, window: Array, radius: int) -> Array:
    side = 2 * radius + 1
    height, width, _ = online.shape

    def row(i):
        band = lax.dynamic_slice_in_dim(window, i, height, 0)
        shifted = jnp.stack([band[:, j : j + width].reshape(-1) for j in range(side)])
        return jnp.matmul(shifted, online.reshape(-1), precision=lax.Precision.HIGHEST)

    return lax.map(jax.checkpoint(row), jnp.arange(side))
