"""Files of a trained network that other programs read."""

import importlib.util
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.serialization
import jax
import numpy as np
from jax import export as jax_export

import ltjax
from ltjax._checks import check_choice
from ltjax.data.modalities import batch_of, each_modality, element_of
from ltjax.serving.predictor import Predictor
from ltjax.serving.priors import Prior
from ltjax.train.checkpoint_files import save_tree
from ltjax.train.config import to_dict

# Packages of the extra "export"; JAX writes its functions with flatbuffers.
_NEEDS = {"safetensors": "safetensors", "stablehlo": "flatbuffers"}

PLATFORMS = ("cpu", "cuda", "tpu")


def export(
    predictor: Predictor,
    path: str | os.PathLike,
    *,
    format: str,
    prior: Prior | None = None,
    trained_prior: Prior | None = None,
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes a trained network for other programs, and JSON that says what it is.

    The files of weights hold the trees "params" and what else the network has, such as
    "batch_stats", without the evaluation transform: the JSON says what that is. The
    format "stablehlo" holds the whole function, inputs as they are stored to
    probabilities, for any number of inputs, on CPUs, NVIDIA GPUs and TPUs; a program
    without `ltjax` runs it by `jax.export.deserialize(...).call(inputs)`.

    Args:
        predictor: from `load`.
        path: of the file; "orbax" makes a folder.
        format: a key of `FORMATS`: "safetensors" (flat names, "params/head/kernel"),
            "msgpack" (`flax.serialization`), "orbax" or "stablehlo".
        prior: see `Predictor.probabilities`; for "stablehlo" only.
        trained_prior: likewise.

    Returns:
        (path, path of the JSON: the first with ".json" appended).

    Raises:
        ValueError: for an unknown format, or a prior that cannot be part of it.
        FileExistsError: if there is something at one of the two.
        FileNotFoundError: if its folder does not exist.
        ModuleNotFoundError: if the format needs a package that is not installed.
    """
    check_choice("export", "format", format, FORMATS)
    path = pathlib.Path(path)
    about = pathlib.Path(f"{path}.json")
    for file in (path, about):
        if file.exists():
            raise FileExistsError(f"export: {file} exists already; choose another name")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"export: path is {path}, but there is no folder {path.parent}"
        )
    if prior is not None and format != "stablehlo":
        raise ValueError(
            f"export: prior is given, but {format} holds the weights alone; expected"
            " format 'stablehlo', or no prior"
        )
    if format in _NEEDS and importlib.util.find_spec(_NEEDS[format]) is None:
        raise ModuleNotFoundError(
            f"export: the format {format!r} needs the package {_NEEDS[format]}; install"
            " it with pip install 'ltjax[export]'"
        )
    _, shift = predictor.correction(prior, trained_prior)
    FORMATS[format](predictor, path, prior, trained_prior)
    told = _about(predictor, format) | {
        "prior": prior if isinstance(prior, str) else _numbers(prior),
        # A class that cannot occur is moved to minus infinity, which JSON lacks.
        "logit_shift": [x if np.isfinite(x) else None for x in shift.tolist()],
    }
    about.write_text(json.dumps(told, indent=2, allow_nan=False) + "\n")
    return path, about


def _about(predictor: Predictor, format: str) -> dict[str, Any]:
    config = to_dict(predictor.config)
    kept = ("model", "head", "augment", "loss", "method")
    signature = predictor.signature
    return {
        "format": format,
        "run": predictor.name,
        "step": predictor.step,
        "class_names": list(predictor.class_names),
        "class_counts": predictor.class_counts.tolist(),
        "inputs": {
            "shape": each_modality(lambda one: ["N", *one], signature.shape),
            "dtype": signature.dtype,
            "mean": signature.mean,
            "std": signature.std,
            "sizing": signature.sizing,
        },
        "outputs": {
            "shape": ["N", *predictor.output_shape],
            "dtype": "float32",
            "meaning": "sigmoid" if predictor.multi_label else "softmax",
        },
        "trained_prior": _numbers(predictor.trained_prior),
        "config": {name: config[name] for name in kept},
        "versions": {"ltjax": ltjax.__version__, "jax": jax.__version__},
    }


def _numbers(values: Any) -> Any:
    if values is None or isinstance(values, Mapping):
        return values if values is None else dict(values)
    return np.asarray(values).tolist()


def _weights(predictor: Predictor) -> dict[str, Any]:
    """{"params": tree, "batch_stats": tree, ...} of numpy arrays, adapters merged."""
    params = predictor.model.merge(predictor.params)
    return jax.device_get({"params": params, **predictor.model_state})


def _safetensors(predictor: Predictor, path: pathlib.Path, *prior) -> None:
    from safetensors.numpy import save_file

    flat, _ = jax.tree_util.tree_flatten_with_path(_weights(predictor))
    named = {
        jax.tree_util.keystr(place, simple=True, separator="/"): np.ascontiguousarray(x)
        for place, x in flat
    }
    save_file(named, path, metadata={"format": "flax"})


def _msgpack(predictor: Predictor, path: pathlib.Path, *prior) -> None:
    path.write_bytes(flax.serialization.msgpack_serialize(_weights(predictor)))


def _orbax(predictor: Predictor, path: pathlib.Path, *prior) -> None:
    save_tree(path, _weights(predictor))


def _stablehlo(predictor: Predictor, path: pathlib.Path, *prior) -> None:
    (number,) = jax_export.symbolic_shape("N")
    element = element_of(predictor.input_shape, predictor.input_dtype)
    inputs = batch_of(element, number)
    function = jax.jit(predictor.function(*prior))
    path.write_bytes(
        jax_export.export(function, platforms=PLATFORMS)(inputs).serialize()
    )


FORMATS: dict[str, Callable[..., None]] = {
    "safetensors": _safetensors,
    "msgpack": _msgpack,
    "orbax": _orbax,
    "stablehlo": _stablehlo,
}
