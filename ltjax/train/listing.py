"""What can be named in a config, a line each."""

from ltjax.data.source import DATASETS
from ltjax.methods.gradients import RULES
from ltjax.methods.supervised import LOSSES
from ltjax.models.registry import MODELS
from ltjax.train.config import nearest
from ltjax.train.recipes import METHODS as PRESETS
from ltjax.train.validate import SAMPLERS

_KINDS = {
    "open_mnist1d": "made on the spot, needs no download",
    "open_records": "TFDS data set, ArrayRecord",
    "open_folder": "image folder with list files",
}


def _preset(values: dict) -> str:
    chosen = {k: v for k, v in values.items() if k != "label"}
    told = ", ".join(f"{key}={value}" for key, value in chosen.items())
    return f"{values['label']}: {told}" if told else values["label"]


def _about(data) -> str:
    kind = _KINDS[data.open.__name__]
    return f"{kind}, {data.num_classes} classes" if data.num_classes else kind


def listing(kind: str = "") -> str:
    """Methods, losses, samplers, gradient rules, models and data sets as text.

    Args:
        kind: one section, or "" for all of them.

    Returns:
        Lines of "name  description" under a heading per section.

    Raises:
        ValueError: for an unknown kind, with the nearest one.

    Example:
        >>> print(listing("methods").splitlines()[0])
        methods
    """
    sections = {
        "methods": {name: _preset(values) for name, values in PRESETS.items()},
        "losses": {name: entry.about for name, entry in LOSSES.items()},
        "samplers": SAMPLERS,
        "gradients": RULES,
        "models": {name: about for name, (_, about) in MODELS.items()},
        "datasets": {name: _about(data) for name, data in DATASETS.items()},
    }
    if kind and kind not in sections:
        raise ValueError(f"list: {kind!r} is unknown{nearest(kind, sections)}")
    blocks = []
    for title, entries in sections.items():
        if kind in ("", title):
            width = max(map(len, entries))
            lines = [f"  {name:<{width}}  {about}" for name, about in entries.items()]
            blocks.append("\n".join([title, *lines]))
    return "\n\n".join(blocks)
