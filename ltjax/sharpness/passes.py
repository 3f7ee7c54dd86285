"""One sharp gradient of one batch: a shared pass at theta, then the perturbed passes.

This is the procedure itself. `ltjax.sharpness.gradient` chooses the batch it sees (the
global one, micro-batches, a device's shard) and `ltjax.sharpness.accumulate` runs its
two halves as two sweeps.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax._checks import shape_of
from ltjax.sharpness.parts import BARE, as_parts, batch_rows, by_part, weighted_sum
from ltjax.sharpness.perturb import perturbation, realized_perturbation, tree_norm
from ltjax.sharpness.terms import Term
from ltjax.sharpness.weights import leading_rows


class Rules(NamedTuple):
    """The static choices of `sharp_value_and_grad`."""

    loss_fn: Callable
    scale: Callable | None
    mask: Any
    stats: str
    delta: float
    rows_independent: bool
    blocks: int
    compute_dtype: Any


class FirstPass(NamedTuple):
    """What the pass at theta gives.

    Attributes:
        losses: as returned by the loss function.
        aux: as returned by the loss function.
        plain: gradient of the unperturbed terms together, or None if there is none.
        ascents: one ascent gradient per term, None for the unperturbed ones.
        terms: the terms, evaluated if they were a function of `aux`.
    """

    losses: Any
    aux: dict
    plain: Any
    ascents: tuple
    terms: tuple[Term, ...]


class SharpOutput(NamedTuple):
    """What a sharp gradient tells besides the gradient.

    Attributes:
        loss: scalar, sum of the descent-weighted losses at the unperturbed parameters.
        losses: per-example losses of the first pass, in the form the loss function
            gave them.
        aux: the loss function's auxiliary dict of the first pass; its "model_state" is
            the one to keep, according to `stats`.
        terms: one dict of scalars per term: "ascent_norm" (||D g||), "eps_norm", "gap"
            (ascent-weighted mean rise of the loss, the sharpness people plot), "active"
            (1 if the perturbation is not zero), and "cosine" if a compute dtype below
            float32 was named. Zeros (cosine 1) for an unperturbed term.
        rises: one entry per term: losses(theta + eps) - losses(theta) in the form of
            `losses` (leading rows only for a compacted term), None if unperturbed.
    """

    loss: jax.Array
    losses: Any
    aux: dict
    terms: tuple[dict[str, jax.Array], ...]
    rises: tuple

    @property
    def outputs(self) -> Any:
        """Outputs of the model in the first pass."""
        return self.aux.get("outputs")

    @property
    def model_state(self) -> Any:
        """Model state after the step."""
        return self.aux.get("model_state")


def sharp_step(rules: Rules, params, model_state, batch, rng, terms):
    """The whole procedure on one batch; gaps are sums until `normalize_gaps`."""
    first = first_pass(rules, params, model_state, batch, rng, terms)

    def at(perturbed, state, term, _):
        loss = _loss_for(rules, term, batch, first)
        return pulled(loss, perturbed, state, rng, term.descent)

    out, gradient = assemble(rules, params, model_state, first, at)
    return out, gradient, first.terms


def assemble(rules: Rules, params, model_state, first: FirstPass, at: Callable):
    """(output, gradient) from the first pass and the perturbed passes.

    `at(perturbed, model_state, term, k)` takes the k-th term's descent gradient at
    perturbed parameters: (gradient, losses, new model state).
    """
    gradient, state = first.plain, model_state
    if rules.stats != "none":
        state = first.aux.get("model_state", model_state)
    read = state if rules.stats == "every" else model_state
    metrics, rises = [], []
    for k, (term, ascent) in enumerate(zip(first.terms, first.ascents, strict=True)):
        if term.ascent is None:
            metrics.append(unperturbed_metrics(rules, first.losses))
            rises.append(None)
            continue
        perturbed, numbers = move(rules, params, ascent, term)
        summand, losses, after = at(perturbed, read, term, k)
        if rules.stats == "every":
            read = state = after
        gradient = add(gradient, summand)
        rise, numbers["gap"] = compare(rules, term, losses, first.losses)
        metrics.append(numbers)
        rises.append(rise)
    aux = {**first.aux, "model_state": state}
    loss = descent_loss(rules, first.terms, first.losses)
    return SharpOutput(loss, first.losses, aux, tuple(metrics), tuple(rises)), gradient


def first_pass(rules: Rules, params, model_state, batch, rng, terms: Any) -> FirstPass:
    """Forward at theta once, and every gradient at theta from its one vjp."""

    def forward(theta):
        losses, aux = rules.loss_fn(theta, model_state, batch, rng)
        chosen: Any = terms(aux) if callable(terms) else terms
        if callable(terms):  # weights that need the first pass are constants
            chosen = jax.lax.stop_gradient(tuple(chosen))
        parts = as_parts(losses)
        # A part without a weight costs no backward pass.
        needed = {name: parts[name] for name in _names_at_theta(chosen, parts)}
        return needed, (losses, dict(aux), chosen)

    differentiated, pull, (losses, aux, terms) = jax.vjp(forward, params, has_aux=True)
    parts = as_parts(losses)

    def gradient(weights):
        cotangents = {
            name: weights[name].astype(value.dtype)
            if name in weights
            else jnp.zeros_like(value)
            for name, value in differentiated.items()
        }
        return pull(cotangents)[0]

    plain, ascents = None, []
    for term in terms:
        if term.ascent is None:
            weights, rows = by_part(term.descent, parts)
            _refuse_rows("an unperturbed term", rows, parts)
            plain = weights if plain is None else _add_weights(plain, weights)
            ascents.append(None)
            continue
        weights, rows = by_part(term.ascent, parts)
        if rows is None:
            ascents.append(gradient(weights))
        else:
            few = _loss_on(rules, rows, batch, parts)
            ascents.append(pulled(few, params, model_state, rng, term.ascent)[0])
    plain = None if plain is None else gradient(plain)
    return FirstPass(losses, aux, plain, tuple(ascents), terms)


def move(rules: Rules, params, ascent, term: Term):
    """The point theta + eps of a term, and what there is to know about eps."""
    found = perturbation(
        params, ascent, term.rho, scale=rules.scale, mask=rules.mask, delta=rules.delta
    )
    numbers = {
        "ascent_norm": found.ascent_norm,
        "eps_norm": tree_norm(found.epsilon),
        "active": (found.ascent_norm > 0).astype(jnp.float32),
    }
    if _below_float32(rules.compute_dtype):
        realized = realized_perturbation(params, found.epsilon, rules.compute_dtype)
        numbers["cosine"] = realized["cosine"]
    return jax.tree.map(jnp.add, params, found.epsilon), numbers


def pulled(loss, theta, model_state, rng, weights):
    """(gradient of <weights, losses>, losses, model state) at theta."""

    def forward(theta):
        losses, aux = loss(theta, model_state, rng)
        parts = as_parts(losses)
        cotangents, rows = by_part(weights, parts)
        _refuse_rows("a perturbed term", rows, parts)
        state = aux.get("model_state", model_state)
        return {name: parts[name] for name in cotangents}, (losses, cotangents, state)

    values, pull, (losses, weights, state) = jax.vjp(forward, theta, has_aux=True)
    cotangents = {n: weights[n].astype(value.dtype) for n, value in values.items()}
    return pull(cotangents)[0], losses, state


def compare(rules: Rules, term: Term, losses, at_theta):
    """Rise of the losses, and its ascent-weighted sum."""
    before = as_parts(at_theta)
    weights, rows = by_part(term.ascent, before)
    if rows is not None:
        before = {n: leading_rows(v, rows, rules.blocks) for n, v in before.items()}
    rise = {name: value - before[name] for name, value in as_parts(losses).items()}
    gap = weighted_sum(weights, rise)
    return (rise if isinstance(losses, Mapping) else rise[BARE]), gap


def descent_loss(rules: Rules, terms, losses) -> jax.Array:
    """Sum of the descent-weighted losses of all terms, at the unperturbed point."""
    parts, total = as_parts(losses), jnp.zeros((), jnp.float32)
    for term in terms:
        weights, rows = by_part(term.descent, parts)
        seen = parts
        if rows is not None:
            seen = {n: leading_rows(v, rows, rules.blocks) for n, v in parts.items()}
        total = total + weighted_sum(weights, seen)
    return total


def normalize_gaps(out: SharpOutput, terms) -> SharpOutput:
    """Divides every gap by the sum of its term's ascent weights; 0 if that is 0."""
    metrics = []
    for numbers, term in zip(out.terms, terms, strict=True):
        if term.ascent is not None:
            gap = numbers["gap"]
            masses = [jnp.sum(part) for part in jax.tree.leaves(term.ascent)]
            mass = sum(masses, start=jnp.zeros((), gap.dtype)).astype(gap.dtype)
            safe = jnp.where(mass == 0, 1, mass)
            numbers = {**numbers, "gap": jnp.where(mass == 0, 0, gap / safe)}
        metrics.append(numbers)
    return out._replace(terms=tuple(metrics))


def unperturbed_metrics(rules: Rules, losses) -> dict[str, jax.Array]:
    """The numbers of a term without a perturbation."""
    zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(losses)))
    numbers = {name: zero for name in ("ascent_norm", "eps_norm", "gap")}
    numbers["active"] = jnp.zeros((), jnp.float32)
    if _below_float32(rules.compute_dtype):
        numbers["cosine"] = jnp.ones((), zero.dtype)
    return numbers


def add(left, right):
    """Sum of two gradients, either of which may be None."""
    if left is None or right is None:
        return right if left is None else left
    return jax.tree.map(jnp.add, left, right)


def _add_weights(left: dict, right: dict) -> dict:
    return {
        name: left[name] + right[name]
        if name in left and name in right
        else left.get(name, right.get(name))
        for name in {**left, **right}
    }


def _names_at_theta(terms, parts) -> list[str]:
    """Names of the parts that are differentiated at theta, in the losses' order."""
    names = set()
    for term in terms:
        weights = term.descent if term.ascent is None else term.ascent
        weights, rows = by_part(weights, parts)
        if rows is None:
            names.update(weights)
    return [name for name in parts if name in names]


def _loss_for(rules: Rules, term: Term, batch, first: FirstPass):
    """The loss function on the rows that a perturbed term covers."""
    parts = as_parts(first.losses)
    rows = by_part(term.descent, parts)[1]
    if rows != by_part(term.ascent, parts)[1]:
        raise ValueError(
            "sharp_value_and_grad: a term's ascent and descent weights cover different"
            " numbers of rows, expected the same for both"
        )
    return _loss_on(rules, rows, batch, parts)


def _refuse_rows(what: str, rows, parts) -> None:
    if rows is not None:
        length = shape_of(next(iter(parts.values())))[0]
        raise ValueError(
            f"sharp_value_and_grad: {what} has weights for {rows} rows, but there are"
            f" {length} losses"
        )


def _loss_on(rules: Rules, rows: int | None, batch, parts):
    """The loss function on the whole batch (None) or on its leading rows."""
    if rows is None:
        return lambda theta, state, key: rules.loss_fn(theta, state, batch, key)
    whole = batch_rows(batch)
    if {shape_of(v)[0] for v in parts.values()} != {whole}:
        raise ValueError(
            f"sharp_value_and_grad: weights for {rows} rows, but a batch of {whole}"
            " rows does not give one loss per row"
        )
    if not rules.rows_independent:
        raise ValueError(
            f"sharp_value_and_grad: a term covers only the first {rows} of {whole}"
            " rows, but rows_independent is not set. BatchNorm in training mode and"
            " losses with in-batch negatives couple the rows: leaving some out changes"
            " the gradient of the others. Use weights for all rows, or a model without"
            " such coupling"
        )
    if rows % rules.blocks or whole % rules.blocks:
        raise ValueError(
            f"sharp_value_and_grad: {rows} of {whole} rows in {rules.blocks} blocks,"
            " expected numbers that the blocks share equally"
        )
    leading = jax.tree.map(
        lambda leaf: leading_rows(leaf, rows, rules.blocks) if shape_of(leaf) else leaf,
        batch,
    )
    return lambda theta, state, key: rules.loss_fn(theta, state, leading, key)


def _below_float32(dtype) -> bool:
    return dtype is not None and jnp.finfo(dtype).bits < 32
