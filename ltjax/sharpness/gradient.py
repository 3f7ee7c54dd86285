r"""`sharp_value_and_grad`: one function that takes the gradient of every method.

A method is a list of terms (`ltjax.sharpness.terms`); this executes it. It has the
shape of `jax.value_and_grad`, so that model state, clipping, accumulation and the
optimizer stay where they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice
from ltjax.sharpness.groups import over_microbatches, over_shards
from ltjax.sharpness.passes import Rules, SharpOutput, normalize_gaps, sharp_step
from ltjax.sharpness.perturb import check_parameters

Gradient = Callable[..., tuple[SharpOutput, Any]]


def sharp_value_and_grad(
    loss_fn: Callable,
    *,
    scale: Callable[[Any], Any] | None = None,
    mask: Any = None,
    stats: str = "first",
    scope: str | int = "global",
    delta: float = 1e-12,
    rows_independent: bool = False,
    blocks: int = 1,
    mesh: jax.sharding.Mesh | None = None,
    axis: str | tuple[str, ...] | None = None,
    loop: str = "vmap",
    compute_dtype: Any = None,
) -> Gradient:
    r"""Gradient of a list of terms (ascent weights, descent weights, radius).

    .. math:: \sum_k \nabla \Big[\sum_i d_{k,i}\, \ell_i\Big](\theta + \epsilon_k),
              \qquad \epsilon_k = \rho_k\, D^2 g_k / (\|D g_k\| + \delta), \quad
              g_k = \nabla \Big[\sum_i a_{k,i}\, \ell_i\Big](\theta)

    There is one forward pass at theta, whose vjp is called once per term; a single
    unperturbed term costs exactly a plain gradient. Everything is differentiated in the
    parameters' float32 (or float64), the perturbation is a constant, and a zero ascent
    gradient gives a zero perturbation. Weight decay belongs to the optimizer; see
    `with_weight_decay` for the papers that perturb it.

    Args:
        loss_fn: (params, model_state, batch, rng) -> (losses, aux). losses: [B] floats
            or a dict of such vectors by part; aux: dict with the new "model_state",
            "outputs", and what else the caller needs from the first pass.
        scale: function params -> D, e.g. `asam()`; None is D = 1 (SAM).
        mask: tree of Python bools, or function params -> such a tree. False leaves are
            left out of the norm and not perturbed; they still get a gradient.
        stats: which passes update the model state (BatchNorm). "first": only the one at
            theta, and every pass reads the input state; "every": each pass reads what
            the previous one left, theta first, then the terms in order; "none": the
            input state is returned.
        scope: which rows share a perturbation. "global": the batch; an int m: each
            micro-batch of m consecutive rows (m-sharpness); "shard": the rows of each
            device along `axis` of `mesh`. Groups' gradients are summed (the weights are
            those of the whole batch), their model states averaged; BatchNorm then
            normalizes within a group, and each group folds its number into `rng`.
        delta: guards the division by the norm.
        rows_independent: the gradient of a row's loss does not depend on the other
            rows. Then a term whose weight vectors have length K < B runs on the first K
            rows of every batch leaf (see `ltjax.sharpness.compaction`).
        blocks: with compaction, the number of equal blocks of rows, one per device;
            "the first K rows" are then the first K / blocks of every block. (Dropout
            draws the full batch's noise for them only with one block.)
        mesh: for scope="shard".
        axis: for scope="shard": mesh axis, or axes, of the batch; default all.
        loop: how an int scope runs the micro-batches: "vmap" (fastest, one gradient per
            group in memory), "scan" (sequential, for accelerators; convolutions inside
            loops are slow on CPU), or "unroll".
        compute_dtype: dtype the model computes in. Below float32, each term reports the
            "cosine" between the intended perturbation and what is left of it after
            rounding; see `realized_perturbation`.

    Returns:
        f(params, model_state, batch, rng, terms) -> (`SharpOutput`, gradient).
        gradient has the structure and dtypes of params. terms: tuple of `Term`, or a
        function aux -> terms called once after the first pass (scope="global" only). A
        new value of rho, or of the weights, is no new program; another number of terms,
        another None, or another row count is.

    Raises:
        TypeError: for parameters below float32.
        ValueError: for an unknown option, weights that do not fit the losses, or
            compaction of a model that does not declare `rows_independent`.

    Example:
        >>> from ltjax.sharpness.terms import sam
        >>> def loss_fn(w, model_state, batch, rng):
        ...     return 0.5 * (batch @ w**2), {}
        >>> value_and_grad = sharp_value_and_grad(loss_fn)
        >>> batch = jnp.array([[4.0, 1.0]])  # one example, w'diag(4,1)w / 2
        >>> out, gradient = value_and_grad(jnp.array([1.0, 2.0]), None, batch, None,
        ...                                sam(1, rho=0.1))
        >>> print(out.loss, gradient)
        4.0 [4.357771  2.0447214]

    Limits: rho=0 gives the plain gradient.

    References:
        Foret et al., ICLR 2021; Kwon et al., ICML 2021; Liu et al., ICLR 2022; Zhou et
        al., ICCV 2023; Lyu et al., AAAI 2025; Li et al., ICML 2025. Against the
        released PyTorch codes: BatchNorm's running statistics are those of the first
        pass, as in google-research/sam (theirs: stats="every"), and a zero gradient is
        safe.
    """
    caller = "sharp_value_and_grad"
    check_choice(caller, "stats", stats, ("first", "every", "none"))
    check_choice(caller, "loop", loop, ("vmap", "scan", "unroll"))
    rules = Rules(
        loss_fn=loss_fn,
        scale=scale,
        mask=mask,
        stats=stats,
        delta=delta,
        rows_independent=rows_independent,
        blocks=blocks,
        compute_dtype=compute_dtype,
    )

    def step(*arguments):
        return sharp_step(rules, *arguments)

    if scope == "global":
        run = step
    elif scope == "shard":
        run = over_shards(step, mesh, axis)
    elif isinstance(scope, int) and not isinstance(scope, bool) and scope > 0:
        run = over_microbatches(step, scope, loop)
    else:
        raise ValueError(
            f'{caller}: scope is {scope!r}, expected "global", "shard" or a positive'
            " number of rows"
        )

    def value_and_grad(params, model_state, batch, rng, terms):
        check_parameters(caller, params)
        if not callable(terms):
            terms = tuple(terms)
            if not terms:
                raise ValueError(f"{caller}: terms is empty, expected at least one")
        out, gradient, terms = run(params, model_state, batch, rng, terms)
        return normalize_gaps(out, terms), gradient

    return value_and_grad


def with_weight_decay(
    loss_fn: Callable, weight_decay: ArrayLike, *, part: str | None = None
) -> Callable:
    r"""Puts an L2 penalty inside the perturbed loss.

    .. math:: \ell_i'(\theta) = \ell_i(\theta) + \tfrac12 \lambda \|\theta\|^2

    The decay then takes part in the ascent direction and is evaluated at theta + eps in
    the descent. This is another algorithm than decay in the optimizer, which is the
    default everywhere else.

    Args:
        loss_fn: as for `sharp_value_and_grad`.
        weight_decay: lambda >= 0, may be traced; all parameters are decayed.
        part: with losses in several parts, the one that carries the penalty.

    Returns:
        A loss function of the same signature.

    Raises:
        ValueError: (when called) if the losses have several parts and none is named.

    Example:
        >>> loss_fn = with_weight_decay(lambda w, s, b, r: (jnp.zeros(1), {}), 0.5)
        >>> print(loss_fn(jnp.array([2.0]), None, None, None)[0])
        [1.]

    References:
        google-research/sam (L2 inside); the PyTorch codes have it in the optimizer.
    """

    def penalized(params, model_state, batch, rng, **frozen):
        losses, aux = loss_fn(params, model_state, batch, rng, **frozen)
        squares = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))
        penalty = 0.5 * weight_decay * squares
        if not isinstance(losses, dict):
            return losses + penalty, aux
        name = next(iter(losses)) if part is None and len(losses) == 1 else part
        if name not in losses:
            raise ValueError(
                f"with_weight_decay: part is {part!r}, expected one of {sorted(losses)}"
            )
        return {**losses, name: losses[name] + penalty}, aux

    return penalized
