r"""DARP: guesses of the whole unlabelled set, refined to its estimated class masses.

.. math:: \min_{y} \sum_m \frac{1}{H(\hat y_m)} \mathrm{KL}(y_m \,\|\, \hat y_m)
          \quad\text{with}\quad \sum_k y_{mk} = 1, \quad \sum_m y_{mk} = c_k

Two tables with one row per unlabelled example: the latest guesses, and what
`ltjax.pseudo_labels.darp_refine` made of them. From `start` on, the table is refined
anew every `every` steps, and the rows of a batch are its targets; between two
refinements they do not depend on the prediction of the moment.

References:
    Kim et al., "Distribution Aligning Refinery of Pseudo-label for Imbalanced
    Semi-supervised Learning", NeurIPS 2020. The released code stops the solver after
    ten passes, far from the optimum, and its results are those (`solver="coordinate"`);
    by default the problem is solved. Its table holds the guesses of the training passes
    (`predictions="seen"`); "fresh" predicts all of them by a pass of their own. Its
    estimate of the masses (`masses="shift"`) comes from a supervised training of its
    own, here from the network as it is. Two options are ours: `warm`, with which a few
    passes go on where the last ones stopped, and the `penalty` of `transport`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import pseudo_labels
from ltjax.methods.method import Refresh, Setting, evaluated, padded_size
from ltjax.methods.semi_supervised.streams import STREAM, given_counts
from ltjax.methods.treatment import Treatment
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class DARPOptions:
    """Of DARP."""

    start: str = option("40%", "guesses are refined from here on", duration=True)
    every: str = option(
        "10 steps", "between refinements: 100 on CIFAR-100, STL-10", duration=True
    )
    solver: str = option(
        "newton",
        "the optimum, or the published passes",
        choices=("newton", "coordinate"),
    )
    passes: int = option(10, "of the solver 'coordinate': 20 on CIFAR-100", low=1)
    warm: bool = option(
        False, "a refinement starts from the potentials of the one before"
    )
    penalty: float = option(
        0.0, "lambda of soft masses, for estimates that may be wrong; 0 = exact", low=0
    )
    keep_ratio: float = option(
        2.0, "delta: a class keeps up to this many times its mass of examples", above=0
    )
    predictions: str = option(
        "seen",
        "what is refined: the guesses of the training passes, or all of them anew",
        choices=("seen", "fresh"),
    )
    masses: str = option(
        "labelled",
        "of the classes: as labelled, by expectation maximization, from the confusion"
        " on the split 'val', or given",
        choices=("labelled", "em", "shift", "given"),
    )
    counts: tuple[float, ...] = option(
        (), "masses 'given': one for each class, in any unit", above=0
    )

    def __post_init__(self):
        if (self.masses == "given") != bool(self.counts):
            raise ValueError(
                f"masses is {self.masses!r} and counts {self.counts}, expected counts"
                " with 'given', and none otherwise"
            )


def darp(options: DARPOptions, setting: Setting) -> Treatment:
    """DARP on the companion "unlabelled".

    Args:
        options: see `DARPOptions`.
        setting: with the companion.

    Returns:
        A `Treatment` with the tables "refined" and, for guesses that are "seen",
        "latest", and the masses "mass"; with `warm`, the "potentials" [K].
    """
    size, num_classes = setting.companions[STREAM].size, setting.num_classes
    start, every = setting.steps(options.start), max(setting.steps(options.every), 1)
    seen, shifted = options.predictions == "seen", options.masses == "shift"
    counts = given_counts(options.counts, setting)
    tables = ("refined", "latest") if seen else ("refined",)

    def init():
        shape = (padded_size(size), num_classes)
        uniform = jnp.full(shape, 1 / num_classes, jnp.float32)
        mass = jnp.asarray(counts * (size / counts.sum()), jnp.float32)
        kept = {"mass": mass, **{name: uniform for name in tables}}
        if options.warm:
            kept["potentials"] = jnp.zeros(num_classes)
        return {**kept, "confusion": jnp.eye(num_classes)} if shifted else kept

    def apply(state, guesses, batch, *, features):
        kept, stream = state.method_state, batch[STREAM]
        index = stream["index"]
        if seen:
            place = jnp.where(stream["mask"], index, padded_size(size))
            latest = kept["latest"].at[place].set(guesses, mode="drop")
            kept = {**kept, "latest": latest}
        rows = kept["refined"][index]
        return kept, jnp.where(state.step >= start, rows, guesses)

    def due(step):
        return step >= start and (step - start) % every == 0

    def predicted(state, batch):
        return jax.nn.softmax(evaluated(setting, state, batch["inputs"])["logits"])

    def confuse(kept, gathered, *, step):
        matrix = pseudo_labels.soft_confusion(
            gathered["guess"], gathered["label"], num_classes
        )
        return {**kept, "confusion": matrix}

    def refine(kept, gathered, *, step):
        rows = np.asarray(kept["latest"][:size] if seen else gathered, np.float64)
        mass = counts
        if options.masses == "em":
            sure = rows / rows.sum(axis=1, keepdims=True)
            mass = pseudo_labels.em_prior(sure, setting.class_counts)
        if shifted:
            mass = pseudo_labels.shift_estimate(
                kept["confusion"], rows.sum(axis=0)
            ).class_mass
        mass = mass * (size / mass.sum())
        plan = pseudo_labels.darp_refine(
            rows,
            mass,
            keep_ratio=options.keep_ratio,
            solver=options.solver,
            passes=options.passes,
            penalty=options.penalty or None,
            initial=kept.get("potentials"),
        )
        refined = np.array(kept["refined"])
        refined[:size] = plan.rows
        kept = {**kept, "refined": refined, "mass": mass}
        return {**kept, "potentials": plan.potentials} if options.warm else kept

    def with_labels(state, batch):
        return {"guess": predicted(state, batch), "label": batch["label"]}

    confusion = Refresh(due, confuse, with_labels, "val")
    return Treatment(
        init=init,
        apply=apply,
        estimate=lambda kept: kept["mass"],
        refreshes=(
            *([confusion] if shifted else []),
            Refresh(due, refine, None if seen else predicted, STREAM),
        ),
        tables=tables,
    )


def _needs(options: DARPOptions, config) -> list[str]:
    data = config.data.options
    if options.masses != "shift" or data.holdout or data.has_validation:
        return []
    return [
        "config.pseudo_labels.masses is 'shift', which needs examples with labels that"
        " are not trained on, expected config.data.holdout > 0 or a val_split"
    ]


DARP = Component(
    "DARP: guesses refined to the estimated class masses (Kim 2020)",
    DARPOptions,
    darp,
    _needs,
)
