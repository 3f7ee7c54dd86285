"""Contrastive losses: published definitions, values by hand, dense equals blockwise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax._numerics import double_precision
from ltjax.losses import focal_nt_xent, info_nce, moclr, nt_xent, sup_con
from ltjax.losses.contrastive import focus

# Three images with two views each; all coordinates are exact multiples of 0.2.
FIRST = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, -0.8]])
SECOND = np.array([[0.8, 0.6], [-0.6, 0.8], [1.0, 0.0]])
TURN = np.array([[0.28, -0.96], [0.96, 0.28]])


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax_loss(positive, negatives):
    return -np.log(np.exp(positive) / (np.exp(positive) + np.sum(np.exp(negatives))))


def ref_rows(first, second, temperature):
    """NT-Xent of the 2B rows: the other view against all views of other images."""
    views = np.stack([unit(first), unit(second)], axis=1)
    losses = np.zeros((len(first), 2))
    for n in range(len(first)):
        others = np.delete(views, n, axis=0).reshape(-1, views.shape[-1])
        for v in range(2):
            positive = views[n, v] @ views[n, 1 - v] / temperature
            losses[n, v] = softmax_loss(positive, others @ views[n, v] / temperature)
    return losses


def ref_sup_con(features, labels, temperature):
    """Losses [B, V] of all views as anchors."""
    size, views = features.shape[:2]
    flat, labels = unit(features.reshape(size * views, -1)), np.repeat(labels, views)
    losses = np.zeros(size * views)
    for i, anchor in enumerate(flat):
        others = [j for j in range(size * views) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        total = np.log(sum(np.exp(anchor @ flat[j] / temperature) for j in others))
        for j in positives:
            losses[i] += (total - anchor @ flat[j] / temperature) / len(positives)
    return losses.reshape(size, views)


def random_views(count, seed=0, size=7, dim=5):
    return np.random.default_rng(seed).normal(size=(count, size, dim))


@pytest.fixture(scope="module")
def three():
    """All losses of the three images, and gradients of their means, in one program."""

    @jax.jit
    def all_of(first, second):
        features, labels = jnp.stack([first, second], axis=1), jnp.array([0, 0, 1])
        half = {"temperature": 0.5}
        focal = functools.partial(focal_nt_xent, first, second, **half)
        sup = functools.partial(sup_con, features, labels)
        mean = lambda a, b: jnp.mean(nt_xent(a, b, **half))
        based = lambda x, base: jnp.sum(
            sup_con(x, labels, temperature=0.1, base_temperature=base)
        )
        slope = functools.partial(jax.grad(based), features)
        return {
            "nt_xent": nt_xent(first, second, **half),
            "gradient": jax.grad(mean, (0, 1))(first, second),
            "swapped": nt_xent(second, first, **half),
            "scaled": nt_xent(3 * first, second / 7, **half),
            "turned": nt_xent(first @ TURN, second @ TURN, **half),
            "permuted": nt_xent(first[::-1], second[::-1], **half),
            "distinct": sup_con(features, jnp.array([4, 9, -1]), **half),
            "focal": [focal(gamma=gamma) for gamma in (0.0, 1.0, 2.0)],
            "sup_con": sup(**half),
            "first": sup(**half, anchors="first"),
            "cold": sup(temperature=0.1),
            "based": sup(temperature=0.1, base_temperature=0.07),
            "slopes": [slope(0.1), slope(0.07)],
            "moclr": moclr(first, second, first, second, **half),
        }

    with double_precision():
        return jax.device_get(all_of(FIRST, SECOND))


def test_nt_xent_of_three_images(three):
    """With T = 1/2, row 0 has s = 1.6 for its positive; -1.2, 0, 1.2, 2 otherwise."""
    by_hand = np.log(np.sum(np.exp([1.6, 0, -1.2, 1.2, 2.0]))) - 1.6
    rows = ref_rows(FIRST, SECOND, 0.5)
    expected = [
        [1.231058062, 1.123016431],
        [0.748995844, 0.300726892],
        [0.876620773, 1.631058062],
    ]
    np.testing.assert_allclose(rows, expected, atol=5e-10)
    np.testing.assert_allclose(rows[0, 0], by_hand, rtol=1e-14)
    each = [1.177037246, 0.524861368, 1.253839417]
    np.testing.assert_allclose(three["nt_xent"], each, atol=5e-10)
    np.testing.assert_allclose(three["nt_xent"].mean(), 0.985246011, atol=5e-10)
    np.testing.assert_allclose(three["nt_xent"], rows.mean(axis=1), rtol=1e-13)
    of_first, of_second = three["gradient"]
    np.testing.assert_allclose(of_first[0], [0, -0.371508696], atol=5e-10)
    np.testing.assert_allclose(of_second[0], [-0.182275321, 0.243033762], atol=5e-10)
    # The norm of an embedding does not matter, so no gradient points along it.
    for view, slope in ((FIRST, of_first), (SECOND, of_second)):
        np.testing.assert_allclose(np.sum(view * slope, axis=1), 0, atol=1e-14)


def test_nt_xent_invariances(three):
    for name in ("swapped", "scaled", "turned", "distinct"):
        np.testing.assert_allclose(three[name], three["nt_xent"], rtol=1e-12)
    np.testing.assert_allclose(three["permuted"], three["nt_xent"][::-1], rtol=1e-12)


def test_focal_of_three_images(three):
    plain, one, two = three["focal"]
    np.testing.assert_allclose(plain, three["nt_xent"], rtol=1e-12)
    np.testing.assert_allclose(one, [0.814655958, 0.236472311, 0.911803083], atol=5e-10)
    np.testing.assert_allclose(one.mean(), 0.654310451, atol=5e-10)
    np.testing.assert_allclose(two, [0.564168980, 0.114214350, 0.676927847], atol=5e-10)
    np.testing.assert_allclose(two.mean(), 0.451770392, atol=5e-10)


def test_sup_con_of_three_images(three):
    """Rows of images 0 and 1 have three positives, those of image 2 have one."""
    by_view = np.array(
        [2.697724728, 1.415662511, 0.876620773, 1.789683098, 1.767393559, 1.631058062]
    ).reshape(2, 3)
    np.testing.assert_allclose(three["sup_con"], by_view.mean(axis=0), atol=5e-10)
    np.testing.assert_allclose(three["sup_con"].mean(), 1.696357122, atol=5e-10)
    plain, based = three["slopes"]  # T / T_0 rescales the gradient and no more
    np.testing.assert_allclose(based, plain * (0.1 / 0.07), rtol=1e-12)
    assert np.any(plain)
    np.testing.assert_allclose(three["first"], by_view[0], atol=5e-10)
    np.testing.assert_allclose(three["based"].mean(), 6.952489416, atol=5e-10)
    np.testing.assert_allclose(three["based"], three["cold"] / 0.7, rtol=1e-13)
    rows = ref_sup_con(np.stack([FIRST, SECOND], 1), np.array([0, 0, 1]), 0.5)
    np.testing.assert_allclose(rows, by_view.T, atol=5e-10)


def test_moclr_of_three_images(three):
    """T = 1/2; the negatives are the targets of the other view only."""
    one = [0.937126065, 0.627123057, 0.294128561]
    two = [0.627123057, 0.084464105, 1.260372554]
    np.testing.assert_allclose(three["moclr"], np.add(one, two), atol=1e-9)
    np.testing.assert_allclose(three["moclr"].mean(), 1.276779133, atol=5e-10)
    scores = FIRST @ SECOND.T / 0.5
    expected = np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)
    np.testing.assert_allclose(expected, one, atol=5e-10)
    # Fewer negatives than NT-Xent has, row by row.
    assert np.all(np.stack([one, two], axis=1) <= ref_rows(FIRST, SECOND, 0.5))


def test_collapse_and_identity(x64):
    """Collapse: log of the number of keys. Identity: s = 5 against two zeros."""

    @jax.jit
    def all_of(same, identity, temperature):
        labels = jnp.zeros(4, int)
        return (
            nt_xent(same, same, temperature=temperature),
            sup_con(same, labels, temperature=temperature),
            moclr(same, same, same, same, temperature=temperature),
            nt_xent(identity, identity, temperature=0.2),
        )

    for temperature in (0.05, 1.0):
        one, two, three, easy = all_of(jnp.ones((4, 3)), jnp.eye(2), temperature)
        np.testing.assert_allclose(one, np.log(7), rtol=1e-12)
        np.testing.assert_allclose(two, np.log(3), rtol=1e-12)
        np.testing.assert_allclose(three, 2 * np.log(4), rtol=1e-12)
        np.testing.assert_allclose(easy, np.log1p(2 * np.exp(-5.0)), rtol=1e-12)
    np.testing.assert_allclose(easy, 0.0133859017, atol=5e-11)
    np.testing.assert_allclose(np.log(7), 1.9459101491, atol=5e-11)
    np.testing.assert_allclose(2 * np.log(4), 2.772588722, atol=5e-10)


def test_an_easy_image_keeps_its_loss_in_float32():
    """A positive at s = 20 and two negatives at -20: 2 e^-40 is not rounded away."""
    views = jnp.array([[1.0], [-1.0]])
    loss = jax.jit(lambda z: nt_xent(z, z, temperature=0.05))(views)
    np.testing.assert_allclose(loss, 2 * np.exp(-40.0), rtol=1e-4)


def test_focal_factor_is_differentiated(x64):
    """d/dl [(1 - p)^g l] = (1 - p)^g - g p (1 - p)^(g - 1) log p at l = -log p."""
    slope = jax.jit(jax.vmap(jax.grad(focus), (0, None)))
    losses = -np.log([0.3, 0.9, 1.0])
    found = slope(losses, 2.0)
    np.testing.assert_allclose(found[:2], [0.995668578, 0.028964893], atol=5e-10)
    assert np.all(np.isfinite(slope(losses, 0.5))) and np.abs(found[2]) < 1e-13


def test_nothing_to_compare_with_costs_nothing():
    """A batch of one image, and anchors that are the only one of their class."""
    features = jnp.asarray(random_views(1)[0], jnp.float32)

    @jax.jit
    def all_of(x):
        single = lambda z: jnp.sum(nt_xent(z, 2 - z) + sup_con(z, jnp.zeros(1, int)))
        lonely = lambda z: sup_con(z, jnp.array([0, 0, 0, 1, 2, 2, 2]))
        return (
            jax.value_and_grad(single)(x[:1]),
            jax.value_and_grad(lambda z: jnp.sum(lonely(z)))(x)[1],
            lonely(x),
        )

    (value, gradient), of_lonely, losses = all_of(features)
    assert value == 0 and not np.any(gradient)
    # It is still a negative of the others, hence the gradient.
    assert losses[3] == 0 and np.all(losses[:3] > 0)
    assert np.all(np.isfinite(of_lonely)) and np.any(of_lonely[3] != 0)


def test_sup_con_equals_its_definition(x64):
    features = np.random.default_rng(2).normal(size=(6, 3, 4))
    labels = np.array([5, -2, 5, 7, 5, -2])
    expected = ref_sup_con(features, labels, 0.3)
    loss = jax.jit(sup_con, static_argnames=("anchors", "block"))
    options = {"temperature": 0.3, "block": 4}
    found = loss(features, labels, **options)
    np.testing.assert_allclose(found, expected.mean(axis=1), rtol=1e-12)
    found = loss(features, labels, **options, anchors="first")
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-12)


def test_info_nce_by_hand(x64):
    """s = 3 and 4, -3, 4.8 at T = 0.2: log of the sum of exp, less 3."""
    arrays = (
        np.array([[0.6, 0.8]]),
        np.array([[1.0, 0.0]]),
        np.array([[0.0, 1.0], [-1.0, 0.0], [0.8, 0.6]]),
    )
    loss = lambda *arrays: jnp.sum(info_nce(*arrays, temperature=0.2))
    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(*arrays)
    expected = np.log(np.sum(np.exp([3, 4, -3, 4.8]))) - 3
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(expected, 2.279358230, atol=5e-10)
    np.testing.assert_allclose(gradients[0], [[-2.847527847, 2.135645885]], atol=5e-10)
    assert not np.any(gradients[1]) and not np.any(gradients[2])
    # On the sphere it is sum_j (p_j - [j = 0]) k_j / T, of which the normalization
    # leaves the tangential part.
    on_sphere = np.array([-2.012796604, 3.248620875])
    tangent = on_sphere - (on_sphere @ arrays[0][0]) * arrays[0][0]
    np.testing.assert_allclose(gradients[0][0], tangent, atol=2e-9)


def test_info_nce_against_an_orthogonal_queue(x64):
    """log(1 + Q exp(-1/T)), whatever lies in the places that are not filled yet."""
    key, full = np.array([[1.0, 0.0]]), np.tile([0.0, 1.0], (65536, 1))
    loss = jax.jit(functools.partial(info_nce, temperature=0.2, block=1000))
    for filled, expected in ((4096, 3.353358846), (65536, 6.092616934), (0, 0.0)):
        where = np.arange(65536) < filled
        queue = np.where(where[:, None], full, np.nan)
        found = loss(key, key, queue, queue_where=where)
        np.testing.assert_allclose(found, np.log1p(filled * np.exp(-5.0)), rtol=1e-12)
        np.testing.assert_allclose(found, expected, atol=5e-10)


def test_blockwise_equals_dense(x64):
    """Ragged last blocks, masked rows and duplicated images included."""
    views = random_views(4)
    views[:2, 1] = views[:2, 0] * [[1], [1 + 1e-7]]
    labels, where = np.arange(7) % 3, np.arange(7) != 4

    @functools.partial(jax.jit, static_argnums=1)
    def all_of(views, block):
        def total(views):
            a, b, c, d = views
            both = jnp.stack([a, b + c], axis=1)
            masked = {"where": where, "block": block}
            values = jnp.stack(
                [
                    nt_xent(a, b, **masked),
                    focal_nt_xent(a, b, temperature=0.1, block=block),
                    sup_con(both, labels, **masked),
                    info_nce(a, c, b, block=block),
                    moclr(a, b, c, d, **masked),
                ]
            )
            weights = jnp.linspace(1, 2, 7, dtype=values.dtype)
            return jnp.sum(values * weights[None]), values

        return jax.value_and_grad(total, has_aux=True)(views)

    dense = all_of(views, None)
    for dtype, block, tolerance in (("float64", 3, 1e-12), ("float32", 5, 2e-5)):
        found = all_of(views.astype(dtype), block)
        for one, two in zip(*map(jax.tree.leaves, (found, dense)), strict=True):
            assert one.dtype == dtype
            np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)
    # Of MoCLR alone, the targets c and d get no gradient.
    gradient = jax.jit(jax.grad(lambda views: jnp.sum(moclr(*views))))(views)
    assert not np.any(gradient[2:]) and np.all(np.any(gradient[:2], axis=2))


def of_images(first, second, **how):
    return nt_xent(first, second, **how)


def of_classes(first, second, **how):
    labels = jnp.arange(len(first)) % 100
    return sup_con(jnp.stack([first, second], axis=1), labels, **how)


@pytest.mark.parametrize("loss", [of_images, of_classes])
def test_blocks_take_less_than_a_tenth_of_the_memory(loss):
    """At 8192 views, of what the compiler plans beside arguments and results."""
    views = jax.ShapeDtypeStruct((4096, 128), jnp.float32)

    def temporary(block):
        def total(first, second):
            return jnp.sum(loss(first, second, block=block))

        step = jax.jit(jax.value_and_grad(total, (0, 1))).lower(views, views).compile()
        return step.memory_analysis().temp_size_in_bytes

    matrix = 4 * 8192**2
    assert temporary(128) < matrix / 10 < matrix <= temporary(None)


def test_a_schedule_of_temperatures_does_not_retrace(x64):
    first, second = random_views(2)
    traces = []

    @jax.jit
    def loss(temperature):
        traces.append(temperature)
        return nt_xent(first, second, temperature=temperature)

    for temperature in (0.1, 0.5):
        expected = ref_rows(first, second, temperature).mean(axis=1)
        np.testing.assert_allclose(loss(temperature), expected, rtol=1e-12)
    assert len(traces) == 1
    step = 1e-6
    slope = jax.grad(lambda t: jnp.sum(loss(t)))(0.5)
    ends = [ref_rows(first, second, 0.5 + s * step).mean(axis=1) for s in (1, -1)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]).sum() / (2 * step), rtol=1e-7)


def test_bad_input_is_named():
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"nt_xent: second has shape \(3, 3\)"):
        nt_xent(x, x[:3])
    with pytest.raises(ValueError, match="nt_xent: first has shape .* expected 2 axes"):
        nt_xent(x[None], x[None])
    with pytest.raises(TypeError, match="moclr: second_target has dtype int"):
        moclr(x, x, x, x.astype(int))
    with pytest.raises(ValueError, match=r"focal_nt_xent: gamma is -1"):
        focal_nt_xent(x, x, gamma=-1.0)
    with pytest.raises(ValueError, match=r"sup_con: features has shape \(4, 0\)"):
        sup_con(x[:, :0], np.zeros(4, int))
    with pytest.raises(ValueError, match="nt_xent: temperature is 0.0"):
        nt_xent(x, x, temperature=0.0)
    with pytest.raises(ValueError, match="nt_xent: block is 0"):
        nt_xent(x, x, block=0)
    with pytest.raises(ValueError, match=r"info_nce: queue has shape \(4, 2\)"):
        info_nce(x, x, x[:, :2])
    with pytest.raises(ValueError, match=r"sup_con: features has shape \(3,\)"):
        sup_con(x[0], np.zeros(3, int))
    with pytest.raises(TypeError, match="sup_con: labels have dtype float"):
        sup_con(x, np.zeros(4))
    with pytest.raises(ValueError, match=r"sup_con: labels have shape \(3,\)"):
        sup_con(x, np.zeros(3, int))
    with pytest.raises(ValueError, match="sup_con: anchors is 'one'"):
        sup_con(x, np.zeros(4, int), anchors="one")


@pytest.mark.parametrize("anchors", ["all", "first"])
@pytest.mark.parametrize("shape", [(0, 2), (0, 2, 3)])
@pytest.mark.parametrize("block", [None, 4])
def test_sup_con_of_no_rows_is_empty(shape, anchors, block):
    features, labels = np.zeros(shape, np.float32), np.zeros(0, np.int32)
    found = sup_con(features, labels, anchors=anchors, block=block)
    assert found.shape == (0,)
