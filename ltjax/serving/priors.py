r"""Class priors of predictions: which one a network answers for, and for another one.

Training with the loss :math:`w_y \, \mathrm{CE}(z + b, y)` on classes that are drawn
with :math:`p_y` makes the softmax of the network's own logits the posterior under

.. math::
    q_y \propto p_y \, w_y \, e^{-b_y}, \qquad
    \mathrm{softmax}(z)_y \approx
    \frac{q_y \, P(x|y)}{\sum_k q_k \, P(x|k)}

With cross-entropy q is the prior of the training set. With logit adjustment
(:math:`b = \tau \log \pi`, :math:`\tau = 1`), balanced softmax, class-balanced sampling
or inverse-frequency weights it is uniform. For a prior t in its place the logits
become :math:`z_y + \log t_y - \log q_y`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from ltjax.methods.method import Method
from ltjax.options import nearest
from ltjax.resampling.samplers import Sampler

PRIORS = ("uniform", "train")

Prior = str | ArrayLike | Mapping[str, float]


def implied_prior(method: Method, sampler: Sampler, state: Any) -> np.ndarray | None:
    """The prior under which the softmax of a network's own logits is a posterior.

    Args:
        method: whose `adjustment` says what the loss was.
        sampler: which classes it was trained on.
        state: of one replica. Its last step counts: a deferred weight, or a sampler
            that takes over, has then taken effect.

    Returns:
        [K] float64 that sum to 1, or None if the loss is not of the form
        weight_y CE(z + shift, y): margins, focusing, class-dependent temperatures and
        several experts leave no posterior of any prior. Nor does a sampler that does
        not know the classes.
    """
    if method.adjustment is None or sampler.probabilities is None:
        return None
    last = max(int(state.step) - 1, 0)
    state = state.replace(step=np.int32(last))
    drawn = sampler.class_probabilities(last)
    weight, scale, shift = (
        np.broadcast_to(np.asarray(part, np.float64), drawn.shape)
        for part in method.adjustment(state)
    )
    if not np.allclose(scale, 1.0):
        return None
    found = np.log(drawn) + np.log(weight) - shift
    found = np.exp(found - found.max())
    return found / found.sum()


def read_prior(
    caller: str,
    name: str,
    prior: Prior,
    class_counts: np.ndarray,
    class_names: Sequence[str],
) -> np.ndarray:
    """A prior as numbers.

    Args:
        caller: for messages.
        name: of the argument, for messages.
        prior: "uniform", "train" (that of `class_counts`), [K] numbers that need not
            sum to 1, or a mapping from every class name to one.
        class_counts: [K].
        class_names: K names.

    Returns:
        [K] float64 that sum to 1.

    Raises:
        ValueError: for another word, an unknown or missing class, another number of
            classes, or numbers that are negative, not finite, or all 0.

    Example:
        >>> read_prior("f", "prior", "train", np.array([3, 1]), ("a", "b")).tolist()
        [0.75, 0.25]
    """
    count = len(class_counts)
    if isinstance(prior, str):
        if prior not in PRIORS:
            raise ValueError(
                f"{caller}: {name} is {prior!r}, expected {count} numbers or one of the"
                f" words{nearest(prior, PRIORS)}"
            )
        told = np.ones(count) if prior == "uniform" else np.asarray(class_counts)
    elif isinstance(prior, Mapping):
        told = _by_name(caller, name, prior, class_names)
    else:
        told = np.asarray(prior)
    if told.shape != (count,) or told.dtype.kind not in "iuf":
        raise ValueError(
            f"{caller}: {name} has shape {told.shape} and dtype {told.dtype}, expected"
            f" {count} numbers, one for each class"
        )
    told = told.astype(np.float64)
    bad = ~np.isfinite(told) | (told < 0)
    if bad.any() or not told.any():
        where = int(np.argmax(bad))
        fault = f"{told[where]} for class {class_names[where]!r}" if bad.any() else "0"
        raise ValueError(
            f"{caller}: {name} is {fault}, expected numbers >= 0 that are not all 0"
        )
    return told / told.sum()


def _by_name(caller: str, name: str, prior: Mapping, class_names: Sequence[str]):
    for key in prior:
        if key not in class_names:
            raise ValueError(
                f"{caller}: {name} names the class {key!r}, unknown"
                f"{nearest(key, class_names)}"
            )
    missing = [key for key in class_names if key not in prior]
    if missing:
        raise ValueError(
            f"{caller}: {name} has no number for class {missing[0]!r}"
            f" ({len(missing)} missing), expected one for each class"
        )
    return np.asarray([prior[key] for key in class_names])
