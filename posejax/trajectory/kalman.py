"""Kalman filter and Rauch-Tung-Striebel smoother of a linear chain, each one `lax.scan`."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import cho_factor, cho_solve

from posejax.geometry import einsum, matmul


class Chain(NamedTuple):
    """N states x_k of n numbers, each with a measurement of m.

        x_k = move_k x_(k-1) + offset_k + N(0, noise_k)        (row 0 moves the prior)
        measured_k = seen_k x_k + N(0, spoiled_k)

    Attributes:
      move: [N, n, n].
      offset: [N, n].
      noise: [N, n, n].
      seen: [N, m, n], zero rows where nothing is measured.
      measured: [N, m].
      spoiled: [N, m, m].
    """

    move: Array
    offset: Array
    noise: Array
    seen: Array
    measured: Array
    spoiled: Array


def smooth_chain(chain: Chain, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Means [N, n] and covariances [N, n, n] of all states given all measurements.

    Args:
      chain: the model and what was measured.
      mean: [n] of the prior.
      covariance: [n, n].

    Both directions update covariances as sums of squares (Joseph's form): they stay positive in
    float32, however little the prior knew.
    """
    eye = jnp.eye(len(mean), dtype=mean.dtype)

    def filtered(state, row: Chain):
        mean = einsum("ij,j->i", row.move, state[0]) + row.offset
        covariance = sandwich(row.move, state[1]) + row.noise
        predicted = mean, covariance
        cross = matmul(row.seen, covariance)
        gain = solve(einsum("ij,kj->ik", cross, row.seen) + row.spoiled, cross).T
        mean = mean + einsum("ij,j->i", gain, row.measured - einsum("ij,j->i", row.seen, mean))
        kept = eye - matmul(gain, row.seen)
        state = mean, _symmetric(sandwich(kept, covariance) + sandwich(gain, row.spoiled))
        return state, (*state, *predicted)

    _, (means, covariances, *predicted) = lax.scan(filtered, (mean, covariance), chain)

    def smoothed(later, row):
        mean, covariance, mean_after, covariance_after, move, noise = row
        gain = solve(covariance_after, matmul(move, covariance)).T
        mean = mean + einsum("ij,j->i", gain, later[0] - mean_after)
        kept = eye - matmul(gain, move)
        covariance = _symmetric(sandwich(kept, covariance) + sandwich(gain, noise + later[1]))
        return (mean, covariance), (mean, covariance)

    last = means[-1], covariances[-1]
    after = *(x[1:] for x in predicted), chain.move[1:], chain.noise[1:]
    _, earlier = lax.scan(smoothed, last, (means[:-1], covariances[:-1], *after), reverse=True)
    return (
        jnp.concatenate([earlier[0], last[0][None]]),
        jnp.concatenate([earlier[1], last[1][None]]),
    )


def solve(matrix: Array, right: Array) -> Array:
    """matrix^-1 right of a covariance [..., n, n] in mixed units, right [..., n] or [..., n, k].

    Scaled to unit diagonal and damped by a few rounding errors, so that float32 serves.
    """
    columns = right.reshape(*matrix.shape[:-1], -1)
    entries = jnp.maximum(jnp.diagonal(matrix, axis1=-2, axis2=-1), jnp.finfo(matrix.dtype).tiny)
    scale = 1 / jnp.sqrt(entries)
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype).reshape(
        (1,) * (matrix.ndim - 2) + matrix.shape[-2:]
    )
    scaled = (
        matrix * scale[..., :, None] * scale[..., None, :] + 8 * jnp.finfo(matrix.dtype).eps * eye
    )
    found = scale[..., None] * cho_solve(cho_factor(scaled), scale[..., None] * columns)
    return found.reshape(right.shape)


def sandwich(outer: Array, inner: Array) -> Array:
    """outer inner outer^T."""
    return einsum("...ij,...jk,...lk->...il", outer, inner, outer)


def _symmetric(matrix: Array) -> Array:
    return (matrix + matrix.T) / 2
