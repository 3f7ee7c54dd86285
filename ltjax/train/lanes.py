"""Lanes: how many replicas there are, and how they are laid over the devices."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from ltjax.options import ConfigError
from ltjax.train.check import swept
from ltjax.train.config import TrainConfig
from ltjax.train.mesh import BATCH_AXES, Layout, check_divisible, make_mesh


def replica_table(config: TrainConfig) -> tuple[dict, ...]:
    """Seeds x grid: {"seed": int, "hyper": {name: float}} of every replica."""
    base = swept(config)
    grid = {key: np.atleast_1d(values) for key, values in config.replicas.grid.items()}
    table = []
    for point in itertools.product(*grid.values()):
        chosen = dict(zip(grid, map(float, point), strict=True))
        for seed in config.replicas.seeds:
            table.append({"seed": config.seed + seed, "hyper": base | chosen})
    return tuple(table)


@dataclasses.dataclass(frozen=True)
class Lanes:
    """What every pass over replicated states needs to know.

    Attributes:
        count: R, the number of replicas.
        layout: of the devices.
        mode: "vmap"; "unroll" repeats the program R times (faster on CPU, where vmapped
            convolutions are slow, but compiles R times as much); "devices" gives each
            device R / devices whole replicas.
        eval_batch_size: examples at a time in a pass over a split.
    """

    count: int
    layout: Layout
    mode: str
    eval_batch_size: int = 500

    def each(self, fn: Callable, axes: tuple) -> Callable:
        """`fn` of one replica as a function of arrays with a leading replica axis.

        Args:
            fn: function of one replica's arguments.
            axes: 0 or None per argument: whether it has the replica axis.

        Returns:
            The function of stacked arguments, returning stacked results.
        """

        def batched(*args):
            replicas = next(
                jax.tree.leaves(arg)[0].shape[0]
                for arg, axis in zip(args, axes, strict=True)
                if axis == 0
            )

            def pick(r):
                chosen = (
                    jax.tree.map(lambda x: x[r], arg) if axis == 0 else arg
                    for arg, axis in zip(args, axes, strict=True)
                )
                return fn(*chosen)

            if replicas == 1:
                return jax.tree.map(lambda x: x[None], pick(0))
            if self.mode == "unroll":
                parts = map(pick, range(replicas))
                return jax.tree.map(lambda *x: jnp.stack(x), *parts)
            return jax.vmap(fn, in_axes=axes)(*args)

        if self.mode != "devices" or self.count == 1:
            return batched
        spec = PartitionSpec(BATCH_AXES)
        return jax.shard_map(
            batched,
            mesh=self.layout.mesh,
            in_specs=tuple(spec if axis == 0 else PartitionSpec() for axis in axes),
            out_specs=spec,
            check_vma=False,
        )

    def sums_sharding(self, sums: Any) -> Any:
        """Shardings of a tree of accumulators with a leading replica axis."""
        if self.mode == "devices":
            return self.layout.state(sums)
        return jax.tree.map(lambda _: self.layout.replicated, sums)


def replica_mode(layout: str, count: int) -> str:
    """The mode of `Lanes` that a config's `replicas.layout` means here."""
    if layout != "auto":
        return layout
    return "unroll" if count <= 8 and jax.default_backend() == "cpu" else "vmap"


def training_lanes(config: Any, count: int) -> Lanes:
    """The lanes that a config asks for.

    Args:
        config: a `ltjax.train.config.TrainConfig`.
        count: R.

    Returns:
        `Lanes`.

    Raises:
        ConfigError: if batch or replicas do not divide over the devices.
    """
    devices = config.replicas.layout == "devices"
    layout = Layout(make_mesh(config.fsdp), "devices" if devices else "batch")
    try:
        check_divisible(config.batch_size, layout, what="config.batch_size")
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    if devices and count % layout.mesh.size:
        raise ConfigError(
            [
                f"there are {count} replicas, expected a multiple of the"
                f" {layout.mesh.size} devices for replicas.layout='devices'"
            ]
        )
    mode = replica_mode(config.replicas.layout, count)
    return Lanes(count, layout, mode, config.eval_batch_size)


def reading_lanes(config: Any, count: int) -> Lanes:
    """Lanes for passes over a finished run: all devices share each batch."""
    layout = Layout(make_mesh())
    return Lanes(count, layout, replica_mode("auto", count), config.eval_batch_size)
