"""Simple-BEV's Segnet in eager PyTorch, for comparison: same names, same arithmetic, its recipe.

Written from the specification for `benchmarks.segnet_step`; every camera is sampled at every voxel
by a five-dimensional grid_sample, as the original does it.
"""

import importlib
from typing import Any

import numpy as np

from posejax.bev import VoxelGrid
from posejax.nn.efficientnet import scaled_stages

# Any: the peer is optional and not installed where the types are checked.
torch: Any = importlib.import_module("torch")
nn, functional = torch.nn, torch.nn.functional
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def conv(inputs, outputs, kernel, stride=1, groups=1, bias=False, pad=None):
    pad = kernel // 2 if pad is None else pad
    return nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=bias)


class Residual(nn.Module):
    """A bottleneck of a ResNet, or its basic block, under torchvision's names."""

    def __init__(self, inputs, width, stride, bottleneck):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        plan = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        plan = plan if bottleneck else [(inputs, width, 3, stride), (width, width, 3, 1)]
        self.layers = len(plan)
        for i, p in enumerate(plan, start=1):
            self.add_module(f"conv{i}", conv(*p))
            self.add_module(f"bn{i}", nn.BatchNorm2d(p[1]))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            skip = conv(inputs, outputs, 1, stride, pad=0)
            self.downsample = nn.Sequential(skip, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for i in range(1, self.layers + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = functional.relu(y, inplace=True) if i < self.layers else y
        x = x if self.downsample is None else self.downsample(x)
        return functional.relu(x + y, inplace=True)


def stage(inputs, width, blocks, stride, bottleneck):
    outputs = 4 * width if bottleneck else width
    rest = [Residual(outputs, width, 1, bottleneck) for _ in range(blocks - 1)]
    return nn.Sequential(Residual(inputs, width, stride, bottleneck), *rest)


class Inverted(nn.Module):
    """A block of an EfficientNet under efficientnet_pytorch's names."""

    def __init__(self, inputs, outputs, kernel, stride, expand, pad):
        super().__init__()
        middle, self.shortcut = inputs * expand, stride == 1 and inputs == outputs
        self.pad = pad

        def norm(n):
            return nn.BatchNorm2d(n, eps=1e-3, momentum=0.01)

        if expand > 1:
            self._expand_conv, self._bn0 = conv(inputs, middle, 1), norm(middle)
        self._depthwise_conv = conv(middle, middle, kernel, stride, middle, pad=0)
        self._bn1 = norm(middle)
        self._se_reduce = conv(middle, inputs // 4, 1, bias=True)
        self._se_expand = conv(inputs // 4, middle, 1, bias=True)
        self._project_conv, self._bn2 = conv(middle, outputs, 1), norm(outputs)

    def forward(self, x):
        y = x
        if hasattr(self, "_expand_conv"):
            y = functional.silu(self._bn0(self._expand_conv(y)))
        y = functional.pad(y, self.pad * 2)
        y = functional.silu(self._bn1(self._depthwise_conv(y)))
        gate = self._se_reduce(y.mean((2, 3), keepdim=True))
        y = y * self._se_expand(functional.silu(gate)).sigmoid()
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class EfficientTrunk(nn.Module):
    """EfficientNet-B0's first eleven blocks; pads as for images of 224."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = conv(3, 32, 3, 2, pad=0), nn.BatchNorm2d(32, 1e-3, 0.01)
        blocks, inputs, size = [], 32, 112
        self.taps = []
        for s in scaled_stages("b0")[:5]:
            for i in range(s.blocks):
                stride = s.stride if i == 0 else 1
                after = -(-size // stride)
                total = max((after - 1) * stride + s.kernel - size, 0)
                pad = (total // 2, total - total // 2)
                blocks.append(Inverted(inputs, s.channels, s.kernel, stride, s.expand, pad))
                inputs, size = s.channels, after
            self.taps.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x):
        x = functional.silu(self._bn0(self._conv_stem(functional.pad(x, (0, 1, 0, 1)))))
        found = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in (self.taps[2], self.taps[4]):
                found.append(x)
        return found


class Encoder(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.residual = backbone.startswith("res")
        if self.residual:
            depths = {"res50": (3, 4, 6), "res101": (3, 4, 23)}[backbone]
            self.backbone = nn.Sequential(
                conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1),
                stage(64, 64, depths[0], 1, True), stage(256, 128, depths[1], 2, True),
            )  # fmt: skip
            self.layer3 = stage(512, 256, depths[2], 2, True)
            inputs, width = 1536, 512
        else:
            self.backbone, inputs, width = EfficientTrunk(), 152, 128
        self.upsampling_layer = nn.Module()
        self.upsampling_layer.conv = nn.Sequential(
            conv(inputs, width, 3), nn.InstanceNorm2d(width), nn.ReLU(True),
            conv(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(True),
        )  # fmt: skip
        self.depth_layer = conv(width, 128, 1, bias=True)

    def forward(self, x):
        if self.residual:
            fine = self.backbone(x)
            coarse = self.layer3(fine)
        else:
            fine, coarse = self.backbone(x)
        coarse = doubled(coarse)
        return self.depth_layer(self.upsampling_layer.conv(torch.cat([fine, coarse], 1)))


def doubled(x):
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def head(outputs):
    hidden = conv(128, 128, 3), nn.InstanceNorm2d(128), nn.ReLU(True)
    return nn.Sequential(*hidden, conv(128, outputs, 1, bias=True))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first_conv, self.bn1 = conv(128, 64, 7, 2), nn.BatchNorm2d(64)
        self.layer1 = stage(64, 64, 2, 1, False)
        self.layer2 = stage(64, 128, 2, 2, False)
        self.layer3 = stage(128, 256, 2, 2, False)
        for level, inputs, outputs in ((3, 256, 128), (2, 128, 64), (1, 64, 128)):
            up = nn.Module()
            scale = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            up.upsample_layer = nn.Sequential(
                scale, conv(inputs, outputs, 1), nn.InstanceNorm2d(outputs)
            )
            self.add_module(f"up{level}_skip", up)
        self.feat_head, self.segmentation_head = head(128), head(1)
        self.instance_offset_head, self.instance_center_head = head(2), head(1)

    def forward(self, x):
        first = functional.relu(self.bn1(self.first_conv(x)))
        skip2 = self.layer1(first)
        skip3 = self.layer2(skip2)
        y = self.up3_skip.upsample_layer(self.layer3(skip3)) + skip3
        y = self.up2_skip.upsample_layer(y) + skip2
        y = self.up1_skip.upsample_layer(y) + x
        return (
            self.segmentation_head(y)[:, 0], self.instance_center_head(y)[:, 0].sigmoid(),
            self.instance_offset_head(y), self.feat_head(y),
        )  # fmt: skip


class Network(nn.Module):
    """Images [N, 3, H, W] in [0, 1] of one frame to the four maps, in posejax's exact sampling.

    Args:
      intrinsics: [N, 3, 3], pixels of the images, first centre at 0.5; poses: [N, 4, 4].
    """

    def __init__(self, backbone, grid: VoxelGrid, image, intrinsics, poses):
        super().__init__()
        self.encoder, self.decoder = Encoder(backbone), Decoder()
        y = grid.shape[1]
        self.bev_compressor = nn.Sequential(
            conv(128 * y, 128, 3), nn.InstanceNorm2d(128), nn.GELU()
        )
        for name in ("ce_weight", "center_weight", "offset_weight"):
            self.register_parameter(name, nn.Parameter(torch.zeros(())))
        self.grid, self.size = grid, (image[0] // 8, image[1] // 8)
        scale = np.array([self.size[1] / image[1], self.size[0] / image[0], 1])[:, None]
        k = intrinsics * scale
        k[:, :2, 2] -= 0.5
        self.matrices = torch.tensor(k @ poses[:, :3], dtype=torch.float32)
        self.points = torch.tensor(grid.centers().reshape(-1, 3), dtype=torch.float32)

    def lift(self, features):
        height, width = self.size
        points = torch.cat([self.points, torch.ones_like(self.points[:, :1])], 1)
        pixels = points @ self.matrices.transpose(1, 2)
        z = pixels[..., 2]
        x, y = (pixels[..., i] / z.clamp(min=1e-6) for i in (0, 1))
        valid = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5) & (z > 0)
        where = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1, 0 * x], -1)
        where = where.reshape(len(features), *self.grid.shape, 3)
        sampled = functional.grid_sample(features[:, :, None], where, align_corners=False)
        volumes = sampled * valid.reshape(len(features), 1, *self.grid.shape)
        mask = (volumes.abs() > 0).float()
        return (volumes * mask).sum(0) / (1e-6 + mask.sum(0))

    def forward(self, images):
        mean, deviation = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (MEAN, DEVIATION))
        volume = self.lift(self.encoder((images - mean) / deviation))  # [C, Z, Y, X]
        z, y, x = self.grid.shape
        flat = volume.transpose(1, 2).reshape(1, 128 * y, z, x)
        return self.decoder(self.bev_compressor(flat))

    def loss(self, out, target):
        """The weighted sum of the three losses; target: seg, valid, center, offset [1, 2, Z, X]."""
        (seg, center, offset, _), (true, valid, peaks, away) = out, target

        def mean(value, mask):
            return (value * mask).sum() / (1e-6 + mask.sum())

        weight = torch.full((1,), 2.13)
        each = functional.binary_cross_entropy_with_logits(
            seg, true, pos_weight=weight, reduction="none"
        )
        square = (center - peaks) ** 2
        parts = (
            (10.0, mean(each, valid), self.ce_weight),
            (0.5, 0.5 * (mean(square, (peaks > 0.5).float()) + mean(square, (peaks < 0.5).float())),
             self.center_weight),
            (0.5, mean((offset - away).abs().sum(1), true * valid), self.offset_weight),
        )  # fmt: skip
        return sum(f * torch.exp(-w) * part + 0.5 * w for f, part, w in parts)
