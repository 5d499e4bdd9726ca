"""Correlation in the frequency domain, and the pose volume of the raw dot product.

The search window has H + 2r rows, so a circular transform of that length wraps nothing into the
2r + 1 rows of the result: no padding beyond the next fast length is needed. With G the spectrum of
the cotangent g, the gradients of corr(a, b) = F^-1[conj(A) B] are F^-1[conj(G) B] for a and
F^-1[G A] for b, both cropped: every backward pass is FFT products too.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.registration.batching import one_by_one_on_cpu
from posejax.registration.rotation import angle_gradient, rotate, rotate_transpose


def next_fast_length(n: int) -> int:
    """Smallest 7-smooth integer >= `n`: a length that every FFT library transforms quickly."""
    if n < 1:
        raise ValueError(f"an FFT length must be positive, got {n}")
    n = int(n)
    best = 1 << (n - 1).bit_length()
    sevens = 1
    while sevens < best:
        fives = sevens
        while fives < best:
            threes = fives
            while threes < best:
                twos = threes << max(0, (-(-n // threes) - 1).bit_length())
                best = min(best, twos)
                threes *= 3
            fives *= 5
        sevens *= 7
    return best


def fft_size(shape: tuple[int, ...], radius: int) -> tuple[int, int]:
    """Transform size that holds the search window of an online raster of `shape`."""
    return next_fast_length(shape[0] + 2 * radius), next_fast_length(shape[1] + 2 * radius)


def spectrum(maps: Array, size: tuple[int, int]) -> Array:
    """[H, W, C] -> half spectra [C, size[0], size[1] // 2 + 1], zero-padded to `size`."""
    return jnp.fft.rfft2(jnp.moveaxis(maps, -1, 0), s=size)


def inverse_spectrum(spectra: Array, size: tuple[int, int], shape: tuple[int, int]) -> Array:
    """Half spectra [C, ...] -> the first rows and columns of the maps, [*shape, C]."""
    maps = jnp.fft.irfft2(spectra, s=size)[:, : shape[0], : shape[1]]
    return jnp.moveaxis(maps, 0, -1)


def correlate_spectra(online_hat: Array, window_hat: Array, size: tuple[int, int], radius: int):
    """Correlation [2r+1, 2r+1] summed over channels: one inverse transform."""
    cost = jnp.fft.irfft2((jnp.conj(online_hat) * window_hat).sum(0), s=size)
    return cost[: 2 * radius + 1, : 2 * radius + 1]


def split_chunks(chunk: int, *arrays: Array):
    """Pieces [n, chunk, ...] of arrays with the same leading axis; zeros fill up the last one."""
    count = arrays[0].shape[0]
    pieces = -(-count // chunk)

    def split(a):
        a = jnp.pad(a, ((0, pieces * chunk - count), *((0, 0) for _ in a.shape[1:])))
        return a.reshape(pieces, chunk, *a.shape[1:])

    return jax.tree.map(split, arrays)


def join_chunks(tree, count: int):
    """Inverse of `split_chunks`."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:count], tree)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def dot_volume(online: Array, window: Array, angles: Array, radius: int, remat: bool) -> Array:
    """Correlation of `online` [H, W, C], turned by each of `angles` [K], with `window`.

    `window` [H + 2r, W + 2r, C] comes from `search_window`; one rotated raster exists at a time;
    `remat` makes their spectra again in the backward pass. Returns [K, 2r+1, 2r+1].
    """
    return _dot_volume_fwd(online, window, angles, radius, remat)[0]


def _dot_volume_fwd(online, window, angles, radius, remat):
    forward = partial(_forward, radius=radius, remat=remat)
    volume, *kept = one_by_one_on_cpu(forward)(online, window, angles)
    return volume, (online, angles, *kept)


def _forward(online, window, angles, *, radius, remat):
    size = fft_size(online.shape[:2], radius)
    window_hat = spectrum(window, size)

    def correlate(rotated):
        rotated_hat = spectrum(rotated, size)
        cost = correlate_spectra(rotated_hat, window_hat, size, radius)
        return cost, None if remat else rotated_hat

    volume, rotated_hat = lax.map(lambda angle: correlate(rotate(online, angle)), angles)
    return volume, window_hat, rotated_hat


def _dot_volume_bwd(radius, remat, residuals, g):
    backward = partial(_backward, radius=radius, remat=remat)
    return one_by_one_on_cpu(backward)(*residuals, g)


def _backward(online, angles, window_hat, rotated_hat, g, *, radius, remat):
    shape = online.shape[:2]
    size = fft_size(shape, radius)

    def add(carry, item):
        (d_online, d_window_hat), (angle, g, rotated_hat) = carry, item
        if remat:
            rotated_hat = spectrum(rotate(online, angle), size)
        g_hat = jnp.fft.rfft2(g, s=size)[None]
        d_rotated = inverse_spectrum(jnp.conj(g_hat) * window_hat, size, shape)
        d_online = d_online + rotate_transpose(d_rotated, angle)
        d_angle = angle_gradient(online, angle, d_rotated)
        return (d_online, d_window_hat + g_hat * rotated_hat), d_angle

    start = (jnp.zeros_like(online), jnp.zeros_like(window_hat))
    (d_online, d_window_hat), d_angles = lax.scan(add, start, (angles, g, rotated_hat))
    d_window = inverse_spectrum(d_window_hat, size, (shape[0] + 2 * radius, shape[1] + 2 * radius))
    return d_online, d_window, d_angles


dot_volume.defvjp(_dot_volume_fwd, _dot_volume_bwd)
