"""Reports for people: the skeleton of all systems' reports, figures, and the statistics in them."""

from posejax.report.cloud import Cloud
from posejax.report.contents import (
    Card,
    Condition,
    Fold,
    Picture,
    Plot,
    Table,
    Track,
    condition,
    pictures,
)
from posejax.report.figures import (
    COLORS,
    agreement,
    binned_error,
    calibration_plot,
    curves,
    error_cdf,
    risk_plot,
    tidy,
    time_curves,
)
from posejax.report.page import Page, figure_jpeg, figure_pixels, figure_png
from posejax.report.rasters import Marker, confidence_ellipse, heat_map
from posejax.report.skeleton import Report, write
from posejax.report.statistics import (
    bootstrap_interval,
    chi_square_cdf,
    chi_square_quantile,
    cluster_bootstrap,
    coverage_curve,
    risk_coverage,
    squared_mahalanobis,
)
from posejax.report.text import Share, markdown_table, number, percent

__all__ = [
    "COLORS",
    "Card",
    "Cloud",
    "Condition",
    "Fold",
    "Marker",
    "Page",
    "Picture",
    "Plot",
    "Report",
    "Share",
    "Table",
    "Track",
    "agreement",
    "binned_error",
    "bootstrap_interval",
    "calibration_plot",
    "chi_square_cdf",
    "chi_square_quantile",
    "cluster_bootstrap",
    "condition",
    "confidence_ellipse",
    "coverage_curve",
    "curves",
    "error_cdf",
    "figure_jpeg",
    "figure_pixels",
    "figure_png",
    "heat_map",
    "markdown_table",
    "number",
    "percent",
    "pictures",
    "risk_coverage",
    "risk_plot",
    "squared_mahalanobis",
    "tidy",
    "time_curves",
    "write",
]
