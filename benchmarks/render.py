"""Milliseconds of a 640 x 480 frame of the simulator, and what textures and shadows cost.

    python -m benchmarks.render

There is no peer in the field to run beside (engines rasterise on a GPU): the peer of a row is the
same room without textures, or without shadows, timed in turns.
"""

from dataclasses import asdict
from typing import Any

import jax
import numpy as np

from benchmarks.harness import Row, time_interleaved, write_results
from posejax.sim import Camera, camera_path, cast_rays, develop, measure_depth, render
from posejax.sim.cameras import camera_rays
from posejax.sim.rooms import Room, room_of_split
from posejax.sim.scene import Scene, Textures

SIZE = (480, 640)
INTRINSICS = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])


def plain(scene: Scene) -> Scene:
    """The scene without textures: every look-up reads one grey texel or none."""
    empty = Textures(
        np.full((1, 4), 128, np.uint8), np.zeros((1, 1), np.int32), np.ones((1, 1, 2), np.int32)
    )
    rectangles = scene.rectangles._replace(texture=np.zeros_like(scene.rectangles.texture))
    materials = scene.materials._replace(
        texture=scene.materials.texture[:0], texel=scene.materials.texel[:0]
    )
    return scene._replace(rectangles=rectangles, materials=materials, textures=empty)


def main() -> list[dict[str, Any]]:
    """Time the stages of a frame; writes benchmarks/results/render.json."""
    room: Room = room_of_split("val", 0)
    camera, key = Camera(INTRINSICS, SIZE), jax.random.key(0)
    pose = camera_path(np.random.default_rng(0), room, 9)[4]
    scene, bare = jax.device_put(room.scene), jax.device_put(plain(room.scene))
    origin, directions = camera_rays(camera, pose)
    dim = room.lamp._replace(shadows=False)
    frame = render(scene, camera, pose, light=room.lamp)
    functions = {
        "rays, textures": lambda: cast_rays(scene, origin, directions, 30.0, pixel_angle=0.002),
        "rays, no textures": lambda: cast_rays(bare, origin, directions, 30.0, pixel_angle=0.002),
        "frame, no shadows": lambda: render(scene, camera, pose, light=dim),
        "frame, shadows": lambda: render(scene, camera, pose, light=room.lamp),
        "depth errors": lambda: measure_depth(key, frame),
        "imager": lambda: develop(key, camera, frame.colour),
    }
    times = time_interleaved(functions, repeats=7, budget_s=25.0)
    peers = {"rays, textures": "rays, no textures", "frame, shadows": "frame, no shadows"}
    rows = []
    for name, time in times.items():
        row = Row(f"{name}, 640x480", 1e3 * time.median, 1e3 * time.minimum)
        if name in peers:
            peer = times[peers[name]]
            row.peer, row.peer_ms, row.peer_min_ms = (
                peers[name],
                1e3 * peer.median,
                1e3 * peer.minimum,
            )
            row.ratio = peer.minimum / time.minimum
        print(row.line(), flush=True)
        rows.append(row)
    write_results("render", rows)
    return [asdict(row) for row in rows]


if __name__ == "__main__":
    main()
