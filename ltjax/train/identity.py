"""Whether a run that is started in a workdir is the one that was begun there.

A run is its config and its data. `content_fingerprint` tells data apart by what they
contain; `compare_runs` compares all of it, and knows that configs grow: a key that an
older version did not have stands at its default there.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax.data.modalities import byte_count
from ltjax.data.source import Source

_MISSING = object()


class Comparison(NamedTuple):
    """What `compare_runs` finds, both a line each.

    Attributes:
        faults: why the one cannot be the continuation of the other.
        notes: what differs and does no harm, or perhaps none.
    """

    faults: list[str]
    notes: list[str]


def content_fingerprint(
    source: Source, *, max_bytes: int = 1 << 25, samples: int = 256
) -> str:
    """Hash of what a source holds: every label, its columns, and inputs.

    All inputs are read if they take no more than `max_bytes`, otherwise `samples` of
    them at even distances, the first and the last included. Whoever changes a single
    image among a million is not found out; another version of a data set, another
    order, another resolution or swapped labels are.

    Args:
        source: of which inputs are read.
        max_bytes: of inputs that are read completely.
        samples: how many inputs stand for a larger source.

    Returns:
        16 hexadecimal digits, the same on every machine and for every feed.

    Example:
        >>> from ltjax.data import array_source
        >>> before = array_source([[0.5], [1.5]], [0, 1])
        >>> now = array_source([[0.5], [2.5]], [0, 1])
        >>> content_fingerprint(before) == content_fingerprint(now)
        False
    """
    count = len(source)
    digest = hashlib.sha256()
    digest.update(repr((count, source.num_classes, source.shape)).encode())
    for one in jax.tree.leaves(source.element):
        digest.update(one.dtype.str.encode())
    digest.update(source.labels.astype("<i4").tobytes())
    for name in sorted(source.columns):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(source.columns[name]).tobytes())
    size = byte_count(source.element)
    chosen = np.arange(count)
    if count * size > max_bytes:
        chosen = np.unique(np.linspace(0, count - 1, samples).round().astype(np.int64))
    block = max(1, (1 << 22) // max(size, 1))
    for start in range(0, len(chosen), block):
        for inputs in jax.tree.leaves(source.read(chosen[start : start + block])):
            digest.update(
                inputs.astype(inputs.dtype.newbyteorder("<"), copy=False).tobytes()
            )
    return digest.hexdigest()[:16]


def data_facts(source: Source) -> dict[str, Any]:
    """What `compare_runs` compares of one source, JSON-ready.

    Args:
        source: of one split.

    Returns:
        {"examples": N, "selection": which positions and labels, "content": inputs}.
    """
    return {
        "examples": len(source),
        "selection": source.fingerprint,
        "content": content_fingerprint(source),
    }


def compare_runs(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    free: Collection[str] = (),
) -> Comparison:
    """Compares what two runs say of themselves.

    Both are records of up to four parts, of which only those are compared that both
    have; an older version's record may lack any of them:

    - "config": nested, as in config.json;
    - "data": split -> `data_facts`;
    - "versions": package -> version;
    - "code": version or git revision.

    Args:
        old: of the run that was begun: its info file, or the info of a checkpoint.
        new: of the run that is to go on.
        defaults: the config as it is if nothing is asked for, nested. A key in it that
            `old` does not know is taken to have stood at this value.
        free: dotted keys of the config, or beginnings of such, that may change.

    Returns:
        Faults and notes. No faults: the new run may go on where the old one stopped.

    Example:
        >>> old = {"config": {"lr": 0.1}, "code": "v1"}
        >>> new = {"config": {"lr": 0.2, "nesterov": False}, "code": "v1"}
        >>> faults, notes = compare_runs(old, new, defaults={"nesterov": False})
        >>> faults
        ['it has lr = 0.1, but this config has 0.2']
        >>> notes
        ['its version had no nesterov, which stands at its default']
    """
    faults, notes = _compare_configs(
        flatten(_plain(old.get("config", {}))),
        flatten(_plain(new.get("config", {}))),
        flatten(_plain(defaults or {})),
        free,
    )
    more_faults, more_notes = _compare_data(old.get("data"), new.get("data"))
    return Comparison(
        faults + more_faults, notes + more_notes + _compare_versions(old, new)
    )


def _plain(value: Any) -> Any:
    """As JSON reads it back: lists for tuples, strings for keys."""
    return json.loads(json.dumps(value))


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted keys."""
    if isinstance(tree, dict):
        return {
            key: value
            for name, sub in tree.items()
            for key, value in flatten(sub, f"{prefix}{name}.").items()
        }
    return {prefix[:-1]: tree}


def _same(a: Any, b: Any) -> bool:
    nan = isinstance(a, float) and isinstance(b, float) and a != a and b != b
    return nan or (a == b and isinstance(a, bool) == isinstance(b, bool))


def _compare_configs(
    old: dict, new: dict, defaults: dict, free: Collection[str]
) -> tuple[list[str], list[str]]:
    faults, absent = [], []
    for key in sorted(old.keys() | new.keys()):
        if any(key == name or key.startswith(f"{name}.") for name in free):
            continue
        theirs, ours = old.get(key, _MISSING), new.get(key, _MISSING)
        unknown = theirs is _MISSING and key in defaults
        if unknown:
            theirs = defaults[key]
        if not _same(theirs, ours):
            faults.append(
                f"it has {_say(key, theirs)}"
                + (" (not known to its version: the default)" if unknown else "")
                + f", but this config has {_say('', ours)}"
            )
        elif unknown:
            absent.append(key)
    notes = []
    if absent:
        verb = (
            "which stands at its default"
            if len(absent) == 1
            else ("which stand at their defaults")
        )
        notes = [f"its version had no {', '.join(absent)}, {verb}"]
    return faults, notes


def _say(key: str, value: Any) -> str:
    if value is _MISSING:
        return f"no {key}" if key else "none"
    return f"{key} = {value!r}" if key else repr(value)


def _compare_data(old: Any, new: Any) -> tuple[list[str], list[str]]:
    if new is None:
        return [], []
    if old is None:
        return [], ["it says nothing of its data, which cannot be compared"]
    old, new = _plain(old), _plain(new)
    faults = []
    for split in sorted(old.keys() | new.keys()):
        if split not in old or split not in new:
            whose = "its data" if split in old else "these data"
            faults.append(f"only {whose} have a split {split!r}")
            continue
        was, now = old[split], new[split]
        differ = [k for k in sorted(was.keys() & now.keys()) if was[k] != now[k]]
        if differ:
            told = ", ".join(f"{k} {was[k]}, now {now[k]}" for k in differ)
            faults.append(f"its {split} data have changed: {told}")
    return faults, []


def _compare_versions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    notes = []
    if "code" in old and "code" in new and old["code"] != new["code"]:
        notes.append(
            f"it was trained by code {old['code']}, this is {new['code']}: the result"
            " may differ from that of an uninterrupted run"
        )
    was, now = old.get("versions", {}), new.get("versions", {})
    changed = [
        f"{name} {was[name]} -> {now[name]}"
        for name in sorted(was.keys() & now.keys())
        if was[name] != now[name]
    ]
    if changed:
        notes.append(f"other versions: {', '.join(changed)}")
    return notes
