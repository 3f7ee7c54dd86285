r"""Distribution alignment: guesses scaled towards a class distribution.

.. math:: \tilde q_k \propto q_k \frac{t_k}{m_k}, \qquad t \propto \pi^{p}

m is the mean guess of the last 128 batches and t the labelled distribution, tempered by
p: 1 in ReMixMatch, falling from generation to generation in CReST+.

References:
    Berthelot et al., "ReMixMatch", ICLR 2020: m starts uniform and is read before the
    batch enters. DARP, ABC and DASO start without batches and read after it
    (`order="write"`). Wei et al., "CReST", CVPR 2021.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax import pseudo_labels
from ltjax.methods.method import Setting
from ltjax.methods.semi_supervised.streams import STREAM, flat, given_counts
from ltjax.methods.treatment import Treatment
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class AlignOptions:
    """Of distribution alignment."""

    power: float = option(
        1.0, "exponent of the labelled distribution; 0 = uniform", low=0, sweep=True
    )
    batches: int = option(128, "over which the guesses are averaged", low=1)
    order: str = option(
        "read",
        "whether the average is read before the batch enters, or after it",
        choices=("read", "write"),
    )
    counts: tuple[float, ...] = option(
        (), "of the classes, in place of the labelled ones", above=0
    )


def toward(
    buffer: pseudo_labels.DistributionBuffer,
    guesses: jax.Array,
    mask: jax.Array,
    target: jax.Array,
    *,
    read_first: bool = True,
) -> tuple[pseudo_labels.DistributionBuffer, jax.Array]:
    """The buffer with the mean of guesses [B, m, K], and these aligned."""
    new = pseudo_labels.update_distribution_buffer(
        buffer, flat(guesses), where=mask.ravel()
    )
    running = pseudo_labels.running_distribution(buffer if read_first else new)
    return new, pseudo_labels.align_distribution(guesses, target, running)


def align(options: AlignOptions, setting: Setting) -> Treatment:
    """Distribution alignment with a buffer of mean guesses.

    Args:
        options: see `AlignOptions`.
        setting: with the class counts.

    Returns:
        A `Treatment` whose state is the buffer "guessed".
    """
    counts = given_counts(options.counts, setting)
    prior = jnp.asarray(counts / counts.sum(), jnp.float32)
    read_first = options.order == "read"

    def init():
        buffer = pseudo_labels.init_distribution_buffer(
            setting.num_classes,
            size=options.batches,
            start="uniform" if read_first else "empty",
        )
        return {"guessed": buffer}

    def apply(state, guesses, batch, *, features):
        kept = state.method_state
        power = live("pseudo_labels", options, state.hyper).power
        buffer, aligned = toward(
            kept["guessed"],
            guesses,
            batch[STREAM]["mask"],
            pseudo_labels.temper(prior, power),
            read_first=read_first,
        )
        return {**kept, "guessed": buffer}, aligned

    def estimate(kept):
        return pseudo_labels.running_distribution(kept["guessed"])

    return Treatment(init=init, apply=apply, estimate=estimate)


ALIGN = Component(
    "guesses scaled towards a class distribution (ReMixMatch, Berthelot 2020; CReST+)",
    AlignOptions,
    align,
)
