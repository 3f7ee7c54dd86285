"""Using a trained network: predictions on new inputs, and files for other programs."""

from ltjax.serving.export import FORMATS, export
from ltjax.serving.loading import load
from ltjax.serving.predictor import Predictor

__all__ = ["FORMATS", "Predictor", "export", "load"]
