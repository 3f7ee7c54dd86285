r"""DnC: one network learns what a base and the experts of clusters see.

.. math:: \ell = \tfrac12 \|r_b(z) - \bar t_b\|^2 + \tfrac12 \|r_k(z) - \bar t_k\|^2

for a view with projection z of an image of cluster k, averaged over both views. Divide
and contrast is runs that follow each other (`configs/selfsup_lt.py:method=dnc`): a base
learner on all images (`moclr`), `clusters` of its hidden features, an expert for each
of them, trained from scratch on its images alone, and this method, from scratch too.

The targets t are columns, projections that the teachers gave of each training image
without augmentation, so that no teacher is in memory. Each regressor has batch
statistics of the images that train it; they are needed in no other mode.

References:
    Tian, Henaff and van den Oord, "Divide and Contrast: Self-supervised Learning from
    Uncurated Data", ICCV 2021, section 3; there is no official code. There the teachers
    see the student's views, which is worth 0.2 points of 75.8 on ImageNet.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import losses
from ltjax.methods.method import Method, MethodFacts, Setting
from ltjax.methods.self_supervised import pairs
from ltjax.options import Component

COLUMNS = ("cluster", "base", "expert")


@dataclasses.dataclass(frozen=True)
class DnCOptions(pairs.ViewOptions):
    """Of the distillation of divide and contrast."""


def regress(weights: dict, z: jax.Array, members: jax.Array) -> jax.Array:
    """What every regressor makes of every projection.

    Args:
        weights: of `ltjax.models.projection.Regressors`, R of them.
        z: [B, P].
        members: [B, R] bool, the rows whose statistics a regressor has.

    Returns:
        [B, R, P].
    """
    hidden = jnp.einsum("bp,rpw->brw", z, weights["kernel1"])
    own = members[:, :, None].astype(z.dtype)
    count = jnp.maximum(jnp.sum(own, axis=0), 1)
    mean = jnp.sum(own * hidden, axis=0) / count
    away = hidden - mean[None]
    variance = jnp.sum(own * jnp.square(away), axis=0) / count
    scale = weights["scale"] * jax.lax.rsqrt(variance + 1e-5)
    x = jax.nn.relu(away * scale[None] + weights["offset"][None])
    return jnp.einsum("brw,rwp->brp", x, weights["kernel2"]) + weights["bias2"][None]


def dnc(options: DnCOptions, setting: Setting) -> Method:
    """The distillation of a base and of experts into the network "main".

    Args:
        options: see `DnCOptions`.
        setting: the network "main" has a distilling head; the columns "cluster" [N],
            "base" and "expert" [N, P] tell the cluster of an example and what base and
            own expert project it to.

    Returns:
        A `Method` whose prediction is features and projection, judged by "knn".

    Raises:
        ValueError: if the head has fewer experts than there are clusters.
    """
    most = int(np.max(setting.columns["cluster"], initial=0)) + 1

    def loss(params, state, batch, *, key, program):
        first, second, model_state = pairs.view_outputs(
            setting, params, state.model_state, batch, key=key, joint=options.joint
        )
        weights = params["head"]["regressors"]
        experts = len(weights["kernel1"]) - 1
        if experts < most:
            raise ValueError(
                f"dnc: the head has {experts} experts, expected one for each of the"
                f" {most} clusters (head.experts)"
            )
        mask, cluster = batch["mask"], batch["cluster"].astype(jnp.int32)
        own = cluster[:, None] == jnp.arange(experts)[None, :]
        members = jnp.concatenate([jnp.ones_like(own[:, :1]), own], axis=1)
        members = jnp.repeat(members & mask[:, None], 2, axis=0)
        z = jnp.stack([first["projection"], second["projection"]], axis=1)
        made = regress(weights, z.reshape(-1, z.shape[2]), members)
        made = made.reshape(*z.shape[:2], *made.shape[1:])
        place = (cluster + 1)[:, None, None, None]
        expert = jnp.take_along_axis(made, place, axis=2)[:, :, 0]
        values = [
            losses.dnc_distillation(
                made[:, view, 0],
                expert[:, view],
                batch["base"],
                batch["expert"],
                where=mask,
            )
            for view in (0, 1)
        ]
        return pairs.pair_losses(
            (values[0] + values[1]) / 2, first, second, model_state, mask
        )

    return pairs.pair_method(setting, loss)


DNC = Component(
    "DnC: distillation of a base and of the clusters' experts (Tian 2021)",
    DnCOptions,
    dnc,
    facts=lambda options: MethodFacts(
        head="distilling",
        reads_labels=False,
        reads_loss=False,
        reads_weights=False,
        couples_batch=True,  # the regressors' statistics
        columns=COLUMNS,
        views=pairs.VIEWS,
    ),
)
