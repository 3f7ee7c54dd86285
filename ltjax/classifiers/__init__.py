"""Classifiers: what the last layer is, and how it is corrected after training."""

from ltjax.classifiers.frames import (
    Frame,
    grassmannian_frame,
    orthonormal_columns,
    simplex_etf,
)

__all__ = [
    "Frame",
    "grassmannian_frame",
    "orthonormal_columns",
    "simplex_etf",
]
