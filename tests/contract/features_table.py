"""One row per loss of features: which arrays it takes, and which hyper-parameters.

These losses compare the features of a batch with each other, with a queue or with
targets, so that they do not fit the table of losses of logits. What they compute is
tested file by file; here are the properties that all of them have.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import ltjax.losses as losses

BATCH, DIM = 8, 4


def arrays() -> dict[str, np.ndarray]:
    """All that a row may ask for; names of batch arrays are in `BATCHED`."""
    rng = np.random.default_rng(11)
    queue = rng.normal(size=(6, DIM))
    return {
        **{name: rng.normal(size=(BATCH, DIM)) for name in ("a", "b", "c", "d")},
        "labels": np.array([0, 1, 2, 0, 1, 0, 2, 0], np.int32),
        "queue": queue / np.linalg.norm(queue, axis=1, keepdims=True),
        "queue_labels": np.array([0, 1, -1, 0, 2, 0], np.int32),
        "class_vectors": rng.normal(size=(DIM, 3)),
        "prior": np.array([0.6, 0.3, 0.1]),
        "logits": rng.normal(size=(BATCH, 3)),
        "believed": rng.uniform(size=(BATCH, 6)) < 0.5,
        "class_counts": np.array([50, 20, 5], np.int32),
    }


BATCHED = ("a", "b", "c", "d", "labels", "logits", "believed")


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A loss and how it is called."""

    name: str
    function: Callable[..., Any]
    positional: tuple[str, ...]
    keywords: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hyper: Mapping[str, float] = dataclasses.field(default_factory=dict)
    blocks: bool = True  # takes `block`
    stopped: bool = False  # its targets depend on "a", without a gradient

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays it takes."""
        return (*self.positional, *self.keywords.values())

    def __call__(self, given, hyper=None, where=None, **options):
        """The losses [B] of the arrays `given` by name."""
        return self.function(
            *(given[name] for name in self.positional),
            **{key: given[name] for key, name in self.keywords.items()},
            **(self.hyper if hyper is None else hyper),
            **options,
            where=where,
        )


COLD = {"temperature": 0.3}
VIEWS = ("a", "b", "c", "d")

ROWS = (
    Row("nt_xent", losses.nt_xent, ("a", "b"), hyper=COLD),
    Row("focal_nt_xent", losses.focal_nt_xent, ("a", "b"), hyper={"gamma": 1.5} | COLD),
    Row(
        "sup_con",
        losses.sup_con,
        ("a", "labels"),
        hyper={"base_temperature": 0.2} | COLD,
    ),
    Row("info_nce", losses.info_nce, ("a", "b", "queue"), hyper=COLD),
    Row("moclr", losses.moclr, VIEWS, hyper=COLD),
    Row("byol", losses.byol, VIEWS, blocks=False),
    Row("simsiam", losses.simsiam, VIEWS, blocks=False),
    Row(
        "geometric_harmonization",
        losses.geometric_harmonization,
        ("a", "b", "class_vectors", "prior"),
        hyper={"temperature": 0.3, "strength": 5.0},
        blocks=False,
        stopped=True,
    ),
    Row(
        "kcl",
        losses.kcl,
        ("a", "b", "labels"),
        keywords={"queue": "queue", "queue_labels": "queue_labels"},
        hyper={"k": 2.0} | COLD,
    ),
    Row(
        "balanced_contrastive",
        losses.balanced_contrastive,
        ("a", "labels", "class_vectors"),
        hyper=COLD,
    ),
    Row(
        "paco",
        losses.paco,
        ("logits", "labels", "class_counts"),
        keywords={
            "queries": "a",
            "keys": "b",
            "queue": "queue",
            "queue_labels": "queue_labels",
        },
        hyper={"alpha": 0.1, "beta": 0.8, "gamma": 0.5} | COLD,
    ),
    Row(
        "selected_contrast",
        losses.selected_contrast,
        ("a", "queue", "believed"),
        hyper=COLD,
        blocks=False,
    ),
    Row("dnc_distillation", losses.dnc_distillation, VIEWS, blocks=False),
    Row("denoising", losses.denoising, ("a", "b"), blocks=False),
)
