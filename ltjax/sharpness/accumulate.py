"""Sharp gradients of a batch that does not fit in memory at once."""

from collections.abc import Callable
from typing import Any

from ltjax._checks import check_choice
from ltjax.sharpness.gradient import Gradient
from ltjax.sharpness.groups import (
    fold_in,
    group_count,
    mean_state,
    merge_aux,
    merge_rows,
    split,
    sum_and_stack,
)
from ltjax.sharpness.passes import (
    FirstPass,
    Rules,
    assemble,
    first_pass,
    normalize_gaps,
    pulled,
)
from ltjax.sharpness.perturb import check_parameters


def accumulated_value_and_grad(
    loss_fn: Callable,
    *,
    microbatch: int,
    loop: str = "scan",
    scale: Callable[[Any], Any] | None = None,
    mask: Any = None,
    stats: str = "first",
    delta: float = 1e-12,
    compute_dtype: Any = None,
) -> Gradient:
    """`sharp_value_and_grad` over micro-batches, one in memory at a time.

    Two sweeps: the first accumulates every term's ascent gradient (and the unperturbed
    terms' gradient), then each perturbation is formed once, then the second accumulates
    the descent gradients. That is the gradient of the whole batch if the model does not
    couple rows. (A perturbation of its own for each micro-batch, m-sharpness, is
    `sharp_value_and_grad(scope=m)`.)

    Args:
        loss_fn: as for `sharp_value_and_grad`.
        microbatch: rows of a micro-batch; divides the batch.
        loop: "scan" (one program for all micro-batches) or "unroll" (a longer program;
            use it for convolutions on CPU, which are slow inside loops).
        scale: as for `sharp_value_and_grad`.
        mask: as for `sharp_value_and_grad`.
        stats: as for `sharp_value_and_grad`; a pass's new model state is the mean of
            those of its micro-batches, which all read the same one.
        delta: as for `sharp_value_and_grad`.
        compute_dtype: as for `sharp_value_and_grad`.

    Returns:
        f(params, model_state, batch, rng, terms) -> (`SharpOutput`, gradient), where
        `terms` are arrays: the weights of the whole batch. Micro-batch i folds i into
        `rng`.

    Raises:
        ValueError: for an unknown loop, or sizes that do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from ltjax.sharpness.terms import sam
        >>> def loss_fn(w, model_state, batch, rng):
        ...     return 0.5 * (batch @ w**2), {}
        >>> batch = jnp.array([[3.0, 1.0], [1.0, 5.0]])
        >>> value_and_grad = accumulated_value_and_grad(loss_fn, microbatch=1)
        >>> out, gradient = value_and_grad(jnp.array([1.0, -1.0]), None, batch, None,
        ...                                sam(2, rho=0.1))
        >>> [f"{slope:.4f}" for slope in gradient]
        ['2.1109', '-3.2496']
    """
    caller = "accumulated_value_and_grad"
    check_choice(caller, "loop", loop, ("scan", "unroll"))
    check_choice(caller, "stats", stats, ("first", "every", "none"))
    rules = Rules(
        loss_fn=loss_fn,
        scale=scale,
        mask=mask,
        stats=stats,
        delta=delta,
        rows_independent=False,
        blocks=1,
        compute_dtype=compute_dtype,
    )

    def value_and_grad(params, model_state, batch, rng, terms):
        check_parameters(caller, params)
        count = group_count(batch, terms, microbatch)
        numbers, batches, slices = split(batch, tuple(terms), count)

        def ascend(number, batch, terms):
            key = fold_in(rng, number)
            first = first_pass(rules, params, model_state, batch, key, terms)
            return (first.plain, first.ascents), (first.losses, first.aux)

        (gradient, ascents), (losses, aux) = sum_and_stack(
            ascend, (numbers, batches, slices), count, loop
        )
        first = FirstPass(
            losses=merge_rows(losses),
            aux=merge_aux(aux),
            plain=gradient,
            ascents=ascents,
            terms=tuple(terms),
        )

        def at(perturbed, state, _, k):
            def descend(number, batch, weights):
                def loss(theta, state, key):
                    return loss_fn(theta, state, batch, key)

                key = fold_in(rng, number)
                summand, losses, after = pulled(loss, perturbed, state, key, weights)
                return summand, (losses, after)

            summand, (losses, after) = sum_and_stack(
                descend, (numbers, batches, slices[k].descent), count, loop
            )
            return summand, merge_rows(losses), mean_state(after)

        out, gradient = assemble(rules, params, model_state, first, at)
        return normalize_gaps(out, first.terms), gradient

    return value_and_grad
