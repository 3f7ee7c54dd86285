"""Fixed frames: Gram matrices worked out by hand, known optima, Haar orientation."""

import jax
import numpy as np
import pytest
import scipy.optimize

from ltjax.classifiers.frames import (
    class_frame,
    grassmannian_frame,
    orthonormal_columns,
    permute_frame,
    rotate_frame,
    simplex_etf,
)

KEY = jax.random.key(3)


def off_diagonal(gram):
    return gram[~np.eye(len(gram), dtype=bool)]


@pytest.mark.parametrize("dim", [2, 3, 4, 9])
def test_simplex_has_the_gram_matrix_of_its_definition(dim):
    frame = simplex_etf(KEY, dim, 3)
    assert frame.shape == (dim, 3)
    assert frame.dtype == np.float64
    expected = np.array([[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1]])
    np.testing.assert_allclose(frame.T @ frame, expected, atol=1e-14)
    np.testing.assert_allclose(frame.sum(axis=1), 0, atol=1e-14)


def test_simplex_is_the_papers_formula_in_rotated_coordinates():
    # With U = I the columns are (.8165, -.4082, -.4082) and its permutations; any other
    # orientation is an orthogonal map of that one (Procrustes residual 0).
    frame = simplex_etf(KEY, 3, 3)
    identity_frame = np.full((3, 3), -0.408248290)
    np.fill_diagonal(identity_frame, 0.816496581)
    u, _, vt = np.linalg.svd(frame @ identity_frame.T)
    np.testing.assert_allclose(u @ vt @ identity_frame, frame, atol=1e-8)


@pytest.mark.parametrize("dim", [9, 10, 32])
def test_simplex_is_tight(dim):
    frame = simplex_etf(KEY, dim, 10)
    eigenvalues = np.linalg.eigvalsh(frame @ frame.T)
    expected = np.concatenate([np.zeros(dim - 9), np.full(9, 10 / 9)])
    np.testing.assert_allclose(eigenvalues, expected, atol=1e-12)
    np.testing.assert_allclose(off_diagonal(frame.T @ frame), -1 / 9, atol=1e-13)


@pytest.mark.parametrize("dim", [4, 6])
def test_simplex_of_a_traced_key_is_the_same_matrix(dim):
    keys = jax.random.split(KEY, 2)
    traced = jax.jit(jax.vmap(lambda key: simplex_etf(key, dim, 5)))(keys)
    for key, frame in zip(keys, traced, strict=True):
        np.testing.assert_allclose(frame, simplex_etf(key, dim, 5), atol=2e-6)


def test_orientation_is_haar():
    # E[q_11] = 0 and E[q_11^2] = 1/3 for Haar Q; LAPACK's own signs give E[q_11] < -.4.
    corners = np.array(
        [orthonormal_columns(jax.random.key(s), 3, 3)[0, 0] for s in range(600)]
    )
    assert abs(corners.mean()) < 4 * np.sqrt(1 / 3 / 600)
    # Var(q_11^2) = E[q^4] - 1/9 = 3/15 - 1/9.
    assert abs((corners**2).mean() - 1 / 3) < 4 * np.sqrt((1 / 5 - 1 / 9) / 600)


def test_dimensions_come_before_classes_as_in_the_shape():
    for make in (simplex_etf, class_frame):
        assert make(0, 8, 3).shape == (8, 3)
    assert grassmannian_frame(0, 8, 3).vectors.shape == (8, 3)


def test_seeds_and_legacy_keys_are_keys():
    expected = simplex_etf(jax.random.key(3), 6, 4)
    for key in (3, np.int64(3), jax.random.PRNGKey(3)):
        np.testing.assert_array_equal(simplex_etf(key, 6, 4), expected)
    with pytest.raises(ValueError, match=r"key is 4294967301, expected .* \[0, 2\^32"):
        simplex_etf(2**32 + 5, 6, 4)  # JAX would take it for 5


def test_keys_orient_the_frame():
    first, second = (simplex_etf(jax.random.key(s), 6, 4) for s in (0, 1))
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(first, simplex_etf(jax.random.key(0), 6, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simplex_etf(KEY, 8, 10), "need dim >= 9, but dim is 8"),
        (lambda: simplex_etf(KEY, 8, 1), "num_classes is 1"),
        (lambda: orthonormal_columns(KEY, 2, 3), "do not fit"),
        (lambda: grassmannian_frame(KEY, 1, 5), "expected dim >= 2"),
        (lambda: grassmannian_frame(KEY, 3, 5, features="loose"), "'loose'"),
        (lambda: grassmannian_frame(KEY, 3, 5, restarts=0), "at least 1"),
    ],
)
def test_bad_sizes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_solver_refuses_a_traced_key():
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda key: grassmannian_frame(key, 3, 6).vectors)(KEY)


@pytest.mark.parametrize(
    ("num_classes", "dim", "inner_product"),
    [
        (4, 3, -1 / 3),  # simplex
        (5, 2, np.cos(2 * np.pi / 5)),  # polygon, .30901699
        (6, 3, 0.0),  # octahedron
        (12, 3, 1 / np.sqrt(5)),  # icosahedron, .44721360
    ],
)
def test_known_spherical_codes(num_classes, dim, inner_product):
    frame = grassmannian_frame(KEY, dim, num_classes, restarts=8, steps=200)
    vectors = frame.vectors
    assert vectors.shape == (dim, num_classes)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1, atol=1e-12)
    assert off_diagonal(vectors.T @ vectors).max() == frame.max_inner_product
    assert frame.max_inner_product == pytest.approx(inner_product, abs=1e-6)
    assert frame.margin == pytest.approx(1 - inner_product, abs=1e-6)
    # No code can do better than the simplex, nor than 0 once K >= D + 2.
    bound = 0.0 if num_classes >= dim + 2 else -1 / (num_classes - 1)
    assert frame.max_inner_product >= bound - 1e-12
    assert np.all(np.diff(frame.history) > -1e-3)


@pytest.mark.parametrize(("num_classes", "dim"), [(6, 4), (8, 4), (7, 5), (100, 64)])
def test_up_to_two_vectors_per_dimension_none_are_closer_than_a_right_angle(
    num_classes, dim
):
    # Rankin 1955: with more than D + 1 vectors, two are at a right angle or closer.
    frame = grassmannian_frame(KEY, dim, num_classes)
    gram = frame.vectors.T @ frame.vectors
    np.testing.assert_allclose(np.diag(gram), 1, atol=1e-12)
    assert frame.max_inner_product == pytest.approx(0, abs=1e-12)
    assert frame.margin == pytest.approx(1, abs=1e-12)
    # K - D simplices of mean 0, each of which spans one dimension less than vectors.
    np.testing.assert_allclose(frame.vectors.sum(axis=1), 0, atol=1e-12)
    assert np.linalg.matrix_rank(gram) == dim
    neighbours = np.sum(gram < -1e-9, axis=1)
    sizes = np.array([len(part) for part in np.array_split(gram, num_classes - dim)])
    np.testing.assert_array_equal(
        np.sort(neighbours), np.sort(np.repeat(sizes - 1, sizes))
    )


@pytest.mark.slow
def test_the_24_cell():
    frame = grassmannian_frame(KEY, 4, 24)
    assert frame.max_inner_product == pytest.approx(0.5, abs=1e-6)


def hull_distance(vectors, y):
    """Distance of vectors[:, y] from the convex hull of the other columns."""
    others = np.delete(vectors, y, axis=1)
    fit = scipy.optimize.minimize(
        lambda mix: np.sum((vectors[:, y] - others @ mix) ** 2),
        np.full(others.shape[1], 1 / others.shape[1]),
        jac=lambda mix: 2 * others.T @ (others @ mix - vectors[:, y]),
        bounds=[(0, 1)] * others.shape[1],
        constraints={"type": "eq", "fun": lambda mix: mix.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return np.sqrt(fit.fun)


def test_free_features_reach_the_one_vs_rest_margin():
    # By duality max_z min_c <w_y - w_c, z> is the distance of w_y from the hull of the
    # others, so the features the solver found must be the best ones for its vectors.
    frame = grassmannian_frame(KEY, 3, 7, features="free", restarts=8, steps=200)
    margin = min(hull_distance(frame.vectors, y) for y in range(7))
    assert frame.margin == pytest.approx(margin, abs=1e-4)
    # The best 7 points on the sphere are 77.87 degrees apart (Schuette and van der
    # Waerden 1951), and tying the features can only lose margin.
    assert frame.margin >= 1 - np.cos(np.radians(77.8696)) - 1e-4


def test_same_key_same_frame():
    first, second = (
        grassmannian_frame(KEY, 3, 7, restarts=8, steps=200) for _ in range(2)
    )
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_turned_and_permuted_frames_are_equally_good():
    frame = np.random.default_rng(0).normal(size=(2, 5))
    frame /= np.linalg.norm(frame, axis=0)
    turned = rotate_frame(jax.random.key(1), frame)
    np.testing.assert_allclose(turned.T @ turned, frame.T @ frame, atol=1e-12)
    assert np.abs(turned - frame).max() > 0.1
    moved, order = permute_frame(jax.random.key(1), frame)
    np.testing.assert_array_equal(moved, frame[:, order])
    assert sorted(order.tolist()) == list(range(5)) and order.tolist() != [*range(5)]
    # Below K - 1 dimensions no rotation does the same: other classes are neighbours.
    assert not np.allclose(moved.T @ moved, frame.T @ frame)


def test_permuting_a_simplex_is_a_rotation():
    frame = np.asarray(simplex_etf(0, 4, 5))
    moved, _ = permute_frame(2, frame)
    np.testing.assert_allclose(moved.T @ moved, frame.T @ frame, atol=1e-12)
    rotation = moved @ np.linalg.pinv(frame)
    np.testing.assert_allclose(rotation @ frame, moved, atol=1e-10)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(4), atol=1e-10)


@pytest.mark.parametrize("change", [rotate_frame, permute_frame])
def test_a_frame_has_two_axes(change):
    with pytest.raises(ValueError, match=r"vectors .* expected 2 axes"):
        change(0, np.ones(3))
