"""Small scans of coarse rooms, the same in all tests: one compiled program renders them."""

from posejax.sim.cameras import DepthSensor
from posejax.sim.room_scans import ScanSettings
from posejax.sim.rooms import RoomSettings

SMALL_SCANS = ScanSettings(
    size=(48, 64),
    frames=12,
    room=RoomSettings(texel=0.05, lookalikes=6),
    depth=DepthSensor(noise=0, lateral=0, inverse_step=0),
)
