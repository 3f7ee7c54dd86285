"""What is read off an affine head, whatever its parameters are."""

import jax
import numpy as np
import pytest

from ltjax.methods.affine_head import affine_head, head_logits
from ltjax.options import ConfigError


@pytest.mark.parametrize("scale", ["class_scale=none", "class_scale=ones"])
def test_kernel_and_bias_make_the_logits(smoked, scale):
    run, state = smoked("noisy_lt", "method=rcal,pretrain=false", f"head.{scale}")
    params = jax.tree.map(
        lambda x: x + 0.1 * np.arange(x.size, dtype=x.dtype).reshape(x.shape),
        state.params,
    )
    kernel, bias = affine_head(run.model, params, state.model_state)
    x = np.linspace(-1, 1, run.model.num_features, dtype=np.float32)
    want = head_logits(run.model, params, state.model_state, x)
    np.testing.assert_allclose(x @ kernel + bias, want, rtol=2e-3)
    np.testing.assert_allclose(bias, 0 * x @ kernel + bias)
    assert np.std(want) > 0


def test_a_cosine_head_is_refused(smoked):
    with pytest.raises(ConfigError, match="'bound' needs logits that are affine"):
        smoked(
            "noisy_lt",
            "method=rcal,pretrain=false",
            "method.virtual=bound",
            "head.name=cosine",
        )
