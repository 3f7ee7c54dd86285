"""Networks beside each other: each sees its own part and changes no other."""

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.models import build_model
from ltjax.models.peers import with_peers


def test_each_network_keeps_to_its_own_part():
    model = build_model("mlp", num_classes=3, hidden=(4,), norm="batch")
    networks = with_peers(model, ("peer",))
    x = jax.random.normal(jax.random.key(1), (4, 5))
    params, state = networks["main"].init(jax.random.key(0), x)
    alone = model.init(jax.random.key(0), x)[0]
    same = jax.tree.map(np.array_equal, params["head"], alone["head"])
    assert all(jax.tree.leaves(same))
    kernel = params["peer"]["head"]["kernel"]
    assert not np.array_equal(params["head"]["kernel"], kernel)
    for role, own in (("main", params), ("peer", params["peer"])):
        outputs, new = networks[role].forward(params, state, x, train=True)
        parts = {"backbone": own["backbone"], "head": own["head"]}
        stats = state if role == "main" else state["peer"]
        stats = {name: tree for name, tree in stats.items() if name != "peer"}
        want, moved = model.forward(parts, stats, x, train=True)
        np.testing.assert_array_equal(outputs["logits"], want["logits"])
        rest = {**state, **moved} if role == "main" else {**state, "peer": moved}
        equal = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), new, rest)
        assert all(jax.tree.leaves(equal))
        features = networks[role].embed(params, state, x)
        again, _ = networks[role].classify(params, state, features, train=False)
        want, _ = model.forward(parts, stats, x, train=False)
        np.testing.assert_allclose(again["logits"], want["logits"], rtol=1e-5)
        vectors = networks[role].class_vectors(params, state)
        np.testing.assert_array_equal(vectors, own["head"]["kernel"])


def test_no_peers_leave_the_network_as_it_is():
    model = build_model("mlp", num_classes=3)
    assert with_peers(model, ()) == {"main": model}
