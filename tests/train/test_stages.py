"""Stages of a system measured apart: their work, their time, and what the roof allows."""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import pytest

from posejax.config import Log, Profile
from posejax.train import stages

N = 256


def test_work_and_order_of_stages():
    """The second stage reads what the first returned; neither sees what it does not use."""

    def product(params, state, batch, before):
        assert before is None
        return params["w"] @ batch["x"]

    def total(params, state, batch, before):
        assert before.shape == (N, N)
        return jnp.sum(before, axis=1)

    system: Any = SimpleNamespace(stages=lambda: {"product": product, "total": total})
    state: Any = SimpleNamespace(
        params={"w": jnp.ones((N, N)), "unused": jnp.ones((N, 99))}, model_state={}
    )
    first, second = stages.measure(system, state, {"x": jnp.ones((N, N))})
    assert (first.name, second.name) == ("product", "total")
    assert first.flops == pytest.approx(2 * N**3, rel=0.01)
    assert first.bytes == 3 * 4 * N * N and second.bytes == 4 * (N * N + N)
    for row in (first, second):
        assert row.floor > 0 and row.seconds > 0
    text = stages.table([first, second])
    assert len(text.splitlines()) == 3 and "GFLOP" in text and "product" in text


def test_a_run_tells_of_stages_if_asked(run, capsys):
    run(options={"log": Log(view="plain"), "profile": Profile(stages=True)}, **{"train.steps": 1})
    assert "stages: the system names none" in capsys.readouterr().out
