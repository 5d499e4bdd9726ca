"""Images as channels-last arrays: sampling at continuous coordinates, warping, resizing."""

from posejax.image.resize import resize, whole_size
from posejax.image.sampling import bilinear_sample, masked_bilinear_sample
from posejax.image.warp import affine_warp, pixel_centers, resample_raster

__all__ = [
    "affine_warp",
    "bilinear_sample",
    "masked_bilinear_sample",
    "pixel_centers",
    "resample_raster",
    "resize",
    "whole_size",
]
