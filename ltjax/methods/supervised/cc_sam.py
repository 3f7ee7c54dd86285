"""CC-SAM, stage 1, as a second loss beside cross-entropy (Zhou et al., CVPR 2023).

Every example also sees the classifier perturbed along its own class's gradient, with a
radius that is larger for rarer classes; see `ltjax.sharpness.cc_sam`. With mixup the
radii and the plain loss use the mixed targets, the perturbed loss the unmixed labels,
as in the released code.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import sharpness
from ltjax.methods.gradient_rule import Auxiliary, GradientRule, RuleFacts, plain
from ltjax.options import Component, option

_TARGET_RADIUS = 0.05


@dataclasses.dataclass(frozen=True)
class CCSAMOptions:
    """Of CC-SAM.

    The radii go with the inverse root of a class's gradient norm, so those of fitted
    classes outgrow any calibration: without a bound a calibrated nu costs the rare
    classes most of their accuracy. (The published nu = 1e-6 gives radii far below any
    useful one.)
    """

    ratio: float = option(0.3, "share of the perturbed loss", low=0, high=1)
    nu: float = option(
        0.0, "size of the radii; 0 = median 0.05 on the first batch", low=0
    )
    max_rho: float = option(0.2, "bound of the radii; 0 = none, as published", low=0)


def cc_sam(options: CCSAMOptions, class_counts) -> Auxiliary:
    """The perturbed cross-entropy of CC-SAM; its memory is the nu in use.

    Args:
        options: see `CCSAMOptions`.
        class_counts: [K] training counts.

    Returns:
        An `Auxiliary`.
    """
    class_counts = np.asarray(class_counts)
    nu = options.nu

    def head(params):
        return params["head"]["kernel"], params["head"].get("bias")

    def targets_of(batch):
        if "partner" not in batch:
            return None
        lam = batch["lam"][:, None]
        one_hot = jax.nn.one_hot(batch["label"], len(class_counts))
        partner = jax.nn.one_hot(batch["partner"], len(class_counts))
        return lam * one_hot + (1 - lam) * partner

    def calibrated(features, kernel, bias, batch, targets):
        """`sharpness.calibrate_nu`, traced: the median over the classes present."""
        radii = sharpness.class_radii(
            features,
            kernel,
            bias,
            batch["label"],
            class_counts,
            nu=1.0,
            targets=targets,
            where=batch["mask"],
        ).kernel
        # All rows of a class carry its radius; padding must not overwrite class 0's.
        real = jnp.where(batch["mask"] & (radii > 0), radii, -jnp.inf)
        table = jnp.full(len(class_counts), -jnp.inf).at[batch["label"]].max(real)
        median = jnp.nanmedian(jnp.where(jnp.isfinite(table), table, jnp.nan))
        return jnp.where(median > 0, _TARGET_RADIUS / median, 0.0)

    def loss(params, state, memory, batch, aux):
        features = aux["outputs"]["features"]
        kernel, bias = head(params)
        targets = targets_of(batch)
        now = memory["nu"]
        if nu == 0:
            first = calibrated(
                *jax.lax.stop_gradient((features, kernel, bias)), batch, targets
            )
            now = jnp.where(state.step == 0, first, now)
        values = sharpness.cc_sam(
            features,
            kernel,
            bias,
            batch["label"],
            class_counts,
            nu=now,
            ratio=1.0,
            targets=targets,
            max_rho=options.max_rho or None,
            where=batch["mask"],
        )
        return values, {"nu": now}

    return Auxiliary(
        loss=loss,
        share=lambda state: options.ratio,
        init=lambda key, params, model_state: {"nu": jnp.asarray(nu, jnp.float32)},
        update=lambda memory, state, batch, kept: kept,
    )


def _make(options: CCSAMOptions, setting) -> GradientRule:
    return plain()._replace(auxiliary=cc_sam(options, setting.class_counts))


def _needs(options: CCSAMOptions, config) -> list[str]:
    faults = []
    if config.loss.name != "ce":
        faults.append(
            f"config.loss.name is {config.loss.name!r}, but gradient 'cc_sam' perturbs"
            " the classifier of plain cross-entropy, expected 'ce'"
        )
    if config.head.name != "linear":
        faults.append(
            f"config.head.name is {config.head.name!r}, but gradient 'cc_sam' perturbs"
            " a linear classifier, expected 'linear'"
        )
    return faults


CC_SAM = Component(
    "CC-SAM: class-conditional radii on the classifier (Zhou 2023)",
    CCSAMOptions,
    _make,
    _needs,
    lambda options: RuleFacts(has_auxiliary=True, couples_batch=True),
)
