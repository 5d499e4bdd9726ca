"""Two-view matching: dense correspondence, robust relative pose, evaluation; pure functions."""

from posejax.matching.correspondence import Correspondence, expected_correspondence
from posejax.matching.search import Band, Epipolar, Full, Rows, Search, Window

__all__ = [
    "Band",
    "Correspondence",
    "Epipolar",
    "Full",
    "Rows",
    "Search",
    "Window",
    "expected_correspondence",
]
