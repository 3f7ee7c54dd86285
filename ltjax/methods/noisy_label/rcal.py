r"""RCAL: virtual features of calibrated class Gaussians, near label-free features.

From a network that was trained without labels (`init_from`), before the first step: the
features z of the training set, those that lie apart from their given class dropped, a
Gaussian per class, tail Gaussians calibrated by near head classes. Then

.. math:: L = \mathrm{CE}(h(f(\tilde x)), \tilde y)
          + \frac1B \sum_b \mathrm{CE}(h(v_b), k_b)
          + \beta\, \frac1B \sum_i \|f(\tilde x_i) - \tilde z_i\|^2, \qquad
          v_b \sim N(\mu'_{k_b}, \Sigma'_{k_b})

on mixed images, with as many virtual features as rows, of classes drawn alike, anew at
every step. The first term is the loss of the config with its class weights. Its parts
are switched off by `mixup=0`, `beta=0`, `virtual="off"`, and by not pre-training.

Two choices are ours: `virtual="bound"` takes the expectation of the second term over
features and classes, bounded from above, in place of draws (`virtual_cross_entropy`),
and `believes="posterior"` drops the labels that a mixture of Gaussians takes to be
wrong, with a rate for each class that is estimated (`noise_rates`), not given.

References:
    Zhang et al., "When Noisy Labels Meet Long Tail Dilemmas: A Representation
    Calibration Method", ICCV 2023, Algorithm 1. No code was released; the form of L,
    the outlier rate, the weights of the head classes and all defaults are our choice.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import losses as nats
from ltjax.methods import labelled
from ltjax.methods.affine_head import affine_head, affine_needs
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Refresh,
    Setting,
    batch_pass,
    even_part,
)
from ltjax.methods.noisy_label.kept import believed_aux
from ltjax.methods.supervised.supervised import SUPERVISED
from ltjax.options import Component, live, option
from ltjax.pseudo_labels import (
    calibrate_tail,
    class_gaussians,
    inliers_by_class,
    noise_rates,
    virtual_cross_entropy,
)
from ltjax.resampling.mixup import mixup

FLOOR = 1e-8  # of the variances: a class of one example has none


@dataclasses.dataclass(frozen=True)
class RCALOptions:
    """Of RCAL."""

    beta: float = option(
        0.1, "of the distance from the label-free features", low=0, sweep=True
    )
    reg_on: str = option(
        "mixed",
        "what is held near its label-free features: mixtures, or images as they are",
        choices=("mixed", "clean"),
    )
    mixup: float = option(1.0, "alpha of Beta(alpha, alpha); 0 = off", low=0)
    virtual: str = option(
        "drawn",
        "virtual features that train the head: drawn, their expected cross-entropy"
        " bounded, or none",
        choices=("drawn", "bound", "off"),
    )
    believes: str = option(
        "inliers",
        "labels that count: those of inliers by the outlier factor, or those that are"
        " more likely right than wrong",
        choices=("inliers", "posterior"),
    )
    contamination: float = option(
        0.2,
        "inliers: share of a class that is dropped, the noise rate",
        low=0,
        high=0.5,
    )
    nearest: int = option(3, "head classes that calibrate a tail class", low=1)
    calibrated: bool = option(True, "whether tail Gaussians are calibrated")


def rcal(options: RCALOptions, setting: Setting) -> Method:
    """RCAL's training, after the network was trained without labels.

    Args:
        options: see `RCALOptions`.
        setting: the network "main", `loss`, `weights`, the rule and the given labels.

    Returns:
        A `Method` with the tables "anchor" (label-free features) and "kept", and the
        "means" [K, D] and "roots" [K, D, D] of the class Gaussians.
    """
    network, rule = setting.networks["main"], setting.rule
    num_classes, dim = setting.num_classes, network.num_features
    labels, size = np.asarray(setting.labels), setting.num_examples
    beside = options.mixup > 0 and options.reg_on == "clean"  # a pass of its own rows

    def init(key, params, model_state):
        return {
            "anchor": jnp.zeros((setting.table_size, dim)),
            "kept": jnp.ones(setting.table_size, bool),
            "means": jnp.zeros((num_classes, dim)),
            "roots": jnp.zeros((num_classes, dim, dim)),
        }

    def gather(state, batch):
        outputs, _ = network.forward(
            state.params, state.model_state, batch["inputs"], train=False
        )
        return outputs["features"]

    def fit(kept, features, *, step):
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        unit = features / np.maximum(norms, 1e-12)
        if options.believes == "posterior":
            right = noise_rates(unit, labels, num_classes).right
            believed = likely_by_class(right, labels, num_classes)
        else:
            believed = inliers_by_class(
                unit, labels, num_classes, contamination=options.contamination
            )
        found = class_gaussians(features, labels, num_classes, where=believed)
        if options.calibrated:
            found = calibrate_tail(found, setting.class_counts, nearest=options.nearest)
        anchor, told = np.array(kept["anchor"]), np.array(kept["kept"])
        anchor[:size], told[:size] = features, believed
        roots = np.linalg.cholesky(found.covariances + FLOOR * np.eye(dim))
        return {"anchor": anchor, "kept": told, "means": found.means, "roots": roots}

    def prepare(state, batch, *, key, program):
        kept, rows = state.method_state, len(batch["mask"])
        mix_key, label_key, noise_key = jax.random.split(key, 3)
        anchor = kept["anchor"][batch["index"]]
        more = {"anchor": anchor, "believed": kept["kept"][batch["index"]]}
        if options.mixup:
            mixed = mixup(mix_key, batch["inputs"], alpha=options.mixup)
            lam, partner = mixed.lam, mixed.partner
            if beside:
                more["clean"] = batch["inputs"]
            else:
                more["anchor"] = lam * anchor + (1 - lam) * anchor[partner]
            more |= {
                "inputs": mixed.inputs,
                "partner": batch["label"][partner],
                "partner_row": partner,
                "lam": jnp.broadcast_to(lam, (rows,)),
            }
        if options.virtual == "drawn":
            classes = jax.random.randint(label_key, (rows,), 0, num_classes)
            noise = jax.random.normal(noise_key, (rows, dim))
            away = jnp.einsum("bij,bj->bi", kept["roots"][classes], noise)
            more["virtual"] = kept["means"][classes] + away
            more["virtual_label"] = classes.astype(jnp.int32)
        return kept, {**batch, **more}

    def loss(params, state, batch, *, key, program):
        rows, seen = len(batch["mask"]), batch
        if beside:
            inputs = jnp.concatenate([batch["inputs"], batch["clean"]])
            seen = {"inputs": inputs, "mask": jnp.tile(batch["mask"], 2)}
        outputs, model_state = batch_pass(setting, params, state, seen, key=key)
        features = outputs["features"][-rows:]
        outputs = {name: x[:rows] for name, x in outputs.items()}
        context = labelled.loss_context(
            setting, state, params, model_state, mask=batch["mask"]
        )
        losses = {
            name: labelled.label_loss(setting, state, outputs, batch[name], context)
            for name in (("label", "partner") if options.mixup else ("label",))
        }
        losses["distance"] = jnp.sum((features - batch["anchor"]) ** 2, axis=1)
        if options.virtual == "drawn":
            drawn, _ = network.classify(
                params, state.model_state, batch["virtual"], train=False
            )
            losses["virtual"] = nats.softmax_cross_entropy(
                drawn["logits"], batch["virtual_label"]
            )
        elif options.virtual == "bound":
            kept = state.method_state
            each = virtual_cross_entropy(
                kept["means"],
                kept["roots"],
                *affine_head(network, params, state.model_state),
            )
            losses["virtual"] = jnp.broadcast_to(jnp.mean(each), batch["mask"].shape)
        return losses, believed_aux(model_state, outputs, batch)

    def terms(state, batch, aux, *, program):
        part, even = labelled.labelled_part(setting, state, batch), even_part(batch)
        beta = live("method", options, state.hyper).beta
        parts = {"label": part, "distance": Part(part.labels, beta * even.base)}
        if options.mixup:
            lam, partner = batch["lam"], batch["partner_row"]
            parts["label"] = Part(part.labels, lam * part.base)
            other = (1 - lam) * part.base[partner]
            parts["partner"] = Part(batch["partner"], other)
        if options.virtual != "off":
            # A bound is that of all classes and belongs to none.
            parts["virtual"] = Part(batch.get("virtual_label"), even.base)
        return rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss,
        terms=terms,
        predict=labelled.prediction(setting),
        init=init,
        prepare=prepare,
        refreshes=(Refresh(lambda step: step == 0, fit, gather),),
        tables=("anchor", "kept"),
        class_part="label",
    )


def likely_by_class(right, labels, num_classes: int) -> np.ndarray:
    """[N] bool, labels that are more likely right than wrong, two or more of a class.

    Args:
        right: [N], probabilities that labels are right.
        labels: [N] int.
        num_classes: K.

    Example:
        >>> likely_by_class(np.array([0.9, 0.4, 0.1, 0.2]), np.array([0, 0, 0, 1]), 2)
        array([ True,  True, False,  True])
    """
    believed = right > 0.5
    for k in range(num_classes):
        at = np.flatnonzero(labels == k)
        believed[at[np.argsort(-right[at], kind="stable")[:2]]] = True
    return believed


def _needs(options: RCALOptions, config) -> list[str]:
    faults = SUPERVISED.needs(options, config)
    if options.virtual == "bound":
        faults += affine_needs(config, "config.method.virtual 'bound'")
    return faults


RCAL = Component(
    "RCAL: virtual features of calibrated class Gaussians (Zhang 2023)",
    RCALOptions,
    rcal,
    _needs,
    lambda options: MethodFacts(mixes=options.mixup > 0),
)
