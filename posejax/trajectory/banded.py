"""Normal equations of a chain whose terms each touch four neighbours, solved in linear time."""

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import cho_factor, cho_solve

from posejax.geometry import einsum, matmul


def solve_windows(matrices: Array, vectors: Array, *, size: int, damping: float = 1e-6) -> Array:
    """Solve (sum of the windows' quadratic forms) x = (sum of their vectors).

    Args:
      matrices: [K, 4 size, 4 size] symmetric, positive semi-definite; window k holds the unknowns
        k, ..., k + 3, and those past K - 1 must not occur (zero rows).
      vectors: [K, 4 size].
      size: of one unknown.
      damping: added to the matrix once it is scaled to unit diagonal; unknowns that no window
        sees become zero.

    Returns:
      [K, size].

    Three unknowns make a block, so that a window lies in two neighbouring blocks and the matrix is
    block tridiagonal: one Cholesky factor of 3 size for each block.
    """
    count, block = len(matrices), 3 * size
    blocks = -(-count // 3)
    extra = 3 * blocks - count
    matrices = jnp.pad(matrices, ((0, extra), (0, 0), (0, 0))).reshape(blocks, 3, 4 * size, -1)
    vectors = jnp.pad(vectors, ((0, extra), (0, 0))).reshape(blocks, 3, 4 * size)
    pair = jnp.zeros((blocks, 2 * block, 2 * block), matrices.dtype)
    right = jnp.zeros((blocks, 2 * block), vectors.dtype)
    for k in range(3):
        part = slice(k * size, (k + 4) * size)
        pair = pair.at[:, part, part].add(matrices[:, k])
        right = right.at[:, part].add(vectors[:, k])
    diagonal = pair[:, :block, :block].at[1:].add(pair[:-1, block:, block:])
    right = right[:, :block].at[1:].add(right[:-1, block:])
    # Metres and radians, well and badly seen unknowns: all to unit diagonal.
    entries = jnp.diagonal(diagonal, axis1=1, axis2=2)
    size_of = jnp.where(entries > 0, jnp.sqrt(jnp.where(entries > 0, entries, 1)), 1)
    diagonal = diagonal / (size_of[:, :, None] * size_of[:, None, :])
    unseen = jnp.where(entries > 0, damping, 1)
    diagonal = diagonal + unseen[:, :, None] * jnp.eye(block, dtype=matrices.dtype)[None]
    upper = pair[:-1, :block, block:] / (size_of[:-1, :, None] * size_of[1:, None, :])
    solved = solve_block_tridiagonal(diagonal, upper, right / size_of) / size_of
    return solved.reshape(3 * blocks, size)[:count]


def solve_block_tridiagonal(diagonal: Array, upper: Array, right: Array) -> Array:
    """Solve a symmetric positive definite block tridiagonal system by elimination.

    Args:
      diagonal: [B, n, n].
      upper: [B-1, n, n], block (b, b + 1); block (b + 1, b) is its transpose.
      right: [B, n].

    Returns:
      [B, n].
    """
    upper = jnp.concatenate([jnp.zeros_like(diagonal[:1]), upper])

    def forward(carry, row):
        matrix, vector = carry
        now, coupling, target = row
        factor = cho_factor(matrix)
        matrix = now - matmul(coupling.T, cho_solve(factor, coupling))
        vector = target - einsum("ji,j->i", coupling, cho_solve(factor, vector))
        return (matrix, vector), (matrix, vector)

    start = jnp.eye(diagonal.shape[1], dtype=diagonal.dtype), jnp.zeros_like(right[0])
    _, (matrices, vectors) = lax.scan(forward, start, (diagonal, upper, right))
    after = jnp.concatenate([upper[1:], jnp.zeros_like(upper[:1])])

    def backward(later, row):
        matrix, vector, coupling = row
        found = cho_solve(cho_factor(matrix), vector - einsum("ij,j->i", coupling, later))
        return found, found

    _, solved = lax.scan(
        backward, jnp.zeros_like(right[0]), (matrices, vectors, after), reverse=True
    )
    return solved
