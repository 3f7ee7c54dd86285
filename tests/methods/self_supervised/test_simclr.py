"""SimCLR: the loss of a step by the definition, and batches in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

B = 16
CONFIG = ("selfsup_lt", "method=simclr,probe=false")


@pytest.fixture(scope="module")
def batch():
    views = 2 * jax.random.normal(jax.random.key(2), (2, B, 40, 1))
    return {
        "view1": views[0],
        "view2": views[1],
        "mask": jnp.arange(B) < 13,  # three rows are padding
        "label": jnp.zeros(B, jnp.int32),
    }


# With TS the steps are those of epoch 1, a third of the period.
@pytest.mark.parametrize(
    ("method", "gamma", "temperature"),
    [("simclr", 0.0, 0.2), ("focal", 2.0, 0.2), ("ts", 0.0, 0.1 + 0.9 * 0.25)],
)
def test_a_step_minimizes_nt_xent_of_the_real_rows(
    smoked, batch, method, gamma, temperature
):
    changes = ("model.norm=none", "head.norm=none")
    if method == "ts":
        changes += ("method.temperature_period=3 epochs", "total=6 epochs")
    run, state = smoked("selfsup_lt", f"method={method},probe=false", *changes)
    _, metrics = jax.jit(run.step)(state, batch)
    if method == "ts":
        assert float(metrics["temperature"][0]) == pytest.approx(temperature, rel=1e-6)
    embedded = []
    for name in ("view1", "view2"):
        outputs, _ = run.model.forward(
            state.params, state.model_state, batch[name][:13], train=False
        )
        embedded.append(np.asarray(outputs["projection"], np.float64))
    z = np.concatenate(embedded)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    s = z @ z.T / temperature
    np.fill_diagonal(s, -np.inf)
    positive = s[np.arange(26), (np.arange(26) + 13) % 26]
    loss = np.log(np.exp(s).sum(1)) - positive
    want = ((1 - np.exp(-loss)) ** gamma * loss).mean()
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-4)


@pytest.mark.slow
def test_padding_has_no_part_in_the_batch_statistics(smoked, batch):
    run, state = smoked(*CONFIG, "sampler.remainder=pad")
    real = batch["mask"][:, None, None]
    other = {
        **batch,
        **{n: jnp.where(real, batch[n], 50.0) for n in ("view1", "view2")},
    }
    step = jax.jit(run.step)
    one, two = step(state, batch)[0], step(state, other)[0]
    for a, b in zip(
        jax.tree.leaves((one.params, one.model_state)),
        jax.tree.leaves((two.params, two.model_state)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
