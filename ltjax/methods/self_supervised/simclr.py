r"""SimCLR: each view finds the other view of its image among all views of the batch.

References:
    Chen et al., "A Simple Framework for Contrastive Learning of Visual
    Representations", ICML 2020. The loss is `ltjax.losses.nt_xent`. Both views go
    through the network together, so that batch normalization sees them together, as in
    the released code.
"""

import dataclasses

import jax.numpy as jnp

from ltjax import losses
from ltjax.methods.method import Method, MethodFacts, Setting, evaluated, even_part
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class SimCLROptions:
    """Of SimCLR."""

    temperature: float = option(0.2, "of the similarities", above=0, sweep=True)
    focal_gamma: float = option(
        0.0, "focusing exponent of the focal form; 0 = NT-Xent", low=0
    )
    block: int = option(
        0, "views whose similarities are in memory at a time; 0 = all", low=0
    )


def simclr(options: SimCLROptions, setting: Setting) -> Method:
    """SimCLR on the views "view1" and "view2".

    Args:
        options: see `SimCLROptions`.
        setting: the network "main" has a projection head.

    Returns:
        A `Method` whose prediction is features and projection, judged by "knn".
    """
    network, rule = setting.networks["main"], setting.rule
    block = options.block or None

    def loss(params, state, batch, *, key, program):
        views = jnp.concatenate([batch["view1"], batch["view2"]])
        mask = batch["mask"]
        outputs, model_state = network.forward(
            params,
            state.model_state,
            views,
            train=True,
            rngs={"dropout": key},
            mask=jnp.concatenate([mask, mask]) if setting.padded else None,
        )
        rows = len(mask)
        first, second = outputs["projection"][:rows], outputs["projection"][rows:]
        now = live("method", options, state.hyper)
        common = {"temperature": now.temperature, "where": mask, "block": block}
        if options.focal_gamma:
            values = losses.focal_nt_xent(
                first, second, gamma=options.focal_gamma, **common
            )
        else:
            values = losses.nt_xent(first, second, **common)
        own = {name: x[:rows] for name, x in outputs.items()}
        return {"views": values}, {"model_state": model_state, "outputs": own}

    def terms(state, batch, aux, *, program):
        parts = {"views": even_part(batch)}
        return rule.terms(parts, state, batch, program.rule)

    def predict(state, inputs):
        return evaluated(setting, state, inputs)

    return Method(loss=loss, terms=terms, predict=predict, evaluators=("knn",))


SIMCLR = Component(
    "SimCLR, also in its focal form (Chen 2020)",
    SimCLROptions,
    simclr,
    facts=lambda options: MethodFacts(
        head="projection",
        reads_labels=False,
        reads_loss=False,
        reads_weights=False,
        couples_batch=True,
        views=("view1", "view2"),
    ),
)
