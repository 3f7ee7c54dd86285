"""Meshes, shardings, and the start of a multi-process run."""

import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_LOG = logging.getLogger(__name__)

BATCH_AXES = ("data", "fsdp")
# Below this many elements a parameter is cheaper to replicate than to gather.
_FSDP_MIN_SIZE = 2**14
_SMALL = 2**16  # bytes


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the processes of a multi-host run; call before any other JAX function.

    Args:
        coordinator: "host:port" of process 0; None where the platform knows (TPU pods,
            Slurm).
        num_processes: how many take part.
        process_id: of this one, 0-based.
    """
    jax.distributed.initialize(coordinator, num_processes, process_id)
    _LOG.info(
        "process %d of %d, %d local of %d devices",
        jax.process_index(),
        jax.process_count(),
        jax.local_device_count(),
        jax.device_count(),
    )


def make_mesh(fsdp: int = 1, devices=None) -> Mesh:
    """A ("data", "fsdp") mesh over all devices.

    Args:
        fsdp: number of devices that share one copy of the parameters; 1 replicates.
        devices: optional list; default all devices of all processes.

    Returns:
        Mesh with Auto axes.

    Raises:
        ValueError: if fsdp does not divide the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if fsdp < 1 or len(devices) % fsdp:
        raise ValueError(
            f"make_mesh: fsdp is {fsdp}, expected a divisor of {len(devices)} devices"
        )
    shape = (len(devices) // fsdp, fsdp)
    return jax.make_mesh(shape, BATCH_AXES, (AxisType.Auto,) * 2, devices=devices)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the arrays of a replicated run live.

    Every state leaf has a leading replica axis R, every batch leaf has [R, B, ...].

    Attributes:
        mesh: ("data", "fsdp").
        replicas: "batch" shards the batch and vmaps replicas on every device;
            "devices" gives each device whole replicas.
    """

    mesh: Mesh
    replicas: str = "batch"

    def sharding(self, *spec) -> NamedSharding:
        """The sharding with the given mesh axis (or None) per array axis."""
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    @property
    def replicated(self) -> NamedSharding:
        """A full copy on every device."""
        return self.sharding()

    @property
    def rows(self) -> NamedSharding:
        """Of [R, B, ...] batches."""
        if self.replicas == "devices":
            return self.sharding(BATCH_AXES)
        return self.sharding(None, BATCH_AXES)

    @property
    def shared_rows(self) -> NamedSharding:
        """Of [B, ...] evaluation batches, which all replicas share."""
        if self.replicas == "devices":
            return self.replicated
        return self.sharding(BATCH_AXES)

    def state(self, shapes: Any, tables: tuple[str, ...] = ()) -> Any:
        """Shardings of a state tree: replicated, or by the largest axis under fsdp.

        Args:
            shapes: of the leaves, [R, ...].
            tables: keys of `method_state` with one row per example, [R, N, ...]: they
                are shared by row.
        """
        if self.replicas == "devices":
            return jax.tree.map(lambda _: self.sharding(BATCH_AXES), shapes)

        def leaf(path, x) -> NamedSharding:
            keys = [getattr(key, "key", getattr(key, "name", None)) for key in path]
            is_table = keys[0] == "method_state" and keys[1:2] and keys[1] in tables
            if is_table and x.shape[1] % self.mesh.size == 0:
                return self.sharding(None, BATCH_AXES)
            return self._leaf(x)

        if not tables:
            return jax.tree.map(self._leaf, shapes)
        return jax.tree_util.tree_map_with_path(leaf, shapes)

    def _leaf(self, leaf) -> NamedSharding:
        fsdp = self.mesh.shape["fsdp"]
        shape = leaf.shape
        if fsdp == 1 or math.prod(shape[1:]) < _FSDP_MIN_SIZE:
            return self.replicated
        for axis in sorted(range(1, len(shape)), key=lambda a: -shape[a]):
            if shape[axis] % fsdp == 0:
                return self.sharding(*(None,) * axis, "fsdp")
        return self.replicated

    def local_rows(self, batch_size: int) -> slice:
        """The slice of the global batch whose rows this process holds."""
        whole = self.replicas == "devices"
        return slice(0, batch_size) if whole else self._local(batch_size)

    def local_replicas(self, count: int) -> slice:
        """The slice of the replicas whose batches this process holds."""
        whole = self.replicas != "devices"
        return slice(0, count) if whole else self._local(count)

    def _local(self, size: int) -> slice:
        """This process's part of an axis that all devices share."""
        if jax.process_count() == 1:
            return slice(0, size)
        spec = self.sharding(BATCH_AXES)
        index = spec.addressable_devices_indices_map((size,)).values()
        bounds = [s[0].indices(size)[:2] for s in index if s is not None]
        return slice(min(b[0] for b in bounds), max(b[1] for b in bounds))

    def put(self, tree: Any, sharding: NamedSharding) -> Any:
        """Host arrays of this process's rows as global device arrays."""
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)
        # As explicit as device_put, but the loop's transfer guard does not see that.
        with jax.transfer_guard_host_to_device("allow"):
            return jax.tree.map(
                lambda x: jax.make_array_from_process_local_data(
                    sharding, np.asarray(x)
                ),
                tree,
            )

    @contextlib.contextmanager
    def sent(self, rows: Any, sharding: NamedSharding) -> Iterator[Any]:
        """`with layout.sent(rows, sharding) as rows:` a program is called with them.

        One device is sent small arrays along with the call, in a tenth of the time of
        `put`, which is felt where a step takes a millisecond or two.
        """
        if self.mesh.size > 1 or _bytes(rows) > _SMALL:
            yield self.put(rows, sharding)
        else:
            with jax.transfer_guard_host_to_device("allow"):
                yield rows

    def place(self, tree: Any, shardings: Any) -> Any:
        """Whole host arrays, the same on every process, as global device arrays.

        Args:
            tree: of arrays.
            shardings: a tree of the same structure.
        """
        if jax.process_count() == 1:
            return jax.device_put(tree, shardings)

        def of_leaf(x, sharding):
            x = np.asarray(x)
            return jax.make_array_from_callback(x.shape, sharding, lambda at: x[at])

        with jax.transfer_guard_host_to_device("allow"):
            return jax.tree.map(of_leaf, tree, shardings)

    def fetch(self, tree: Any) -> Any:
        """Device arrays, sharded or not, as whole host arrays on every process."""
        return jax.device_get(_copies(self.replicated)(tree))


def _bytes(tree: Any) -> int:
    return sum(getattr(leaf, "nbytes", 8) for leaf in jax.tree.leaves(tree))


@functools.lru_cache
def _copies(sharding: NamedSharding):
    # Moved by a program, not by device_put, which may go through the host.
    return jax.jit(lambda tree: tree, out_shardings=sharding)


def check_divisible(batch_size: int, layout: Layout, *, what: str) -> None:
    """Raises ValueError unless the batch splits evenly over the mesh."""
    devices = layout.mesh.size
    if layout.replicas == "batch" and batch_size % devices:
        raise ValueError(
            f"{what} is {batch_size}, expected a multiple of the {devices} devices"
        )
