"""A real key frame learnt by heart: files, calibration, lift, targets and loss belong together.

At a small size, to take a minute alone on two cores: 112 x 64 pixels, 48 m x 48 m of cells of
0.75 m. Larger images and finer cells: `configs/segnet_overfit.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posejax.systems.segnet import Augment, GridConfig, InfoFrames, ModelConfig, Segnet
from posejax.train.system import Batch

STEPS = 250


@pytest.mark.slow
def test_the_real_sample_is_learnt_by_heart(data_dir):
    grid = GridConfig((64, 4, 64), (-24.0, -2.0, -24.0), (24.0, 3.0, 24.0), lift="plan")
    data = InfoFrames(
        root=str(data_dir("nuscenes_sample")),
        size=(64, 112),
        grid=grid,
        most_boxes=16,
        augment=Augment((1.0, 1.0), 0.0, False, flip_images=False, flip_maps=False),
    )
    system = Segnet(data, ModelConfig("small", features=16, widths=(16, 32, 32)))
    system.check()
    source = data.source("train")
    example = data.transform(source[0], np.random.default_rng(0), False)
    resident = {k: jnp.asarray(v) for k, v in source.resident().items()}
    batch = Batch({k: jnp.asarray(v)[None] for k, v in example.items()}, resident)
    params, state = jax.jit(lambda key: system.init(key, batch))(jax.random.key(0))
    rate = optax.cosine_onecycle_schedule(STEPS, 6e-3, 0.1)
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adamw(rate, weight_decay=1e-7))

    @jax.jit
    def step(params, state, moments, batch):
        def loss(p):
            return system.loss(p, state, batch, jax.random.key(0), jnp.float32(0), True)

        (value, out), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradient, moments, params)
        params = optax.apply_updates(params, updates)
        return params, out.state, moments, value, out.scalars["iou"]

    moments = optimizer.init(params)
    for i in range(STEPS):
        params, state, moments, value, iou = step(params, state, moments, batch)
        if i % 50 == 49:
            print(f"step {i + 1}: loss {value:.3f}, IoU {iou:.3f}", flush=True)
    numbers = jax.device_get(
        jax.jit(lambda p, s, b: system.metrics(system.predict(p, s, b), b))(params, state, batch)
    )
    found = system.summarize(numbers)
    print({name: round(found[name], 3) for name in ("iou", "pq", "recall", "precision")})
    assert found["iou"] >= 0.95
    assert found["pq"] >= 0.8
