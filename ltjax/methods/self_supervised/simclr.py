r"""SimCLR: each view finds the other view of its image among all views of the batch.

References:
    Chen et al., "A Simple Framework for Contrastive Learning of Visual
    Representations", ICML 2020. The loss is `ltjax.losses.nt_xent`. Both views go
    through the network together, so that batch normalization sees them together, as in
    the released code; that of geometric harmonization takes them one after the other
    (`joint=False`).
"""

import dataclasses

from ltjax import losses
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import pairs
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class SimCLROptions(pairs.TemperatureOptions, pairs.ViewOptions):
    """Of SimCLR."""

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
    temperature_at = pairs.temperature_of(options, setting)
    block = options.block or None

    def loss(params, state, batch, *, key, program):
        first, second, model_state = pairs.view_outputs(
            setting, params, state.model_state, batch, key=key, joint=options.joint
        )
        temperature = temperature_at(state)
        views = first["projection"], second["projection"]
        common = {"temperature": temperature, "where": batch["mask"], "block": block}
        if options.focal_gamma:
            values = losses.focal_nt_xent(*views, gamma=options.focal_gamma, **common)
        else:
            values = losses.nt_xent(*views, **common)
        more = pairs.told(options, temperature)
        return pairs.pair_losses(values, first, second, model_state, **more)

    return pairs.unlabelled_method(setting, loss)


SIMCLR = Component(
    "SimCLR, also in its focal form (Chen 2020)",
    SimCLROptions,
    simclr,
    facts=lambda options: pairs.unlabelled_facts(couples_batch=True),
)
