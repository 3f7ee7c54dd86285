r"""Rotation prediction: by how many quarters was an image turned?

.. math:: \ell_i = -\log \mathrm{softmax}(W f(\mathrm{turn}(x_i, r_i)))_{r_i}, \qquad
          r_i \in \{0, 1, 2, 3\}

With a supervised long-tailed run on what it learned, all but the classifier, this is
self-supervised pre-training (SSP) as on CIFAR; on larger images its first stage is
MoCo v2.

References:
    Gidaris, Singh, Komodakis, "Unsupervised Representation Learning by Predicting Image
    Rotations", ICLR 2018; Yang and Xu, "Rethinking the Value of Labels for Improving
    Class-Imbalanced Learning", NeurIPS 2020: 200 epochs with the light augmentation of
    the supervised run. As in its code each image is turned once, and each turn is as
    frequent in a batch as it can be.
"""

import functools

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Setting,
    batch_pass,
    evaluated,
    even_part,
)
from ltjax.options import Component, NoOptions

TURNS = 4


def turned(inputs: jax.Array, turns: jax.Array) -> jax.Array:
    """Rows of `inputs`, each turned by 0 to 3 quarters.

    Args:
        inputs: [N, H, W, C] with H = W, or [N, T, C] signals, which 1, 2 and 3 reverse,
            negate, and both.
        turns: int [N].

    Returns:
        Like inputs.

    Raises:
        ValueError: if images are not square.
    """
    if inputs.ndim == 4:
        if inputs.shape[1] != inputs.shape[2]:
            raise ValueError(
                f"turned: inputs have shape {inputs.shape}, expected square images"
            )
        made = [jnp.rot90(inputs, k, axes=(1, 2)) for k in range(4)]
    else:
        back = jnp.flip(inputs, axis=1)
        made = [inputs, back, -inputs, -back]
    which = turns.reshape(-1, *[1] * (inputs.ndim - 1))
    return jnp.select([which == k for k in range(4)], made)


def rotation(options: NoOptions, setting: Setting) -> Method:
    """Rotation prediction on "inputs".

    Args:
        options: none.
        setting: the network "main" has a second classifier, "branch", of four classes.

    Returns:
        A `Method` whose prediction is that of the network, judged by "knn".
    """

    def prepare(state, batch, *, key, program):
        rows = len(batch["mask"])
        pool = jnp.tile(jnp.arange(TURNS), rows // TURNS + 1)
        turns = jax.random.permutation(key, pool)[:rows]
        more = {"turns": turns, "turned": turned(batch["inputs"], turns)}
        return state.method_state, {**batch, **more}

    def loss(params, state, batch, *, key, program):
        seen = {**batch, "inputs": batch["turned"]}
        outputs, model_state = batch_pass(setting, params, state, seen, key=key)
        branch, mask = outputs["branch"], batch["mask"]
        hit = jnp.argmax(branch, axis=1) == batch["turns"]
        aux = {
            "model_state": model_state,
            "outputs": outputs,
            "metrics": {"rotation_accuracy": (jnp.sum(hit & mask), jnp.sum(mask))},
        }
        return {"turns": losses.softmax_cross_entropy(branch, batch["turns"])}, aux

    def terms(state, batch, aux, *, program):
        parts = {"turns": even_part(batch)}
        return setting.rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss,
        terms=terms,
        predict=functools.partial(evaluated, setting),
        prepare=prepare,
        evaluators=("knn",),
    )


ROTATION = Component(
    "rotation prediction, the first stage of SSP (Gidaris 2018, Yang 2020)",
    NoOptions,
    rotation,
    facts=lambda options: MethodFacts(
        head="linear_rotation",
        reads_labels=False,
        reads_loss=False,
        reads_weights=False,
        one_array=True,
    ),
)
