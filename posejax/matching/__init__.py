"""Two-view matching: dense correspondence, robust relative pose, evaluation; pure functions."""

from posejax.matching.correspondence import Correspondence, expected_correspondence
from posejax.matching.evaluation import (
    PROTOCOLS,
    AucInterval,
    Protocol,
    bootstrap_auc,
    chance_models,
    pose_auc,
    relative_pose_errors,
)
from posejax.matching.five_point import five_point, upright_three_point
from posejax.matching.models import ModelEstimate, estimate_fundamental, estimate_homography
from posejax.matching.mutual import mutual_cells
from posejax.matching.relative_pose import (
    RelativePoseEstimate,
    estimate_relative_pose,
    refine_relative_pose,
)
from posejax.matching.sampling import (
    Matches,
    Pairing,
    all_matches,
    match_keypoints,
    mutual_nearest_neighbours,
    sample_matches,
)
from posejax.matching.search import Band, Epipolar, Full, Rows, Search, Window
from posejax.matching.solvers import eight_point, four_point, seven_point
from posejax.matching.two_view import (
    RelativePose,
    decompose_essential,
    pose_difference,
    pose_from_essential,
)
from posejax.matching.views import SCALES, VIEWS, View, ViewMatches, search_views

__all__ = [
    "PROTOCOLS",
    "SCALES",
    "VIEWS",
    "AucInterval",
    "Band",
    "Correspondence",
    "Epipolar",
    "Full",
    "Matches",
    "ModelEstimate",
    "Pairing",
    "Protocol",
    "RelativePose",
    "RelativePoseEstimate",
    "Rows",
    "Search",
    "View",
    "ViewMatches",
    "Window",
    "all_matches",
    "bootstrap_auc",
    "chance_models",
    "decompose_essential",
    "eight_point",
    "estimate_fundamental",
    "estimate_homography",
    "estimate_relative_pose",
    "expected_correspondence",
    "five_point",
    "four_point",
    "match_keypoints",
    "mutual_cells",
    "mutual_nearest_neighbours",
    "pose_auc",
    "pose_difference",
    "pose_from_essential",
    "refine_relative_pose",
    "relative_pose_errors",
    "sample_matches",
    "search_views",
    "seven_point",
    "upright_three_point",
]
