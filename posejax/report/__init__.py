"""Reports for people: self-contained pages, figures and the statistics in them."""

from posejax.report.figures import (
    COLORS,
    Marker,
    binned_error,
    calibration_plot,
    confidence_ellipse,
    curves,
    error_cdf,
    heat_map,
    tidy,
)
from posejax.report.page import Page, figure_png
from posejax.report.statistics import (
    bootstrap_interval,
    chi_square_cdf,
    chi_square_quantile,
    coverage_curve,
    squared_mahalanobis,
)
from posejax.report.text import markdown_table, number, percent

__all__ = [
    "COLORS",
    "Marker",
    "Page",
    "binned_error",
    "bootstrap_interval",
    "calibration_plot",
    "chi_square_cdf",
    "chi_square_quantile",
    "confidence_ellipse",
    "coverage_curve",
    "curves",
    "error_cdf",
    "figure_png",
    "heat_map",
    "markdown_table",
    "number",
    "percent",
    "squared_mahalanobis",
    "tidy",
]
