r"""Errors under common corruptions: how their cases are numbered, and the mean error.

.. math:: \mathrm{CE}_c = \frac{\sum_s E_{s,c}}{\sum_s E^0_{s,c}}, \qquad
          \mathrm{mCE} = \mathrm{mean}_c\, \mathrm{CE}_c

with the errors E at severity s and those of a baseline, :math:`E^0`.
"""

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_rank

SEVERITIES = (1, 2, 3, 4, 5)
# In the order of the case numbers; `ltjax.data.corruptions` makes them.
CORRUPTION_NAMES = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur"),
    *("fog", "brightness", "contrast", "saturate", "pixelate", "jpeg", "elastic"),
)


def corruption_case(name: str, severity: int) -> int:
    """The number of a corruption at a severity; 0 is the clean image.

    Args:
        name: one of `CORRUPTION_NAMES`.
        severity: 1 to 5.

    Returns:
        The number.

    Example:
        >>> corruption_case("gaussian_noise", 1), corruption_case("shot_noise", 1)
        (1, 6)
    """
    return 1 + len(SEVERITIES) * CORRUPTION_NAMES.index(name) + severity - 1


def case_name(case: int) -> tuple[str, int]:
    """The corruption and severity of a number of `corruption_case`.

    Args:
        case: the number.

    Returns:
        (name, severity), ("", 0) for the clean image.

    Example:
        >>> case_name(7)
        ('shot_noise', 2)
    """
    if case == 0:
        return "", 0
    number, place = divmod(int(case) - 1, len(SEVERITIES))
    return CORRUPTION_NAMES[number], SEVERITIES[place]


def mean_corruption_error(errors: ArrayLike, baseline: ArrayLike) -> np.ndarray:
    """Errors relative to a baseline's, summed over severities, meaned over corruptions.

    Args:
        errors: [..., C, S] of C corruptions at S severities.
        baseline: [C, S], of another classifier.

    Returns:
        [...] float64; below 1 is better than the baseline.

    Raises:
        ValueError: if the shapes disagree.

    Example:
        >>> ours, theirs = [[0.1, 0.3], [0.2, 0.2]], [[0.4, 0.4], [0.2, 0.2]]
        >>> float(mean_corruption_error(ours, theirs))
        0.75

    References:
        Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
        Corruptions and Perturbations", ICLR 2019, section 4.
    """
    ours, theirs = np.asarray(errors, np.float64), np.asarray(baseline, np.float64)
    check_rank("mean_corruption_error", "baseline", theirs, 2, "[C, S]")
    if ours.shape[-2:] != theirs.shape:
        raise ValueError(
            f"mean_corruption_error: errors have shape {ours.shape}, expected [...,"
            f" {theirs.shape[0]}, {theirs.shape[1]}] as the baseline"
        )
    return (ours.sum(axis=-1) / theirs.sum(axis=-1)).mean(axis=-1)
