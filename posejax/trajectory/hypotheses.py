"""Which of several poses per instant belong together: the likeliest path through them."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.geometry import rotation_angle


def choose_hypotheses(
    pose: Array,
    log_weight: Array,
    times: Array,
    *,
    rotation_sigma: float,
    position_sigma: float,
    drift: float = 0.01,
    turn_drift: float = 0.01,
    floor: float = -8.0,
) -> Array:
    """[T] indices of the hypotheses of poses [T, M, 4, 4] whose relative motion is likeliest.

    Args:
      pose: camera_from_body. log_weight: [T, M]. times: [T] s, rising.
      rotation_sigma, position_sigma: of a pose, rad and m.
      drift, turn_drift: m/s and rad/s by which a body moves.
      floor: log likelihood of a jump, so that a stretch without a right pose does not decide all.
    """

    def link(a, b, dt):
        turn = jax.vmap(lambda p: jax.vmap(lambda q: rotation_angle(p[:3, :3], q[:3, :3]))(b))(a)
        move = jnp.linalg.norm(a[:, None, :3, 3] - b[None, :, :3, 3], axis=-1)
        spread = 2 * rotation_sigma**2 + (turn_drift * dt) ** 2
        wide = 2 * position_sigma**2 + (drift * dt) ** 2
        return jnp.maximum(-0.5 * (turn**2 / spread + move**2 / wide), floor)

    links = jax.vmap(link)(pose[:-1], pose[1:], jnp.diff(times))

    def forward(best, given):
        weight, links = given
        through = best[:, None] + links
        return jnp.max(through, axis=0) + weight, jnp.argmax(through, axis=0)

    last, came = lax.scan(forward, log_weight[0], (log_weight[1:], links))
    end = jnp.argmax(last)

    def back(state, came):
        return came[state], came[state]

    _, path = lax.scan(back, end, came, reverse=True)
    return jnp.concatenate([path, end[None]])
