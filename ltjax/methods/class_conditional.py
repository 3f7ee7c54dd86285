"""CC-SAM, stage 1, as a second loss beside cross-entropy (Zhou et al., CVPR 2023).

Every example also sees the classifier perturbed along its own class's gradient, with a
radius that is larger for rarer classes; see `ltjax.sharpness.cc_sam`. With mixup the
radii and the plain loss use the mixed targets, the perturbed loss the unmixed labels,
as in the released code.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import sharpness
from ltjax.methods.supervised import Auxiliary

_TARGET_RADIUS = 0.05


def cc_sam(class_counts, *, nu: float, ratio: float, max_rho: float = 0.0) -> Auxiliary:
    """The perturbed cross-entropy of CC-SAM.

    Args:
        class_counts: [K] training counts.
        nu: overall size of the radii; 0 picks it on the first batch, so that the median
            radius over the classes present is 0.05. (The published 1e-6 gives radii far
            below any useful one.)
        ratio: share r of the perturbed loss.
        max_rho: bound of the radii, 0 for none (as published). They go with the inverse
            root of a class's gradient norm, so those of fitted classes outgrow any
            calibration: without a bound a calibrated nu costs the rare classes most of
            their accuracy.

    Returns:
        An `Auxiliary` for `supervised`; its state is the nu in use.
    """
    class_counts = np.asarray(class_counts)

    def head(params):
        return params["head"]["kernel"], params["head"].get("bias")

    def targets_of(batch, aux):
        if "mixup" not in aux:
            return None
        partner, lam = aux["mixup"]
        one_hot = jax.nn.one_hot(batch["label"], len(class_counts))
        return lam * one_hot + (1 - lam) * one_hot[partner]

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

    def loss(params, state, batch, aux):
        features = aux["outputs"]["features"]
        kernel, bias = head(params)
        targets = targets_of(batch, aux)
        now = state.method_state["nu"]
        if nu == 0:
            first = calibrated(
                *jax.lax.stop_gradient((features, kernel, bias)), batch, targets
            )
            now = jnp.where(state.step == 0, first, now)
        aux["cc_nu"] = now
        return sharpness.cc_sam(
            features,
            kernel,
            bias,
            batch["label"],
            class_counts,
            nu=now,
            ratio=1.0,
            targets=targets,
            max_rho=max_rho or None,
            where=batch["mask"],
        )

    return Auxiliary(
        loss=loss,
        share=lambda state: ratio,
        init=lambda key, params, model_state: {"nu": jnp.asarray(nu, jnp.float32)},
        update=lambda state, batch, aux: {"nu": aux["cc_nu"]},
    )
