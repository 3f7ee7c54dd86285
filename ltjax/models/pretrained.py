"""Published weights from `.safetensors` files, for networks of this library.

A file is recognized by its names: ResNets of torchvision and timm, Vision Transformers
of timm and torchvision, the image tower of CLIP as open_clip or Hugging Face store it,
and what `ltjax export` wrote. Nothing is guessed silently: every array of the network
must be there, of the right shape, and every array of the file must have a place.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ltjax.models import resnet_weights, vit_weights
from ltjax.models.published import Array, Published

SUFFIX = ".safetensors"
_FAMILIES = (resnet_weights, vit_weights)
_PICKLES = (".pth", ".pt", ".bin", ".ckpt")
_OWN = "params/"  # what the names of `ltjax export` begin with
_POSITIONS = "params.backbone.positions"
_STEMS = ("params.backbone.stem.kernel", "params.backbone.patches.kernel")
# In the folder of the file: timm's, Hugging Face's and open_clip's.
_BESIDE = ("config.json", "preprocessor_config.json", "open_clip_config.json")


class Weights(NamedTuple):
    """What a file has for a network.

    Attributes:
        arrays: "params.backbone.stem.kernel" -> array, "model_state.batch_stats. ..."
            likewise.
        fresh: top-level modules of which the file has nothing.
        notes: what was left out or fitted, a line each.
    """

    arrays: dict[str, Array]
    fresh: frozenset[str]
    notes: list[str]


def is_weights_file(path: str | os.PathLike) -> bool:
    """Whether a path is called like a file of weights, rather than a run's folder."""
    return pathlib.Path(path).suffix.lower() in (SUFFIX, *_PICKLES)


def describe_file(path: str | os.PathLike) -> Published | None:
    """Which network a file of weights is of; its arrays are not read.

    Args:
        path: of a `.safetensors` file. What a "config.json" of timm or Hugging Face in
            its folder says of normalization, heads and activation is taken over.

    Returns:
        `Published`, or None for a file of `ltjax export`, which belongs to whatever
        network has arrays of these names.

    Raises:
        ValueError: for another kind of file, or names that no converter knows.
        FileNotFoundError: if there is no such file.
        ModuleNotFoundError: if the package safetensors is not installed.
    """
    with _opened(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    told = _beside(pathlib.Path(path))
    for family in _FAMILIES:
        found = family.describe(shapes, told)
        if found is not None:
            return _normalized(found, told)
    if any(name.startswith(_OWN) for name in shapes):
        return None
    some = ", ".join(sorted(shapes)[:4])
    raise ValueError(
        f"{path} holds arrays such as {some}; expected the names of a ResNet or Vision"
        " Transformer of torchvision or timm, of the image tower of CLIP, or of ltjax"
        " export"
    )


def read_weights(
    path: str | os.PathLike,
    network: Any,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    skip: frozenset[str] = frozenset(),
) -> Weights:
    """The arrays of a file of weights, fitted to a network.

    Three things are fitted rather than refused: a head for another number of classes
    (or of another kind) is left out; a first layer for colours is summed over the
    channels for gray images, which is what a gray image in all of them would give; and
    positions for images of another size are resized (bicubic).

    Args:
        path: see `describe_file`.
        network: the backbone, whose attributes must be those of the published one.
        shapes: name -> shape of every array of the network, as in `Weights`.
        skip: top-level modules that are not wanted.

    Returns:
        `Weights`.

    Raises:
        ValueError: listing every array that is missing, has no place or does not fit,
            and every attribute that differs.
    """
    published = describe_file(path)
    with _opened(path) as file:
        tensors = {name: _float32(file.get_tensor(name)) for name in file.keys()}
    if published is None:
        arrays = {_own_name(name): value for name, value in tensors.items()}
        unknown: list[str] = []
    else:
        _check_network(path, published, network)
        family = next(f for f in _FAMILIES if f.describe(_shapes(tensors), {}))
        heads = getattr(network, "num_heads", 0)
        arrays, unknown = family.convert(tensors, {"num_heads": heads})
    arrays = {name: x for name, x in arrays.items() if _module(name) not in skip}
    notes = _fit(arrays, shapes)
    modules = {_module(name) for name in shapes} - skip
    had = {_module(name) for name in arrays}
    wanted = {name for name in shapes if _module(name) in had}
    faults = [f"{name} has no place" for name in unknown]
    faults += [
        f"{name} of shape {arrays[name].shape} has no place"
        for name in sorted(arrays.keys() - shapes.keys())
    ]
    faults += [f"{name} is missing" for name in sorted(wanted - arrays.keys())]
    faults += [
        f"{name} has shape {arrays[name].shape}, expected {shapes[name]}"
        for name in sorted(wanted & arrays.keys())
        if arrays[name].shape != shapes[name]
    ]
    if not had & modules:
        faults.append(f"it has nothing for {', '.join(sorted(modules))}")
    if faults:
        lines = "".join(f"\n    {fault}" for fault in faults)
        raise ValueError(f"{path} does not fit the network:{lines}")
    return Weights(arrays, frozenset(modules - had), notes)


def _opened(path: str | os.PathLike):
    suffix = pathlib.Path(path).suffix.lower()
    if suffix in _PICKLES:
        raise ValueError(
            f"{path} is a pickle, which may run code when it is read; expected a"
            " .safetensors file: where it was written, safetensors.torch.save_file("
            "model.state_dict(), FILE) makes one"
        )
    if suffix != SUFFIX:
        raise ValueError(f"{path} is not a .safetensors file")
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "published weights need the package safetensors; install it with pip"
            " install 'ltjax[pretrained]'"
        ) from error
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return safe_open(os.fspath(path), framework="np")
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _float32(value: Array) -> Array:
    return value if value.dtype.kind in "iub" else value.astype(np.float32)


def _shapes(tensors: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in tensors.items()}


def _own_name(name: str) -> str:
    """The name in a train state of an array of `ltjax export`."""
    parts = name.split("/")
    return ".".join(parts if parts[0] == "params" else ["model_state", *parts])


def _module(name: str) -> str:
    """The top-level module of params.M... or model_state.COLLECTION.M..."""
    parts = name.split(".")
    return parts[1] if parts[0] == "params" else parts[2]


def _check_network(path: Any, published: Published, network: Any) -> None:
    """Refuses what arrays of the right shape would hide: another activation, say."""
    wrong = [
        f"{name} = {value!r}, but the network has {getattr(network, name, 'none')!r}"
        for name, value in published.options.items()
        if name not in published.guessed and getattr(network, name, None) != value
    ]
    if wrong:
        raise ValueError(
            f"{path} ({published.family}) is of a network with {'; '.join(wrong)}"
        )


def _fit(arrays: dict[str, Array], shapes: Mapping[str, tuple]) -> list[str]:
    """Changes `arrays` where that is what its user would do; says what was done."""
    notes = []
    head = {name for name in arrays if name.startswith("params.head.")}
    ours = {name for name in shapes if name.startswith("params.head.")}
    if head and (head != ours or any(arrays[n].shape != shapes[n] for n in head)):
        classes = arrays[min(head)].shape[-1]
        notes.append(
            f"its head of {classes} classes is left out, a new one starts at random"
        )
        for name in [name for name in arrays if _module(name) == "head"]:
            del arrays[name]
    elif head:
        notes.append("its head is kept, the number of classes being the same")
    for name in _STEMS:
        shape, value = shapes.get(name), arrays.get(name)
        if shape and value is not None and value.ndim == len(shape) == 4:
            if shape[2] == 1 < value.shape[2]:
                arrays[name] = value.sum(2, keepdims=True)
                notes.append("its first layer is summed over the channels")
    shape, value = shapes.get(_POSITIONS), arrays.get(_POSITIONS)
    if shape and value is not None and value.shape[1] != shape[1]:
        arrays[_POSITIONS] = resized_positions(value, shape[1])
        notes.append(f"its {value.shape[1]} positions are resized to {shape[1]}")
    return notes


def resized_positions(positions: Array, count: int) -> Array:
    """Positions of a square grid of patches for another square grid.

    Args:
        positions: [1, N, W], N a square number, or one more: the class token's first.
        count: of the new positions.

    Returns:
        [1, count, W]; the class token's is kept. As it was if one of the two is not a
        square.

    Example:
        >>> resized_positions(np.ones((1, 5, 3), np.float32), 10).shape
        (1, 10, 3)
    """
    import jax.image

    width = positions.shape[-1]
    extra = 0 if _side(positions.shape[1]) else 1
    old, new = _side(positions.shape[1] - extra), _side(count - extra)
    if not old or not new:
        return positions
    grid = positions[0, extra:].reshape(old, old, width)
    grid = jax.image.resize(grid, (new, new, width), "bicubic", antialias=True)
    flat = np.asarray(grid, np.float32).reshape(1, new * new, width)
    return np.concatenate([positions[:, :extra], flat], axis=1)


def _side(count: int) -> int:
    side = round(max(count, 0) ** 0.5)
    return side if side * side == count else 0


def _beside(path: pathlib.Path) -> dict[str, Any]:
    """What JSON files in the folder of the weights say, the first one first."""
    told: dict[str, Any] = {}
    for name in _BESIDE:
        file = path.parent / name
        try:
            found = json.loads(file.read_text()) if file.is_file() else {}
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{file}, beside the weights, cannot be read: {error}"
            ) from None
        told = {**found, **told}
    return told


def _normalized(published: Published, told: Mapping[str, Any]) -> Published:
    """With the normalization that the JSON files tell, if they do."""
    places = (told, told.get("pretrained_cfg", {}), told.get("preprocess_cfg", {}))
    for place in places:
        for names in (("image_mean", "image_std"), ("mean", "std")):
            if all(name in place for name in names):
                mean, std = (tuple(map(float, place[name])) for name in names)
                return published._replace(mean=mean, std=std)
    return published
