"""Tiny RoMa: dense matching of two images, and the relative pose of their cameras."""
