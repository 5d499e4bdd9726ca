"""Parameter groups: which parameters are trained, when, and at what rate."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from posejax.config import ConfigError, Group, Optimizer
from posejax.train import schedules

Flat = dict[str, Any]  # path -> array
DEFAULT = Group(pattern="", name="default")


def flatten(tree: Any) -> Flat:
    """`{"encoder/conv1/kernel": array, ...}` in the tree's own order."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def unflatten(flat: Mapping[str, Any], like: Any) -> Any:
    """Tree of the structure of `like` with the leaves of `flat`."""
    leaves = [flat[path] for path in flatten(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


@dataclass(frozen=True)
class Member:
    """A group resolved for given parameters and number of steps."""

    group: Group
    paths: tuple[str, ...]
    begins: int  # first step that trains it; -1: never
    rate: schedules.ScheduleFn

    @property
    def label(self) -> str:
        return self.group.label

    def active(self, step: int) -> bool:
        return 0 <= self.begins <= step


def resolve(optimizer: Optimizer, params: Any, steps: int) -> tuple[Member, ...]:
    """Assign every parameter to exactly one group.

    Raises:
      ConfigError: some parameter matches no group or several, a group matches nothing, or two
        groups have one name; the message lists them. Or a time is negative.
    """
    paths = list(flatten(params))
    groups = optimizer.groups or (DEFAULT,)
    _check_patterns(groups)
    for g in groups:
        if g.unfreeze_at < 0:
            raise ConfigError(
                f"train.optimizer.groups: {g.label} has unfreeze_at {g.unfreeze_at}; expected >= 0 "
                "(frozen=True for a group that is never trained)"
            )
    matches = {p: [g for g in groups if re.search(g.pattern, p)] for p in paths}
    stray = [p for p, m in matches.items() if not m]
    double = [f"{p} ({', '.join(g.label for g in m)})" for p, m in matches.items() if len(m) > 1]
    empty = [g.label for g in groups if not any(g in m for m in matches.values())]
    problems = [
        f"{what}:\n  " + "\n  ".join(names)
        for what, names in (
            ("parameters that match no group", stray),
            ("parameters that match several groups", double),
            ("groups that match no parameter", empty),
        )
        if names
    ]
    if problems:
        raise ConfigError(
            "train.optimizer.groups must match every parameter exactly once; "
            + "\n".join(problems)
            + ("" if not empty else "\nall parameters:\n  " + "\n  ".join(paths))
        )
    return tuple(
        Member(
            g,
            tuple(p for p in paths if matches[p] == [g]),
            -1 if g.frozen else schedules.duration(g.unfreeze_at, steps),
            schedules.make(schedules.scaled(g.schedule or optimizer.schedule, g.lr), steps),
        )
        for g in groups
    )


def stages(members: tuple[Member, ...]) -> tuple[int, ...]:
    """Steps at which the set of trained groups changes, beginning with 0."""
    return tuple(sorted({0, *(m.begins for m in members if m.begins > 0)}))


def stage_of(members: tuple[Member, ...], step: int) -> int:
    """First step of the stage that `step` lies in."""
    return max(s for s in stages(members) if s <= step)


def _check_patterns(groups: tuple[Group, ...]) -> None:
    labels = [g.label for g in groups]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"train.optimizer.groups: names must differ: {labels}")
    for g in groups:
        try:
            re.compile(g.pattern)
        except re.error as error:
            raise ConfigError(
                f"train.optimizer.groups: {g.pattern!r} is not a regular expression: {error}"
            ) from None


def parameter_table(params: Any, trained: dict[str, str], most: int | None = None) -> str:
    """Path, shape, size, spread and group of every parameter (the totals alone for `most` = 0)."""
    flat = flatten(params)
    total = sum(v.size for v in flat.values())
    head = f"{total:,} parameters in {len(flat)} arrays"
    if most == 0:
        return head
    width = max((len(p) for p in flat), default=0)
    lines = []
    for path, value in list(flat.items())[:most]:
        x = np.asarray(value)
        lines.append(
            f"  {path:{width}}  {x.shape!s:20} {x.size:>10,}  "
            f"mean {x.mean():9.2e}  std {x.std():9.2e}  {trained.get(path, '')}"
        )
    return "\n".join([head, *lines])
