"""BYOL and MoCLR: losses against a momentum network, and how it follows."""

import jax
import numpy as np
import pytest

CHANGES = ("model.norm=none", "head.norm=none", "method.momentum=0.9")


@pytest.fixture(scope="module")
def stepped(smoked, pair_batch):
    """method -> (run, states after 0, 1 and 2 steps, losses) of a run of 6 steps."""

    def go(method):
        run, state = smoked("selfsup_lt", f"method={method},probe=false", *CHANGES)
        step, states, found = jax.jit(run.step), [state], []
        for _ in range(2):
            new, metrics = step(states[-1], pair_batch)
            states.append(new)
            found.append(float(metrics["loss"][0]))
        return run, states, found

    return {method: go(method) for method in ("byol", "moclr")}


def by_definition(method, online, target):
    if method == "byol":
        p, t = online["prediction"], target["projection"]
        cosines = (p[0] * t[1]).sum(1) + (p[1] * t[0]).sum(1)
        return (4 - 2 * cosines).mean()
    z, t = online["projection"], target["projection"]
    total = 0
    for mine, other in ((z[0], t[1]), (z[1], t[0])):
        s = mine @ other.T / 0.2
        total += np.log(np.exp(s).sum(1)) - np.diag(s)
    return total.mean()


@pytest.mark.parametrize("method", ["byol", "moclr"])
def test_the_loss_is_against_the_network_as_it_was(
    stepped, pair_batch, unit_outputs, method
):
    run, states, found = stepped[method]
    for state, loss in zip(states[:2], found, strict=True):
        target = state.method_state["target"]
        online = unit_outputs(run, state.params, state.model_state, pair_batch)
        other = unit_outputs(run, target["params"], target["model_state"], pair_batch)
        assert loss == pytest.approx(by_definition(method, online, other), rel=1e-4)


@pytest.mark.parametrize("method", ["byol", "moclr"])
def test_the_network_follows_the_new_parameters_ever_more_slowly(stepped, method):
    _, states, _ = stepped[method]
    want = states[0].params
    for k, state in enumerate(states[1:]):
        m = 1 - 0.1 * (np.cos(np.pi * k / 6) + 1) / 2
        want = jax.tree.map(lambda t, p, m=m: m * t + (1 - m) * p, want, state.params)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-7),
            state.method_state["target"]["params"],
            want,
        )
