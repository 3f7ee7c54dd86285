"""Projection heads of contrastive learning: features [B, D] to embeddings [B, P]."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.norms import Normalized, make_norm
from ltjax.options import option


class ProjectionHead(Normalized, nn.Module):
    """An MLP on top of the features, thrown away after pre-training (SimCLR).

    The outputs are the features as they come from the backbone, their projection, not
    normalized: the losses do that, and with several layers the last hidden one.

    Attributes:
        width: of the hidden layers.
        dim: P, of the projection.
        layers: number of dense layers.
        norm: normalization of the hidden layers.
        last_norm: whether the projection is normalized too (SimCLR v1's code; BYOL's
            line of work does not).
        last_affine: whether that normalization has a learned scale and offset (SimSiam:
            it has not).

    References:
        T. Chen et al., "A Simple Framework for Contrastive Learning of Visual
        Representations", ICML 2020.
    """

    num_classes: int = 0  # a head is told; this one has none
    width: int = option(512, "of the hidden layers", low=1)
    dim: int = option(128, "of the projection", low=2)
    layers: int = option(2, "dense layers", low=1)
    norm: str = option("batch", "of the hidden layers", choices=("batch", "none"))
    last_norm: bool = option(False, "whether the projection is normalized too")
    last_affine: bool = option(True, "whether last_norm has a learned scale and offset")

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None) -> dict[str, jax.Array]:
        """{"projection": [B, P]} and "hidden" [B, W]."""
        norm = make_norm(self.norm, train=train, mask=mask)
        x, made = features, {}
        for k in range(1, self.layers + 1):
            last = k == self.layers
            normed = self.norm != "none" and (self.last_norm or not last)
            width = self.dim if last else self.width
            x = nn.Dense(width, use_bias=not normed, name=f"dense{k}")(x)
            if normed:
                affine = self.last_affine or not last
                x = norm(x, f"norm{k}", use_scale=affine, use_bias=affine)
            if not last:
                x = made["hidden"] = nn.relu(x)
        return {**made, "projection": x}


class PredictionHead(ProjectionHead):
    """A projection with a predictor on top, which only the trained network needs.

    The predictor is one hidden layer; it maps a projection to what the projection of
    the other view should be.

    Attributes:
        predictor_width: of its hidden layer.

    References:
        Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020; Chen and He, "Exploring
        Simple Siamese Representation Learning", CVPR 2021.
    """

    predictor_width: int = option(512, "of the predictor's hidden layer", low=1)

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None) -> dict[str, jax.Array]:
        """{"projection": [B, P], "prediction": [B, P]}."""
        outputs = super().__call__(features, train=train, mask=mask)
        norm = make_norm(self.norm, train=train, mask=mask)
        bias = self.norm == "none"
        x = nn.Dense(self.predictor_width, use_bias=bias, name="predictor1")(
            outputs["projection"]
        )
        x = nn.relu(norm(x, "predictor_norm"))
        prediction = nn.Dense(self.dim, name="predictor2")(x)
        return {**outputs, "prediction": prediction}


class ClassifyingHead(ProjectionHead):
    """A projection beside a linear classifier on the same features.

    For methods that contrast and classify at once; it is the classifier that predicts.

    References:
        Cui et al., "Parametric Contrastive Learning", ICCV 2021.
    """

    num_classes: int = 2

    @staticmethod
    def class_vectors(params, frames) -> jax.Array:
        """The classifier's kernel [D, K]."""
        return params["classifier"]["kernel"]

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None) -> dict[str, jax.Array]:
        """{"projection": [B, P], "logits": [B, K]}."""
        outputs = super().__call__(features, train=train, mask=mask)
        return {
            **outputs,
            "logits": nn.Dense(self.num_classes, name="classifier")(features),
        }


class ClassCenters(nn.Module):
    """Class vectors [K, D] to class centers [K, P] among the projections.

    One hidden layer, normalized over the classes: all of them are always there, so that
    nothing has to be averaged for later.

    Attributes:
        width: of the hidden layer.
        dim: P.
    """

    width: int
    dim: int

    @nn.compact
    def __call__(self, vectors) -> jax.Array:
        """[K, P], not normalized."""
        x = nn.Dense(self.width, use_bias=False, name="dense1")(vectors)
        over = {"reduction_axes": 0, "feature_axes": -1, "epsilon": 1e-5}
        x = nn.relu(nn.LayerNorm(name="norm1", **over)(x))
        return nn.Dense(self.dim, name="dense2")(x)


class CenteringHead(ClassifyingHead):
    """A projection and a classifier whose columns are projected to class centers.

    Attributes:
        center_width: of the hidden layer that makes the centers.

    References:
        Zhu et al., "Balanced Contrastive Learning for Long-Tailed Visual Recognition",
        CVPR 2022, section 3.3 and the released code, where batch normalization over
        the class vectors has the same effect.
    """

    center_width: int = option(512, "of the hidden layer of the centers", low=1)

    def class_centers(self, params) -> jax.Array:
        """The centers [P, K] of the classifier's columns."""
        made = self._centers(parent=None).apply(
            {"params": params["centers"]}, self.class_vectors(params, {}).T
        )
        return jnp.asarray(made).T

    def _centers(self, **more) -> ClassCenters:
        return ClassCenters(self.center_width, self.dim, **more)

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None) -> dict[str, jax.Array]:
        """{"projection": [B, P], "logits": [B, K]}."""
        if self.is_initializing():
            like = jnp.zeros((self.num_classes, features.shape[-1]))
            self._centers(name="centers")(like)
        return super().__call__(features, train=train, mask=mask)


class Regressors(nn.Module):
    """The weights of R small networks side by side; a method applies them.

    Each maps a projection to another one by a normalized hidden layer.

    Attributes:
        number: R.
        width: W, of the hidden layers.
    """

    number: int
    width: int

    @nn.compact
    def __call__(self, projection) -> None:
        """Declares "kernel1" [R, P, W], "scale", "offset", "kernel2" and "bias2"."""
        number, width, dim = self.number, self.width, projection.shape[-1]
        kernel = nn.initializers.lecun_normal(batch_axis=(0,))
        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        self.param("kernel1", kernel, (number, dim, width))
        self.param("scale", ones, (number, width))
        self.param("offset", zeros, (number, width))
        # Targets are unit vectors: from a usual start the loss is 16 times as large at
        # first, and what it then does to the network is not made good for long.
        self.param("kernel2", zeros, (number, width, dim))
        self.param("bias2", zeros, (number, dim))


class DistillingHead(ProjectionHead):
    """A projection with regressors of a base and several experts on top of it.

    Attributes:
        experts: K; there are K + 1 regressors, that of the base first.
        regressor_width: of their hidden layers.

    References:
        Tian, Henaff and van den Oord, "Divide and Contrast", ICCV 2021, section 3.3.
    """

    experts: int = option(5, "K, beside the base", low=1)
    regressor_width: int = option(512, "of the regressors' hidden layers", low=1)

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None) -> dict[str, jax.Array]:
        """{"projection": [B, P]} and "hidden" [B, W]; the regressors wait in params."""
        outputs = super().__call__(features, train=train, mask=mask)
        if self.is_initializing():
            number, width = self.experts + 1, self.regressor_width
            Regressors(number, width, name="regressors")(outputs["projection"])
        return outputs
