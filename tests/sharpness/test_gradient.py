"""The executor against explicit gradients, numbers by hand, and its promises."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax.sharpness import (
    Term,
    asam,
    class_gap,
    focal_coefficients,
    focal_sam,
    imbsam,
    plain,
    rwsam,
    sam,
    sharp_value_and_grad,
    sse_sam,
    with_weight_decay,
)

# ------------------------------------------------------------------ numbers by hand

HEAD_TAIL = np.array([[3.0, 1.0], [1.0, 5.0]])  # group losses, 1/B inside
Y = np.array([0, 1])
TAIL = np.array([False, True])

TOYS = {
    # name: rows of quadratics, theta, terms, options, gradient
    "sam": (
        [[4, 1]],
        (1, 2),
        lambda: sam(1, rho=0.1),
        {},
        (4.3577708764, 2.0447213595),
    ),
    "asam": (
        [[4, 1]],
        (1, 2),
        lambda: sam(1, rho=0.1),
        {"scale": asam(eta=0.0, rule="all")},
        (4.2828427125, 2.1414213562),
    ),
    "asam, eta": (
        [[4, 1]],
        (1, 2),
        lambda: sam(1, rho=0.1),
        {"scale": asam(eta=0.01, rule="all")},
        (4.2863791193, 2.1417753505),
    ),
    "sam, one eps": (
        HEAD_TAIL,
        (1, -1),
        lambda: sam(2, rho=0.1),
        {},
        (2.1109400392, -3.2496150883),
    ),
    "sam, m = 1": (
        HEAD_TAIL,
        (1, -1),
        lambda: sam(2, rho=0.1),
        {"scope": 1},
        (2.1521083015, -3.2609565572),
    ),
    "imbsam": (
        2 * HEAD_TAIL,
        (1, -1),
        lambda: imbsam(Y, TAIL, rho=0.1),
        {},
        (4.0196116135, -6.4902903378),
    ),
    "imbsam, kappa 2": (
        2 * HEAD_TAIL,
        (1, -1),
        lambda: imbsam(Y, TAIL, rho=0.1, tail_scale=2.0),
        {},
        (5.0392232270, -11.9805806757),
    ),
    "sse-sam, stage 1": (
        2 * HEAD_TAIL,
        (1, -1),
        lambda: sse_sam(Y, TAIL, rho_head=0.05, rho_tail=0.1, stage=1),
        {},
        (4.1619141082, -6.5061017261),
    ),
    "sse-sam, stage 2": (
        2 * HEAD_TAIL,
        (1, -1),
        lambda: sse_sam(Y, TAIL, rho_head=0.05, rho_tail=0.1, stage=2),
        {},
        (4.0196116135, -6.4902903378),
    ),
    "sam on the sum": (
        2 * HEAD_TAIL,
        (1, -1),
        lambda: sam(2, rho=0.1),
        {},
        (4.2218800785, -6.4992301766),
    ),
    "rwsam": (
        HEAD_TAIL,
        (1, -1),
        lambda: rwsam(np.array([1.0, 3.0]), rho=0.1),
        {},
        (2.0702246883, -3.2808987533),
    ),
    "focal-sam": (
        2 * HEAD_TAIL,
        (1, -1),
        lambda: focal_sam(Y, focal_coefficients([90, 10], gamma=2.0, lam=0.8), rho=0.1),
        {},
        (4.0136150966, -6.3180637843),
    ),
    "saddle, near": (
        [[2, -1]],
        (0.01, 0.01),
        lambda: sam(1, rho=0.05),
        {},
        (0.1094427191, 0.0123606798),
    ),
    "saddle, far": (
        [[2, -1]],
        (0.1, 0.1),
        lambda: sam(1, rho=0.05),
        {},
        (0.2894427191, -0.0776393202),
    ),
}


@pytest.mark.parametrize("name", TOYS)
def test_known_gradients_of_toys(name, quadratic, x64):
    rows, theta, terms, options, expected = TOYS[name]
    value_and_grad = sharp_value_and_grad(quadratic, **options)
    rows = jnp.asarray(rows, jnp.float64)
    theta = jnp.asarray(theta, jnp.float64)
    _, gradient = value_and_grad(theta, None, rows, None, terms())
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9)


def tree_norm(tree):
    return jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree)))


def moved(theta, gradient, rho):
    factor = rho / tree_norm(gradient)
    return jax.tree.map(lambda p, g: p + factor * g, theta, gradient)


def test_metrics_of_the_sam_toy(quadratic, x64):
    rows, theta = jnp.array([[4.0, 1.0]]), jnp.array([1.0, 2.0])
    out, _ = sharp_value_and_grad(quadratic)(theta, None, rows, None, sam(1, rho=0.1))
    (numbers,) = out.terms
    np.testing.assert_allclose(out.loss, 4.0)
    np.testing.assert_allclose(numbers["gap"], 4.4642135955 - 4.0, atol=1e-9)
    np.testing.assert_allclose(numbers["ascent_norm"], np.sqrt(20), rtol=1e-14)
    np.testing.assert_allclose(numbers["eps_norm"], 0.1, rtol=1e-10)
    assert numbers["active"] == 1
    np.testing.assert_allclose(out.rises[0], [0.4642135955], atol=1e-9)


def test_both_sse_perturbations_have_their_own_radius(quadratic, x64):
    theta = jnp.array([1.0, -1.0])
    terms = sse_sam(Y, TAIL, rho_head=0.05, rho_tail=0.1, stage=1)
    out, _ = sharp_value_and_grad(quadratic)(
        theta, None, jnp.asarray(2 * HEAD_TAIL), None, terms
    )
    radii = [float(numbers["eps_norm"]) for numbers in out.terms]
    np.testing.assert_allclose(radii, [0.05, 0.1], rtol=1e-10)


@pytest.mark.parametrize("inside", [False, True])
def test_weight_decay_inside_or_outside_the_perturbed_loss(inside, quadratic, x64):
    theta, rows = jnp.array([1.0, 2.0]), jnp.array([[4.0, 1.0]])
    loss_fn = with_weight_decay(quadratic, 0.01) if inside else quadratic
    _, gradient = sharp_value_and_grad(loss_fn)(
        theta, None, rows, None, sam(1, rho=0.1)
    )
    if not inside:
        gradient = gradient + 0.01 * theta
    expected = {
        False: (0.5632229124, 1.7935278640),
        True: (0.5631872150, 1.7934561698),
    }[inside]
    np.testing.assert_allclose(theta - 0.1 * gradient, expected, rtol=0, atol=1e-9)


def test_plain_sam_with_sgd_agrees_with_optax(problem, x64):
    given = problem("mlp", dtype=jnp.float64)

    def gradient_of(params, _):
        return jax.grad(lambda p: given.loss_fn(p, None, given.batch, None)[0].mean())(
            params
        )

    theirs_tx = optax.contrib.sam(
        optax.sgd(0.1),
        optax.chain(optax.contrib.normalize(), optax.sgd(0.3)),
        opaque_mode=True,
        sync_period=2,
    )
    ours = theirs = given.params
    state = theirs_tx.init(theirs)
    value_and_grad = jax.jit(sharp_value_and_grad(given.loss_fn, delta=0.0))
    for _ in range(3):
        first = gradient_of(theirs, 0)
        updates, state = theirs_tx.update(first, state, theirs, grad_fn=gradient_of)
        theirs = optax.apply_updates(theirs, updates)
        _, gradient = value_and_grad(ours, None, given.batch, None, sam(16, rho=0.3))
        ours = jax.tree.map(lambda p, g: p - 0.1 * g, ours, gradient)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_rotating_the_parameters_rotates_the_sam_gradient(x64):
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    rotation, rows = jnp.asarray(rotation), jnp.array([[3.0, 1.0, 0.5]])
    theta = jnp.array([1.0, -2.0, 0.3])

    def rotated(theta, state, batch, rng):
        return 0.5 * (batch @ (rotation @ theta) ** 2), {}

    def original(theta, state, batch, rng):
        return 0.5 * (batch @ theta**2), {}

    terms = sam(1, rho=0.4)
    _, gradient = sharp_value_and_grad(original)(theta, None, rows, None, terms)
    _, turned = sharp_value_and_grad(rotated)(
        rotation.T @ theta, None, rows, None, terms
    )
    np.testing.assert_allclose(turned, rotation.T @ gradient, atol=1e-12)


# ---------------------------------------------------------------- model state


def test_which_pass_updates_the_running_statistics(problem, is_tail, x64):
    given = problem("conv_bn", dtype=jnp.float64)
    terms = sse_sam(given.labels, is_tail, rho_head=0.1, rho_tail=0.2, stage=1)

    def run(stats):
        return jax.jit(sharp_value_and_grad(given.loss_fn, stats=stats))(
            given.params, given.state, given.batch, None, terms
        )

    @jax.jit
    def forward(params, state):
        return given.loss_fn(params, state, given.batch, None)[1]["model_state"]

    # theta, theta + eps_head, theta + eps_tail, each from the state the last one left.
    @jax.jit
    def mean_of(weights):
        return jax.grad(
            lambda p: jnp.sum(
                weights * given.loss_fn(p, given.state, given.batch, None)[0]
            )
        )(given.params)

    tail = jnp.asarray(is_tail)[given.labels] / 16
    expected_first = forward(given.params, given.state)
    expected_every = expected_first
    for weights, rho in ((1 / 16 - tail, 0.1), (tail, 0.2)):
        g = mean_of(weights)
        away = moved(given.params, g, rho)
        expected_every = forward(away, expected_every)
    expectations = {
        "first": expected_first,
        "every": expected_every,
        "none": given.state,
    }
    gradients = []
    for stats, expected in expectations.items():
        out, gradient = run(stats)
        for a, b in zip(
            jax.tree.leaves(out.model_state), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
        gradients.append(gradient)
    # In training mode the running statistics do not enter the gradient.
    for other in gradients[1:]:
        jax.tree.map(np.testing.assert_array_equal, gradients[0], other)


# ---------------------------------------------------------------- parts, aux, errors


def test_parts_weights_and_terms_from_aux(x64):
    def two_parts(theta, state, batch, rng):
        ce = 0.5 * (batch @ theta**2)
        extra = jnp.sum(theta**4)[None]  # a batch-level scalar
        return {"ce": ce, "extra": extra}, {"outputs": ce}

    theta = jnp.array([1.0, -1.0])
    rows = jnp.asarray(HEAD_TAIL)
    b = jnp.full(2, 0.5)
    descent = {"ce": b, "extra": jnp.array([0.1])}
    # The extra part is missing from the ascent: eps is that of "ce" alone.
    terms = (Term({"ce": b}, descent, 0.1),)
    value_and_grad = sharp_value_and_grad(two_parts)
    out, gradient = value_and_grad(theta, None, rows, None, terms)
    g = jnp.array([2.0, -3.0])
    away = theta + 0.1 * g / jnp.linalg.norm(g)
    expected = jnp.array([2.0, 3.0]) * away + 0.1 * 4 * away**3
    np.testing.assert_allclose(gradient, expected, rtol=1e-10)
    np.testing.assert_allclose(out.loss, 2.5 + 0.1 * 2.0, rtol=1e-12)
    assert set(out.rises[0]) == {"ce", "extra"}

    # Weights that need the first pass: proportional to its losses, held constant.
    def from_outputs(aux):
        weights = aux["outputs"] / jnp.sum(aux["outputs"])
        return (Term(None, {"ce": weights}, 0.0),)

    _, gradient = value_and_grad(theta, None, rows, None, from_outputs)
    weights = jnp.array([2.0, 3.0]) / 5
    np.testing.assert_allclose(gradient, (weights @ rows) * theta, rtol=1e-12)


def test_mixup_is_two_parts_with_their_own_labels(problem, is_tail, x64):
    given = problem("mlp", dtype=jnp.float64)
    lam, other = 0.3, given.labels[::-1]

    def mixed(params, state, batch, rng):
        parts = {
            name: given.loss_fn(params, state, {**batch, "label": labels}, rng)[0]
            for name, labels in (("a", given.labels), ("b", other))
        }
        return parts, {}

    base = {"a": jnp.full(16, lam / 16), "b": jnp.full(16, (1 - lam) / 16)}
    labels = {"a": given.labels, "b": other}
    terms = imbsam(labels, is_tail, rho=0.2, base=base)
    _, gradient = sharp_value_and_grad(mixed)(
        given.params, None, given.batch, None, terms
    )

    def group(params, members):
        parts, _ = mixed(params, None, given.batch, None)
        return jnp.sum(
            lam * members[labels["a"]] * parts["a"]
            + (1 - lam) * members[labels["b"]] * parts["b"]
        ) / len(given.labels)

    tail = jnp.asarray(is_tail, jnp.float64)
    g = jax.grad(group)(given.params, tail)
    away = moved(given.params, g, 0.2)
    head = jax.grad(group)(given.params, 1 - tail)
    expected = jax.tree.map(jnp.add, head, jax.grad(group)(away, tail))
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


def test_gap_by_class_adds_up_to_the_gap(problem, is_tail):
    given = problem("mlp")
    out, _ = sharp_value_and_grad(given.loss_fn)(
        given.params, None, given.batch, None, sam(16, rho=0.2)
    )
    sums, counts = class_gap(out.rises[0], given.labels, 4)
    np.testing.assert_array_equal(counts, np.bincount(given.labels, minlength=4))
    np.testing.assert_allclose(sums.sum() / 16, out.terms[0]["gap"], rtol=1e-5)
    assert float(out.terms[0]["gap"]) > 0


def test_the_same_key_in_every_pass():
    seen = []

    def loss_fn(theta, state, batch, rng):
        noise = jax.random.bernoulli(rng, 0.5, batch.shape)
        seen.append(rng)
        return jnp.sum(noise * batch, axis=1) * theta, {}

    rows = jnp.arange(12.0).reshape(4, 3)
    out, _ = sharp_value_and_grad(loss_fn)(
        jnp.float32(2.0), None, rows, jax.random.key(3), sam(4, rho=0.5)
    )
    # A linear loss rises by eps / theta of itself only if the noise is the same.
    np.testing.assert_allclose(out.rises[0], out.losses * 0.25, rtol=1e-6)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (lambda: plain(3), "weights for 3 rows, but there are 4 losses"),
        (lambda: plain(5), r"weights have shape \(5,\), but there are 4 losses"),
        (lambda: (), "terms is empty"),
        (lambda: (Term({"x": jnp.ones(4)}, jnp.ones(4), 0.1),), "parts .'x'."),
        (lambda: (Term(jnp.ones(2), jnp.ones(4), 0.1),), "rows_independent"),
        (lambda: (Term(jnp.ones(2), jnp.ones(2), 0.1),), "BatchNorm"),
    ],
)
def test_weights_that_do_not_fit_are_refused(terms, message, quadratic):
    rows, theta = jnp.ones((4, 2)), jnp.ones(2)
    with pytest.raises(ValueError, match=message):
        sharp_value_and_grad(quadratic)(theta, None, rows, None, terms())


def test_options_are_checked(quadratic):
    rows, theta, terms = jnp.ones((4, 2)), jnp.ones(2), sam(4, rho=0.1)
    for options, message in (
        ({"stats": "last"}, "stats"),
        ({"scope": "local"}, "scope"),
        ({"scope": 0}, "scope"),
        ({"scope": "shard"}, "mesh"),
        ({"loop": "while"}, "loop"),
    ):
        with pytest.raises(ValueError, match=message):
            sharp_value_and_grad(quadratic, **options)
    with pytest.raises(ValueError, match="groups of 3 rows do not divide"):
        sharp_value_and_grad(quadratic, scope=3)(theta, None, rows, None, terms)
    with pytest.raises(ValueError, match="function of aux"):
        sharp_value_and_grad(quadratic, scope=2)(
            theta, None, rows, None, lambda a: terms
        )
    with pytest.raises(TypeError, match="bfloat16, expected float32"):
        sharp_value_and_grad(quadratic)(
            theta.astype(jnp.bfloat16), None, rows, None, terms
        )
    uneven = sharp_value_and_grad(quadratic, rows_independent=True)
    with pytest.raises(ValueError, match="different numbers of rows"):
        uneven(theta, None, rows, None, (Term(jnp.ones(2), jnp.ones(4), 0.1),))
