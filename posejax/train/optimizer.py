"""The update rule: clip, per-group direction from optax, decoupled decay, per-group rate."""

import re
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from posejax import config
from posejax.config import ConfigError
from posejax.train import groups, schedules
from posejax.train.groups import Flat, Member


@dataclass(frozen=True)
class Optimizer:
    """An optimiser for parameters of known paths.

    Its state is `{group label: optax state over the group's flat parameters}`. A group that is
    still frozen keeps its state untouched, so bias correction counts the group's own updates:
    Adam's first step after unfreezing is a proper first step.
    """

    rule: config.Optimizer
    members: tuple[Member, ...]

    def init(self, params: Any) -> dict[str, Any]:
        """State for `params`; groups that are never trained have none."""
        flat = groups.flatten(params)
        return {
            m.label: self._direction().init({p: flat[p] for p in m.paths})
            for m in self.members
            if m.begins >= 0
        }

    def trained(self, step: int) -> tuple[Member, ...]:
        """Groups that step `step` updates; constant within a stage."""
        return tuple(m for m in self.members if m.active(step))

    def rates(self, step: jax.Array) -> dict[str, jax.Array]:
        """Learning rate of every group, zero while frozen."""
        return {
            m.label: jnp.where(step >= m.begins, m.rate(step), 0.0)
            if m.begins >= 0
            else jnp.float32(0)
            for m in self.members
        }

    def update(
        self, grads: Flat, state: dict[str, Any], params: Flat, step: jax.Array, stage: int
    ) -> tuple[Flat, dict[str, Any], jax.Array]:
        """New parameters of the groups trained in `stage`.

        Args:
          grads, params: the trained parameters only, by path.
          state: of all groups.
          step: traced step, for the rates.
          stage: first step of the stage, static.

        Returns:
          Updates (to be added) by path, the new state of all groups, the global gradient norm
          before clipping.
        """
        norm = optax.global_norm(grads)
        if self.rule.clip_norm is not None:
            scale = jnp.minimum(1.0, self.rule.clip_norm / jnp.maximum(norm, 1e-16))
            grads = jax.tree.map(lambda g: g * scale, grads)
        updates, new_state = {}, dict(state)
        for m in self.trained(stage):
            mine = {p: params[p] for p in m.paths}
            part = {p: grads[p] for p in m.paths}
            moved, new_state[m.label] = self._direction().update(part, state[m.label], mine)
            direction = cast(Flat, moved)
            rate = m.rate(step)
            for p in m.paths:
                decay = self.rule.weight_decay if self.decays(p) else 0.0
                updates[p] = (-rate * (direction[p] + decay * mine[p])).astype(mine[p].dtype)
        return updates, new_state, norm

    def decays(self, path: str) -> bool:
        """Whether weight decay applies to the parameter at `path`."""
        return not any(re.search(r, path) for r in self.rule.no_decay)

    def _direction(self) -> optax.GradientTransformation:
        r = self.rule
        if r.kind == "adamw":
            return optax.scale_by_adam(r.b1, r.b2, r.eps, nesterov=r.nesterov)
        if r.kind == "lion":
            return optax.scale_by_lion(r.b1, r.b2)
        return optax.trace(r.b1, nesterov=r.nesterov)


def make(rule: config.Optimizer, params: Any, steps: int) -> Optimizer:
    """Optimiser of a config for the parameters (arrays or shapes) of a system.

    Raises:
      ConfigError: a schedule or a group does not fit; see `groups.resolve`, `schedules.check`.
    """
    if rule.clip_norm is not None and rule.clip_norm <= 0:
        raise ConfigError(f"train.optimizer.clip_norm is {rule.clip_norm}; expected > 0 or None")
    schedules.check(rule.schedule, steps)
    return Optimizer(rule, groups.resolve(rule, params, steps))
