r"""Samplers: which examples make up the batch of a step.

A sampler is a pure function `(seed, step) -> (indices, mask)` on the host. Nothing is
saved and nothing advances: a run that resumes at step t asks for step t, and every
process that asks gets the same global plan. Random numbers come from a counter-based
generator keyed by (seed, step) or (seed, epoch).

Most samplers draw in two levels, a class from :math:`p \in \Delta^{K-1}` and then one
of its examples uniformly, which costs O(B log K) per step. With counts :math:`n_k`:

.. math::
    p_k \propto n_k^q \ (\text{power } q), \qquad
    p_k \propto n_k w_k \ (\text{class weights } w), \qquad
    p(e) = (1 - s)\, p^{q=1} + s\, p^{q=0}, \ s = \tfrac{e}{T-1}

An epoch is `N // B` steps for every sampler, so that budgets stay comparable.
"""

import functools

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_class_vector, check_range, check_whole
from ltjax.class_stats import count_labels, infer_num_classes, prior
from ltjax.resampling._plans import (
    Plan as Plan,
)
from ltjax.resampling._plans import (
    Sampler as Sampler,
)
from ltjax.resampling._plans import (
    always,
    class_index,
    draw_class_aware,
    draw_instance,
    draw_two_level,
    epoch_steps,
    interpolated,
    power_law,
)


def instance(
    num_examples: int,
    batch_size: int,
    *,
    remainder: str = "drop",
    labels: ArrayLike | None = None,
    num_classes: int | None = None,
) -> Sampler:
    """Instance-balanced sampling: every example once per epoch, in a new random order.

    Args:
        num_examples: N.
        batch_size: B.
        remainder: what happens to the N mod B examples left at the end of an epoch:
            "drop" leaves them out (other ones in every epoch), "pad" adds a last batch
            that is filled up with masked rows.
        labels: optional [N] int; only `Sampler.class_probabilities` needs them.
        num_classes: K, or None for the largest label + 1.

    Returns:
        Sampler with N // B steps per epoch ("pad": rounded up).

    Raises:
        ValueError: if B > N with remainder="drop", for an unknown remainder, or if
            there are not N labels in [0, K).

    Example:
        >>> indices, mask = instance(5, 3, remainder="pad")(seed=0, step=1)
        >>> indices.shape, mask.tolist()
        ((3,), [True, True, False])
    """
    check_choice("instance", "remainder", remainder, ("drop", "pad"))
    steps = epoch_steps("instance", num_examples, batch_size, remainder)
    draw = functools.partial(draw_instance, num_examples, batch_size, steps)
    if labels is None:
        return Sampler(draw, batch_size, steps)
    if num_classes is None:
        num_classes = infer_num_classes("instance", labels)
    counts = np.asarray(count_labels(labels, num_classes))
    if counts.sum() != num_examples:
        raise ValueError(
            f"instance: there are {counts.sum()} labels, but num_examples is"
            f" {num_examples}"
        )
    probabilities = functools.partial(always, np.asarray(prior(counts)))
    return Sampler(draw, batch_size, steps, probabilities)


def class_power(
    labels: ArrayLike, num_classes: int, batch_size: int, *, power: float
) -> Sampler:
    r"""Draws classes with probability :math:`p_k \propto n_k^q`, with replacement.

    Args:
        labels: [N] int, the labels of the training set.
        num_classes: K; classes without examples are never drawn.
        batch_size: B.
        power: q; 1 is instance-balanced, 0 class-balanced, 1/2 square-root sampling.

    Returns:
        Sampler with N // B steps per epoch.

    Raises:
        ValueError: if a label lies outside [0, K) or B > N.

    Example:
        >>> sampler = class_power([0, 0, 0, 1], 2, 4, power=0.5)
        >>> sampler(seed=0, step=0)[0].shape, sampler.steps_per_epoch
        ((4,), 1)

    References:
        Kang et al., "Decoupling Representation and Classifier for Long-Tailed
        Recognition", ICLR 2020, eq. 1.
    """
    check_range("class_power", "power", power)
    index = class_index("class_power", labels, num_classes)
    steps = epoch_steps("class_power", len(index.order), batch_size)
    probabilities = functools.partial(always, power_law(index.counts, power))
    draw = functools.partial(draw_two_level, index, probabilities, batch_size)
    return Sampler(draw, batch_size, steps, probabilities)


def class_balanced(labels: ArrayLike, num_classes: int, batch_size: int) -> Sampler:
    """Every class with the same probability: `class_power` with power 0.

    Args:
        labels: [N] int.
        num_classes: K.
        batch_size: B.

    Returns:
        Sampler with N // B steps per epoch.

    Raises:
        ValueError: if a label lies outside [0, K) or B > N.

    Example:
        >>> class_balanced([0, 0, 0, 1], 2, 2).steps_per_epoch
        2

    References:
        Kang et al., ICLR 2020, eq. 1 with q = 0.
    """
    return class_power(labels, num_classes, batch_size, power=0.0)


def square_root(labels: ArrayLike, num_classes: int, batch_size: int) -> Sampler:
    """Square-root sampling: `class_power` with power 1/2.

    Args:
        labels: [N] int.
        num_classes: K.
        batch_size: B.

    Returns:
        Sampler with N // B steps per epoch.

    Raises:
        ValueError: if a label lies outside [0, K) or B > N.

    Example:
        >>> square_root([0, 0, 0, 1], 2, 2).steps_per_epoch
        2

    References:
        Kang et al., ICLR 2020, eq. 1 with q = 1/2.
    """
    return class_power(labels, num_classes, batch_size, power=0.5)


def class_weighted(
    labels: ArrayLike, num_classes: int, batch_size: int, *, weights: ArrayLike
) -> Sampler:
    r"""Draws examples with probability proportional to the weight of their class.

    The class has probability :math:`p_k \propto n_k w_k`. With
    `class_balanced_weights(class_counts, beta=0.9999)` this is the second phase of
    deferred re-sampling (DRS), :math:`p_k \propto n_k / E_{n_k}`.

    Args:
        labels: [N] int.
        num_classes: K.
        batch_size: B.
        weights: [K] non-negative, per *example* of the class; the scale is irrelevant.

    Returns:
        Sampler with N // B steps per epoch, drawing with replacement.

    Raises:
        ValueError: if a label lies outside [0, K), B > N, or the weights are not K
            finite non-negative numbers of which one belongs to a non-empty class.

    Example:
        >>> sampler = class_weighted([0, 0, 0, 1], 2, 4, weights=[0.0, 1.0])
        >>> sampler(seed=0, step=0)[0]
        array([3, 3, 3, 3], dtype=int32)

    References:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
        Loss", NeurIPS 2019, sec. 4 (DRS). The released code builds this sampler but
        never attaches it to the loader.
    """
    check_class_vector("class_weighted", "weights", weights, num_classes)
    index = class_index("class_weighted", labels, num_classes)
    steps = epoch_steps("class_weighted", len(index.order), batch_size)
    mass = index.counts * np.asarray(weights, np.float64)
    if not (np.all(np.isfinite(mass)) and np.all(mass >= 0) and mass.sum() > 0):
        raise ValueError(
            "class_weighted: weights must be finite and >= 0, with one > 0 for a class"
            f" that has examples, but weights * class_counts are {mass}"
        )
    probabilities = functools.partial(always, np.asarray(prior(mass)))
    draw = functools.partial(draw_two_level, index, probabilities, batch_size)
    return Sampler(draw, batch_size, steps, probabilities)


def progressive(
    labels: ArrayLike, num_classes: int, batch_size: int, *, total_epochs: int
) -> Sampler:
    r"""Progressively balanced sampling: instance-balanced first, class-balanced last.

    .. math:: p(e) = \Big(1 - \frac{e}{T-1}\Big) p^{q=1} + \frac{e}{T-1}\, p^{q=0}

    with the 0-based epoch e = step // (N // B); from epoch T - 1 on it stays balanced.

    Args:
        labels: [N] int.
        num_classes: K.
        batch_size: B.
        total_epochs: T >= 1, in epochs; T = 1 is instance-balanced.

    Returns:
        Sampler with N // B steps per epoch, drawing with replacement.

    Raises:
        ValueError: if a label lies outside [0, K), B > N or T < 1.

    Example:
        >>> progressive([0, 0, 0, 1], 2, 2, total_epochs=90).steps_per_epoch
        2

    References:
        Kang et al., ICLR 2020, eq. 2. The paper divides by T, the released code by
        T - 1; we follow the code.
    """
    check_whole("progressive", "total_epochs", total_epochs, low=1)
    index = class_index("progressive", labels, num_classes)
    steps = epoch_steps("progressive", len(index.order), batch_size)
    ends = power_law(index.counts, 1), power_law(index.counts, 0)
    probabilities = functools.partial(interpolated, *ends, steps, int(total_epochs))
    draw = functools.partial(draw_two_level, index, probabilities, batch_size)
    return Sampler(draw, batch_size, steps, probabilities)


def class_aware(labels: ArrayLike, num_classes: int, batch_size: int) -> Sampler:
    """Class-balanced sampling without replacement: cycles of classes and of examples.

    Classes are visited in random order, each once per cycle. A visit takes the next 4
    items of the class's own shuffled cycle, which is reshuffled when it wraps around.
    Same expectation as `class_balanced`, lower variance. Visits run on across batches
    and epochs.

    Args:
        labels: [N] int.
        num_classes: K; classes without examples are not visited.
        batch_size: B.

    Returns:
        Sampler with N // B steps per epoch.

    Raises:
        ValueError: if a label lies outside [0, K) or B > N.

    Example:
        >>> indices, _ = class_aware([0] * 8 + [1], 2, 8)(seed=0, step=0)
        >>> int((indices == 8).sum())
        4

    References:
        Kang et al., ICLR 2020, released code (class-aware sampler, 4 items per visit).
        We do not offer its in-batch shuffle.
    """
    index = class_index("class_aware", labels, num_classes)
    steps = epoch_steps("class_aware", len(index.order), batch_size)
    draw = functools.partial(draw_class_aware, index, batch_size)
    # Exact over a cycle of visits; within a batch the shares only fluctuate less.
    probabilities = functools.partial(always, power_law(index.counts, 0))
    return Sampler(draw, batch_size, steps, probabilities)
