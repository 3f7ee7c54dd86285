"""Several modalities: encoders by name, the sum of what they say, missing ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import Classifier, FusionHead, Modalities, from_linen


def network(shared=True, **options):
    body = Modalities(names=("image", "signal", "facts"), widths=(4, 6), **options)
    head = FusionHead(num_classes=3, num_modalities=3, hidden=5, shared=shared)
    return from_linen(Classifier(body, head))


def inputs(rows=4):
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "image": jax.random.normal(keys[0], (rows, 8, 8, 1)),
        "signal": jax.random.normal(keys[1], (rows, 16, 1)),
        "facts": jax.random.normal(keys[2], (rows, 5)),
    }


@pytest.mark.parametrize("shared", [True, False])
def test_logits_are_the_rate_times_the_sum_of_the_modalities(shared):
    model = network(shared)
    params, model_state = model.init(jax.random.key(0), inputs())
    params["head"]["boost_rate"] = jnp.float32(1.5)
    outputs, _ = model.forward(params, model_state, inputs(), train=False)
    assert outputs["modality_logits"].shape == (4, 3, 3)
    assert outputs["features"].shape == (4, 3 * 6) and model.num_features == 18
    total = 1.5 * np.asarray(outputs["modality_logits"], np.float64).sum(1)
    np.testing.assert_allclose(outputs["logits"], total, rtol=1e-5, atol=1e-6)
    assert sorted(params["backbone"]) == ["facts", "image", "signal"]
    assert model.modalities == ("image", "signal", "facts")
    own = {"hidden", "classifier"} if shared else {"hidden1", "classifier3"}
    assert own <= params["head"].keys()


def test_a_modality_sees_its_own_input_only():
    model, given = network(norm="none"), inputs()
    params, model_state = model.init(jax.random.key(0), given)
    before, _ = model.forward(params, model_state, given, train=False)
    other = {**given, "signal": given["signal"] + 1}
    after, _ = model.forward(params, model_state, other, train=False)
    same = np.equal(before["modality_logits"], after["modality_logits"])
    assert same.all(axis=(0, 2)).tolist() == [True, False, True]


def test_padding_may_hold_anything():
    model, given, mask = network(), inputs(), jnp.arange(4) < 3
    params, model_state = model.init(jax.random.key(0), given)
    spoiled = jax.tree.map(lambda x: x.at[3].set(jnp.nan), given)
    outputs, moved = model.forward(params, model_state, spoiled, train=True, mask=mask)
    assert np.isfinite(outputs["logits"][:3]).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(moved))


def test_a_missing_modality_is_one_message():
    model, given = network(), inputs()
    del given["signal"]
    with pytest.raises(ValueError, match=r"inputs are \['facts', 'image'\], expected"):
        model.init(jax.random.key(0), given)
    with pytest.raises(ValueError, match="inputs are one array, expected a dict of"):
        model.init(jax.random.key(0), jnp.zeros((1, 5)))
    with pytest.raises(ValueError, match="names are .*, expected two or more"):
        Modalities(names=("image",))
    with pytest.raises(ValueError, match="18 features, expected a multiple of"):
        FusionHead(num_classes=3, num_modalities=4).init(
            jax.random.key(0), jnp.zeros((1, 18)), train=False
        )
