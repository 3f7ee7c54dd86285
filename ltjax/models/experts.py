"""Several classifiers on one trunk: a head of experts, and a ResNet that splits late.

Each expert keeps ordinary layers of its own, "expert1", "expert2", ..., so that decay,
perturbations and reports treat them like any other layer.

References:
    Wang et al., "Long-Tailed Recognition by Routing Diverse Distribution-Aware
    Experts", ICLR 2021 (RIDE), and the released code for widths, head and router.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from ltjax._checks import check_choice
from ltjax._numerics import l2_normalize
from ltjax.models.heads import CosineHead, LinearHead
from ltjax.models.norms import DTYPES, NORMS, Normalized, check_norm, make_norm
from ltjax.models.resnet_cifar import Block, conv3x3
from ltjax.options import option

CLASSIFIERS = ("cosine", "linear")


class ExpertHead(nn.Module):
    """E classifiers; they predict by the mean of their logits.

    Attributes:
        num_classes: K.
        num_experts: E.
        hidden: width of a dense layer that each expert has for itself; 0 for none.
        own_features: whether expert e reads only the e-th of E equal parts of the
            features, as of `ExpertResNetCifar`; otherwise each reads all of them.
        classifier: "cosine" or "linear".
        scale: factor of the logits; 30 belongs to cosines.
        router: whether there is a small network that decides after each expert whether
            the next one is asked.
        router_top: number of the largest logits that the router sees.
        router_width: of its hidden layer.
    """

    num_classes: int
    num_experts: int = option(3, "E", low=2)
    hidden: int = option(0, "width of each expert's own dense layer; 0 = none", low=0)
    own_features: bool = option(False, "each expert reads its own part of the features")
    classifier: str = option("cosine", "of every expert", choices=CLASSIFIERS)
    scale: float = option(30.0, "factor of the logits", above=0)
    router: bool = option(False, "whether a router decides how many experts are asked")
    router_top: int = option(30, "largest logits that the router sees", low=1)
    router_width: int = option(16, "of the router's hidden layer", low=1)

    rows_independent = True

    def __post_init__(self):
        check_choice("ExpertHead", "classifier", self.classifier, CLASSIFIERS)
        super().__post_init__()

    def _split(self, features) -> list[jax.Array]:
        """The features that each expert reads."""
        if not self.own_features:
            return [features] * self.num_experts
        if features.shape[-1] % self.num_experts:
            raise ValueError(
                f"ExpertHead: there are {features.shape[-1]} features, expected a"
                f" multiple of num_experts = {self.num_experts} with own_features"
            )
        return jnp.split(features, self.num_experts, axis=-1)

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None) -> Mapping[str, jax.Array]:
        """{"logits" [B, K], "expert_logits" [B, E, K]} and "router" [B, E - 1]."""
        seen, logits = [], []
        for e, x in enumerate(self._split(features), start=1):
            if self.hidden:
                init = variance_scaling(2.0, "fan_in", "normal")
                x = nn.Dense(self.hidden, kernel_init=init, name=f"expert{e}_hidden")(x)
                x = nn.relu(x)
            kind = CosineHead if self.classifier == "cosine" else LinearHead
            _, z = kind(self.num_classes, name=f"expert{e}")(x, train=train, mask=mask)
            seen.append(x)
            logits.append(self.scale * z)
        made = {"expert_logits": jnp.stack(logits, axis=1)}
        made["logits"] = jnp.mean(made["expert_logits"], axis=1)
        if self.router:
            router = Router(self.router_top, self.router_width, name="router")
            made["router"] = router(seen, made["expert_logits"])
        return made


class Router(nn.Module):
    """After each expert but the last: a logit of "another one is needed".

    Attributes:
        top: number of the largest mean logits that are seen.
        width: of the hidden layer on the expert's features.
    """

    top: int
    width: int

    @nn.compact
    def __call__(self, features: list, expert_logits):
        """Features [B, D] by expert and logits [B, E, K] to [B, E - 1]."""
        size = min(self.top, expert_logits.shape[-1])
        hidden = nn.Dense(self.width, name="hidden")
        found = []
        for e in range(1, expert_logits.shape[1]):
            mean = jnp.mean(expert_logits[:, :e], axis=1)
            x = nn.relu(hidden(l2_normalize(features[e - 1], floor=1e-8)))
            x = jnp.concatenate([x, jax.lax.top_k(mean, size)[0]], axis=-1)
            found.append(nn.Dense(1, name=f"after{e}")(x))
        return jnp.concatenate(found, axis=-1)


class ExpertResNetCifar(Normalized, nn.Module):
    """A CIFAR ResNet whose last two stages exist once for every expert.

    Stem and first stage are shared; the experts' stages are narrower, so that three of
    them cost about as much again as one full network. Features are those of the
    experts, side by side.

    Attributes:
        depth: number of weighted layers of an expert's path, 6n + 2.
        width: channels of the shared stage.
        narrow: the experts' stages have 2w and 4w channels times this, rounded to even
            numbers; 0.75 gives the published 24 and 48.
        experts: E.
        norm: see `ResNetCifar`.
        dtype: of the computation; parameters stay float32.
    """

    depth: int = option(32, "layers of an expert's path, 6n + 2", low=8)
    width: int = option(16, "channels of the shared stage", low=2)
    narrow: float = option(0.75, "width of an expert's stages", above=0, high=1)
    experts: int = option(3, "E", low=2)
    norm: str = option("batch", "normalization", choices=NORMS)
    dtype: str = option("float32", "of the computation", choices=DTYPES)

    head_init = "he"

    def __post_init__(self):
        if self.depth < 8 or (self.depth - 2) % 6 or self.width % 2:
            raise ValueError(
                f"ExpertResNetCifar: depth is {self.depth} and width {self.width},"
                " expected a depth of 6n + 2 with n >= 1 and an even width"
            )
        if self.late_widths[0] < self.width:
            raise ValueError(
                f"ExpertResNetCifar: narrow is {self.narrow}, which leaves"
                f" {self.late_widths[0]} channels after {self.width}, expected at least"
                " as many"
            )
        check_norm("ExpertResNetCifar", self.norm)
        super().__post_init__()

    @property
    def late_widths(self) -> tuple[int, int]:
        """Channels of an expert's two stages."""
        return 2 * round(self.width * self.narrow), 2 * round(
            2 * self.width * self.narrow
        )

    @property
    def num_features(self) -> int:
        """Width of the features of all experts."""
        return self.experts * self.late_widths[1]

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Images [B, H, W, C] to features [B, E D]."""
        if inputs.ndim != 4:
            raise ValueError(
                f"ExpertResNetCifar: inputs have shape {inputs.shape}, expected"
                " [B, H, W, C]"
            )
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)

        def stage(x, width, name, stride):
            for block in range((self.depth - 2) // 6):
                x = Block(
                    width=width,
                    stride=stride if block == 0 else 1,
                    norm=self.norm,
                    dtype=self.dtype,
                    name=f"{name}_block{block + 1}",
                )(x, train=train, mask=mask)
            return x

        x = conv3x3(self.width, dtype=self.dtype, name="stem")(inputs)
        x = stage(nn.relu(norm(x, "stem_norm")), self.width, "stage1", 1)
        features = []
        for e in range(1, self.experts + 1):
            own = x
            for k, width in enumerate(self.late_widths, start=2):
                own = stage(own, width, f"expert{e}_stage{k}", 2)
            features.append(jnp.mean(own, axis=(1, 2)))
        return jnp.concatenate(features, axis=-1)
