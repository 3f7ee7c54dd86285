"""Reports of finished runs: tables, figures and one HTML page.

Importing this needs numpy only; matplotlib (and jax, for the metrics) are imported when
a figure or a table is made.
"""

from ltjax.report.build import write_report
from ltjax.report.collapse import plot_class_cosines, plot_collapse
from ltjax.report.diagrams import plot_confusion, plot_reliability
from ltjax.report.frames import to_dataframe
from ltjax.report.landscape import plot_slices
from ltjax.report.paths import plot_accuracy_paths
from ltjax.report.plots import plot_class_accuracy, plot_training_curves
from ltjax.report.reading import ReportError, read_metrics, read_run
from ltjax.report.runs import Run, group_runs
from ltjax.report.spectra import plot_spectra
from ltjax.report.style import method_styles
from ltjax.report.tables import (
    csv_table,
    markdown_grid,
    markdown_table,
    results_csv,
)

__all__ = [
    "ReportError",
    "Run",
    "csv_table",
    "group_runs",
    "markdown_grid",
    "markdown_table",
    "method_styles",
    "plot_accuracy_paths",
    "plot_class_accuracy",
    "plot_class_cosines",
    "plot_collapse",
    "plot_confusion",
    "plot_reliability",
    "plot_slices",
    "plot_spectra",
    "plot_training_curves",
    "read_metrics",
    "read_run",
    "results_csv",
    "to_dataframe",
    "write_report",
]
