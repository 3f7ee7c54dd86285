"""What comes into view when pixels move, and squares that cover them.

That the operations are those of Pillow is in test_image_ops.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data.image_geometry import erase, translate_x


def test_fill_enters_with_geometric_operations():
    image = np.zeros((4, 4, 3), np.uint8)
    move = jax.jit(translate_x)
    moved = move(image, 1, fill=jnp.array([125.0, 123.0, 114.0]))
    assert np.asarray(moved)[:, 3].tolist() == [[125, 123, 114]] * 4
    assert not np.asarray(moved)[:, :3].any()


ERASE = jax.jit(erase)


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [(4, (0, 3), (4, 8)), (0, (0, 0), (0, 0)), (3, (0, 3), (5, 8))],
)
def test_erase_fills_a_square_that_may_reach_over_the_border(size, rows, columns):
    image = np.full((8, 8, 3), 9, np.uint8)
    out = np.asarray(ERASE(image, np.array([1, 6]), size, fill=jnp.array([1, 2, 3])))
    expected = image.copy()
    expected[slice(*rows), slice(*columns)] = (1, 2, 3)
    np.testing.assert_array_equal(out, expected)
