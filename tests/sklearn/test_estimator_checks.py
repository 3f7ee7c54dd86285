"""scikit-learn's and imbalanced-learn's own checks, on every estimator."""

import pytest
from imblearn.utils import estimator_checks as imblearn_checks
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import estimator_checks_generator

from ltjax.sklearn import (
    COG,
    SMOTE,
    BorderlineSMOTE,
    LogitAdjustedClassifier,
    PlugInClassifier,
    RandomUnderSampler,
    ThresholdMover,
    TunedThreshold,
)

CLUSTERED = COG(
    LogisticRegression(C=1), num_clusters=2, oversample=True, rule="sum", random_state=0
)
ESTIMATORS = [
    SMOTE(random_state=0),
    BorderlineSMOTE(random_state=0),
    RandomUnderSampler(random_state=0),
    TunedThreshold(num_folds=2),
    COG(random_state=0),
    CLUSTERED,
    PlugInClassifier(),
    ThresholdMover(),
    LogitAdjustedClassifier(),
]


def named(check):
    function = getattr(check, "func", check)
    return function.__name__.removeprefix("check_")


# Folds are dealt by example: a weight of 2 is not a second example in another fold, as
# in scikit-learn's own tuned threshold. The last one has three classes.
NOT_FOR_FOLDS = {
    "sample_weight_equivalence_on_dense_data",
    "sample_weight_equivalence_on_sparse_data",
    "classifiers_with_encoded_labels",
}


# Close relatives of others in the list.
SLOW = (BorderlineSMOTE, COG, ThresholdMover)


def cases(generator):
    return [
        pytest.param(
            instance,
            check,
            id=f"{instance}-{named(check)}",
            marks=pytest.mark.slow
            if isinstance(estimator, SLOW) and estimator is not CLUSTERED
            else (),
        )
        for estimator in ESTIMATORS
        for instance, check in generator(estimator)
        if not (isinstance(estimator, TunedThreshold) and named(check) in NOT_FOR_FOLDS)
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), cases(estimator_checks_generator))
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "check"), cases(imblearn_checks.estimator_checks_generator)
)
def test_imbalanced_learn(estimator, check):
    check(estimator)
