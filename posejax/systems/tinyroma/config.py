"""Options of the matching system but its data: network, matches and pose, objective."""

import dataclasses
from typing import Literal

from posejax.config import ConfigError, check_range

Norm = Literal["instance", "image", "batch", "none"]


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Where the partner of a cell is looked for; in cells of stride 8.

    Attributes:
      kind: "full" image; "rows", the same row, for rectified pairs; "band", nearly the same row.
      rows: "band": this many rows above and below.
      columns: "rows" and "band": bounds of x_b - x_a; the left image's partners in the right one
        are at (-largest disparity / 8, 0). None for the whole row.
    """

    kind: Literal["full", "rows", "band"] = "full"
    rows: int = 1
    columns: tuple[float, float] | None = None

    def check(self) -> None:
        """Raise ConfigError for bounds that no cell meets, or that the kind does not look at."""
        at = "system.model.search"
        check_range(f"{at}.rows", self.rows, 0)
        if self.kind != "band" and self.rows != SearchConfig.rows:
            raise ConfigError(f"{at}.rows: {self.rows}; expected --{at}.kind band with it")
        if self.columns is None:
            return
        if self.kind == "full":
            raise ConfigError(f"{at}.columns: {self.columns}; expected --{at}.kind rows or band")
        if not self.columns[0] <= self.columns[1]:
            raise ConfigError(f"{at}.columns: {self.columns}; expected the lower bound first")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network; all but `width` and `matcher` are forms of one set of parameters.

    Attributes:
      backbone: XFeat's weights that a training starts from, or a folder with one such file: batch
        norms folded (as in public exports) or not; .npz, .safetensors or .pth.
      weights: Tiny RoMa's weights that a training starts from, 112 tensors under PyTorch's names.
      fine: refine the warp at stride 4; without, it is that of stride 8, enlarged.
      upsample: "transposed" for convolutions in place of interpolation; the values are the same.
      norm: of the grey input; see `layers.InputNorm`.
      sampling: features of B where the warp points: "bilinear", or "gather" the nearest.
      coarse_passes: how often the coarse matcher runs, each time from where it arrived.
      width: factor of the trunk's channels; the released weights fit 1 alone.
      matcher: channels of the coarse matcher, two thirds of the network's work at 256, those of the
        released weights.
      search: where partners are looked for.
      mode: of the softmax; "official_fast" is the approximation of the released inference.
      symmetric: also match B to A, from the same correlations and with the same weights. With
        `data.both_ways` the loss is the mean of both ways'; without, it is that of A to B alone,
        and `data.augment.swap` shows the network either order.
      refine: expectation only over so many cells around the best one; None for all cells, as the
        released weights want it.
      temperature: of the softmax; None for sqrt(channels).
      frozen_norm: the trunk normalises by its running statistics in training, too. Weights with
        folded norms start with mean -bias and variance 1, which only so remain what they are; small
        batches are right with it as well.
      zero_out: matchers start by changing nothing, so that training starts at the expectation.
      bfloat16: activations in bfloat16; positions and losses stay float32.
    """

    backbone: str | None = None
    weights: str | None = None
    fine: bool = True
    upsample: Literal["bilinear", "transposed"] = "bilinear"
    norm: Norm = "instance"
    sampling: Literal["bilinear", "gather"] = "bilinear"
    coarse_passes: int = 1
    width: float = 1.0
    matcher: int = 256
    search: SearchConfig = SearchConfig()
    mode: Literal["exact", "official_fast"] = "exact"
    symmetric: bool = False
    refine: int | None = None
    temperature: float | None = None
    frozen_norm: bool = False
    zero_out: bool = False
    bfloat16: bool = False

    def check(self) -> None:
        """Raise ConfigError for settings out of range, or that do not fit one another."""
        at = "system.model"
        self.search.check()
        check_range(f"{at}.coarse_passes", self.coarse_passes, 1)
        check_range(f"{at}.width", self.width, 0, above=True)
        check_range(f"{at}.matcher", self.matcher, 1)
        if self.refine is not None:
            check_range(f"{at}.refine", self.refine, 0)
        if self.temperature is not None:
            check_range(f"{at}.temperature", self.temperature, 0, above=True)
        if self.backbone and self.weights:
            raise ConfigError(
                f"{at}.backbone and {at}.weights: give one of them; the weights hold a trunk of "
                "their own"
            )
        if self.width != 1 and (self.backbone or self.weights):
            name = "backbone" if self.backbone else "weights"
            raise ConfigError(f"{at}.{name}: published weights fit width 1 alone")
        if self.matcher != 256 and self.weights:
            raise ConfigError(f"{at}.weights: published weights fit matcher 256 alone")
        one_way = self.search.kind != "full" or self.symmetric or self.refine is not None
        if self.mode == "official_fast" and one_way:
            raise ConfigError(
                f"{at}.mode: 'official_fast' is a full search, one way, without refine"
            )


@dataclasses.dataclass(frozen=True)
class MatchConfig:
    """From the warp to matches and the relative pose.

    Attributes:
      count: matches at most; the most certain cell of each block of the image.
      min_certainty: cells below are no matches.
      consistency: pixels between a cell and where B's warp sends its partner back to, at most;
        needs model.symmetric. None for no such test.
      threshold: pixels of the Sampson distance; see `posejax.matching.estimate_relative_pose`. The
        covariance holds for matches whose noise is below half of it, and is too small above.
      score: of the robust estimate.
      iterations: minimal samples at most.
      confidence: at which the estimate stops early.
    """

    count: int = 1024
    min_certainty: float = 0.05
    consistency: float | None = None
    threshold: float = 1.0
    score: Literal["truncated", "marginalised"] = "truncated"
    iterations: int = 1024
    confidence: float = 0.9999

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        for name in ("count", "iterations"):
            check_range(f"system.match.{name}", getattr(self, name), 1)
        check_range("system.match.min_certainty", self.min_certainty, 0, 1)
        check_range("system.match.threshold", self.threshold, 0, above=True)
        if self.consistency is not None:
            check_range("system.match.consistency", self.consistency, 0, above=True)
        if not 0 < self.confidence < 1:
            found = f"system.match.confidence: {self.confidence}"
            raise ConfigError(f"{found}; expected more than 0 and less than 1")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The loss of Tiny RoMa; lengths in halves of image B, as the flow (see `objective`).

    The defaults are those of images 1024 pixels wide. With images of 320 the same lengths are a
    third as many pixels: hardly a cell is `certain` then, and no match is left.

    Attributes:
      alpha: power that large errors count with.
      c: errors below c * stride count as squares.
      certainty_weight: of the certainty's cross-entropy.
      certain: a cell is to be certain if its error is below certain * stride.
      reach: at stride 4 cells that are farther off are not taught.
      contrast: weight of -log p(true cell of B), p the softmax that the coarse warp starts from.
        It teaches the trunk which cell is right, of which an expectation around the best cell
        (`model.refine`) says nothing. The original has none.
    """

    alpha: float = 0.15
    c: float = 1e-4
    certainty_weight: float = 0.01
    certain: float = 1e-3
    reach: float = 0.0625
    contrast: float = 0.0

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        for name in ("alpha", "c", "certain", "reach"):
            check_range(f"system.objective.{name}", getattr(self, name), 0, above=True)
        for name in ("certainty_weight", "contrast"):
            check_range(f"system.objective.{name}", getattr(self, name), 0)
