r"""Low-rank adaptation (LoRA): kernels stay as they are, small updates of them train.

.. math:: W' = W + \frac{\alpha}{r} A B, \qquad A: [m, r], \; B: [r, n], \; B_0 = 0.

The updates are parameters of their own, so that optimizer, averages, perturbations and
checkpoints see them like any other module; the network below sees merged kernels. It
may be of any kind, because nothing but the tree of its parameters is touched.

References:
    E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022,
    equation 3; the start of A is that of the released code.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.models.components import AdapterFacts
from ltjax.models.forward import Model
from ltjax.models.part_of import part_of, without
from ltjax.options import Component, ConfigError, NoOptions, option

LORA = "lora"  # the name of the updates among the parameters
TARGETS = ("attention", "dense*", "conv*")


@dataclasses.dataclass(frozen=True)
class LoRAOptions:
    """Of low-rank adaptation."""

    rank: int = option(8, "r, of every update", low=1)
    alpha: float = option(16.0, "updates count alpha / rank", above=0)
    targets: tuple[str, ...] = option(
        TARGETS, "modules of the backbone whose kernels are updated, as patterns"
    )


def with_lora(
    model: Model,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] = TARGETS,
) -> Model:
    """A model with low-rank updates of kernels of its backbone.

    Convolutions and the kernels of attention, which have an axis for the heads, are
    seen as the matrix [m, n] that is nearest to a square. As B starts at zero, the
    function is exactly that of the model at first.

    Args:
        model: whose parameters lie under "backbone" and other names.
        rank: r, cut down to min(m, n) where that is smaller.
        alpha: numerator of the updates' factor.
        targets: patterns; a kernel is updated if one of them matches the name of a
            module that it lies in.

    Returns:
        A `Model` with the updates at the top level of the parameters under "lora". Its
        `merge` gives plain parameters.

    Raises:
        ConfigError: by `init`, if no kernel is matched.

    Example:
        >>> from ltjax.models import build_model
        >>> model = with_lora(build_model("vit", num_classes=3, depth=1), rank=2)
        >>> images = jnp.zeros((1, 8, 8, 3))
        >>> params, _ = model.init(jax.random.key(0), images)
        >>> jax.tree.map(jnp.shape, params["lora"]["block1"]["dense1"]["kernel"])
        {'a': (192, 2), 'b': (2, 768)}
    """

    def matched(path, kernel):
        return any(fnmatchcase(m, target) for m in path for target in targets)

    def init(key, sample_inputs):
        params, model_state = model.init(key, sample_inputs)
        key = jax.random.fold_in(key, zlib.crc32(LORA.encode()))
        updates = first_updates(key, params["backbone"], rank, matched)
        if not updates:
            modules = {"/".join(path[:-1]) for path in _kernels(params["backbone"])}
            raise ConfigError(
                [
                    f"config.adapter.targets is {tuple(targets)}, which match no module"
                    " with a kernel; there are"
                    f" {', '.join(sorted(modules))}"
                ]
            )
        return {**params, LORA: updates}, model_state

    def below(params):
        """Plain parameters, kernels merged."""
        kept = without(params, LORA)
        merged = with_updates(params["backbone"], params[LORA], alpha / rank)
        return {**kept, "backbone": merged}

    def adopt(params, fresh):
        kept = without(params, LORA)
        return {**model.adopt(kept, fresh), LORA: params[LORA]}

    return part_of(model, below)._replace(
        init=init,
        adopt=adopt,
        merge=below,
        describe=f"{model.describe}, LoRA of rank {rank}",
    )


def _kernels(tree: Mapping[str, Any], path: tuple[str, ...] = ()):
    """(modules..., "kernel") of every kernel of at least two axes."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _kernels(value, (*path, name))
        elif name == "kernel" and value.ndim > 1:
            yield *path, name


def first_updates(
    key: jax.Array,
    tree: Any,
    rank: int,
    wanted: Callable[[tuple[str, ...], Any], bool],
) -> dict[str, Any]:
    """The tree of updates at the start: A uniform, B zero.

    Args:
        key: of A; every kernel has one of its own, by its path.
        tree: of parameters, nested dicts.
        rank: r, cut down where a kernel has fewer rows or columns.
        wanted: (modules of the path, kernel) -> whether the kernel is updated.

    Returns:
        {"a": [m, r], "b": [r, n]} in the place of each such kernel, and nothing else.
    """
    found: dict[str, Any] = {}
    for path in _kernels(tree):
        *modules, leaf = path
        value, place = tree, found
        for name in path:
            value = value[name]
        if not wanted(tuple(modules), value):
            continue
        for module in modules:
            place = place.setdefault(module, {})
        rows, columns = _matrix(value.shape)
        own = jax.random.fold_in(key, zlib.crc32("/".join(path).encode()))
        bound = 1 / math.sqrt(rows)
        size = min(rank, rows, columns)
        a = jax.random.uniform(own, (rows, size), value.dtype, -bound, bound)
        place[leaf] = {"a": a, "b": jnp.zeros((size, columns), value.dtype)}
    return found


def with_updates(tree: Any, updates: Any, factor: float) -> Any:
    """`tree` with its kernels W in the place of updates as W + factor * A B."""
    merged = dict(tree)
    for name, update in updates.items():
        value = tree[name]
        if isinstance(value, Mapping):
            merged[name] = with_updates(value, update, factor)
        else:
            product = update["a"] @ update["b"]
            merged[name] = value + factor * product.reshape(value.shape)
    return merged


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """(m, n) of the split of the axes that is nearest to a square.

    Example:
        >>> [_matrix(shape) for shape in ((64, 4, 16), (4, 16, 64), (3, 3, 8, 32))]
        [(64, 64), (64, 64), (72, 32)]
    """
    splits = [
        (math.prod(shape[:k]), math.prod(shape[k:])) for k in range(1, len(shape))
    ]
    return min(splits, key=lambda split: abs(math.log(split[0] / split[1])))


def _needs(options: LoRAOptions, config) -> list[str]:
    trained = config.optimizer.train.split(",")
    if LORA in trained and not any(name.startswith("backbone") for name in trained):
        return []
    return [
        f"config.optimizer.train is {config.optimizer.train!r}, but with adapter 'lora'"
        " the updates are to train in place of the backbone, expected 'lora,head'"
    ]


ADAPTERS: dict[str, Component] = {
    "none": Component("the network as it is", NoOptions, lambda options, model: model),
    "lora": Component(
        "low-rank updates train in place of the backbone (Hu 2022)",
        LoRAOptions,
        lambda options, model: with_lora(model, **dataclasses.asdict(options)),
        _needs,
        lambda options: AdapterFacts((LORA,)),
    ),
}
