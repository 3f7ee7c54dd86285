"""The classical methods with the interface of scikit-learn.

Samplers (`fit_resample`) for imbalanced-learn's pipelines, and classifiers that wrap
any scikit-learn classifier. All are thin: the mathematics is in `ltjax.resampling` and
`ltjax.classifiers`.
"""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:  # pragma: no cover - tested in a subprocess
    raise ImportError(
        "ltjax.sklearn needs scikit-learn, which is an optional dependency:"
        " pip install 'ltjax[sklearn]'"
    ) from error

from ltjax.sklearn.cog import COG
from ltjax.sklearn.posthoc import (
    LogitAdjustedClassifier,
    PlugInClassifier,
    ThresholdMover,
)
from ltjax.sklearn.random_sampling import RandomOverSampler, RandomUnderSampler
from ltjax.sklearn.smote import ADASYN, SMOTE, BorderlineSMOTE, SmoothedBootstrap
from ltjax.sklearn.smote_nominal import SMOTEN, SMOTENC
from ltjax.sklearn.threshold import TunedThreshold

__all__ = [
    "ADASYN",
    "BorderlineSMOTE",
    "COG",
    "LogitAdjustedClassifier",
    "PlugInClassifier",
    "RandomOverSampler",
    "RandomUnderSampler",
    "SMOTE",
    "SMOTEN",
    "SMOTENC",
    "SmoothedBootstrap",
    "ThresholdMover",
    "TunedThreshold",
]
