"""What the tests of published weights share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from ltjax.models import Classifier, LinearHead, from_linen
from ltjax.models.pretrained import read_weights


@pytest.fixture
def converted():
    """`converted(file, backbone, classes)(inputs) -> outputs` of the filled network.

    The file must have every array but those of the head, if that is to be `fresh`.
    """

    def make(file, backbone, classes, *, fresh=False):
        model = from_linen(Classifier(backbone, LinearHead(classes)))

        def outputs(inputs):
            inputs = jnp.asarray(inputs, jnp.float32)
            params, state = jax.eval_shape(model.init, jax.random.key(0), inputs)
            names = flatten_dict({"params": params, "model_state": state}, sep=".")
            shapes = {name: leaf.shape for name, leaf in names.items()}
            found = read_weights(file, backbone, shapes)
            assert found.fresh == ({"head"} if fresh else set())
            missing = shapes.keys() - found.arrays.keys()
            assert missing == {
                n for n in shapes if fresh and n.startswith("params.head")
            }
            zeros = {name: np.zeros(shapes[name]) for name in missing}
            tree = unflatten_dict({**found.arrays, **zeros}, sep=".")
            tree = jax.tree.map(jnp.asarray, tree)
            told = model.forward(
                tree["params"], tree.get("model_state", {}), inputs, train=False
            )
            return jax.device_get(told[0])

        return outputs

    return make
