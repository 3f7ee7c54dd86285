"""What can be named in a config, and every option of it; read off the tables."""

from ltjax.data.components import DATA
from ltjax.methods.presets import PRESETS
from ltjax.models.registry import MODELS
from ltjax.options import describe, nearest, options_of
from ltjax.train.config import EngineOptions, ReplicaOptions
from ltjax.train.sections import SECTIONS, kinds


def preset_text(values: dict) -> str:
    """The label of a preset and the components that it chooses, in one line."""
    chosen = [
        f"{path}={value['name'] if isinstance(value, dict) else value}"
        for path, value in values.items()
        if path != "label"
    ]
    told = ", ".join(chosen)
    return f"{values['label']}: {told}" if told else values["label"]


def listing(kind: str = "") -> str:
    """The components of every kind, and the presets of configs, as text.

    Args:
        kind: one of them, or "" for all.

    Returns:
        Lines of "name  description" under a heading per kind.

    Raises:
        ValueError: for an unknown kind, with the nearest one.

    Example:
        >>> print(listing("presets").splitlines()[0])
        presets
    """
    sections = {"presets": {name: preset_text(v) for name, v in PRESETS.items()}}
    for name, table in kinds().items():
        sections[name] = {key: table[key].about for key in table}
    sections["datasets"] |= DATA.forms
    sections["models"] |= MODELS.forms
    if kind and kind not in sections:
        raise ValueError(f"list: {kind!r} is unknown{nearest(kind, sections)}")
    blocks = []
    for title, entries in sections.items():
        if kind in ("", title):
            width = max(map(len, entries))
            lines = [f"  {name:<{width}}  {about}" for name, about in entries.items()]
            blocks.append("\n".join([title, *lines]))
    return "\n\n".join(blocks)


def option_names() -> list[str]:
    """Every option that a config can have, by dotted name.

    Example:
        >>> names = option_names()
        >>> "batch_size" in names, "loss.max_margin" in names
        (True, True)
    """
    names = [*options_of(EngineOptions)]
    names += [f"replicas.{name}" for name in options_of(ReplicaOptions)]
    for path, section in SECTIONS.items():
        for component in section.table.values():
            names += [f"{path}.{name}" for name in options_of(component.options)]
    return list(dict.fromkeys(names))


def options_page(kind: str = "", name: str = "") -> str:
    """Every option with its default, meaning and range, as text.

    Args:
        kind: of components, or "engine"; "" for all of them.
        name: of one component; "" for all of the kind.

    Returns:
        Lines of "option = default  meaning [range]" under each component.

    Raises:
        ValueError: for an unknown kind or name, with the nearest one.

    Example:
        >>> print(options_page("losses", "la"))
        losses la: logit adjustment (Menon 2021)
          tau = 1.0  strength of the logit adjustment [>= 0] (sweepable)
    """
    found = kinds()
    known = {"engine", *found}
    if kind and kind not in known:
        raise ValueError(f"options: {kind!r} is unknown{nearest(kind, known)}")
    blocks = []
    if kind in ("", "engine"):
        blocks.append(_block("engine: the top level of a config", EngineOptions))
        blocks.append(_block("engine replicas", ReplicaOptions))
    for title, table in found.items():
        if kind not in ("", title):
            continue
        if name and name not in table:
            raise ValueError(
                f"options: {title} {name!r} is unknown{nearest(name, table)}"
            )
        for key in [name] if name else list(table):
            heading = f"{title} {key}: {table[key].about}"
            blocks.append(_block(heading, table[key].options))
    return "\n\n".join(blocks)


def _block(heading: str, options: type) -> str:
    lines = [f"  {describe(known)}" for known in options_of(options).values()]
    return "\n".join([heading, *(lines or ["  (no options)"])])
