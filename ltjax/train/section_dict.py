"""Sections of a config: one that knows its component's options, and the replicas."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from ltjax.train.sections import AUTO, SECTIONS


class SectionDict(ml_collections.ConfigDict):
    """A section of a config: the name of a component, and its options.

    Setting `name` gives the section the defaults of that component. Options that both
    components have from the same class keep a value that was changed.
    """

    _path: str

    def choose(self, name: str, **options: Any) -> None:
        """Makes the section anew: a component with options of its own."""
        self._fill({"name": name, **SECTIONS[self._path].defaults(name), **options})

    def _fill(self, values: Mapping[str, Any]) -> None:
        with self.unlocked(), self.ignore_type():
            for key in [str(name) for name in self.keys()]:
                if key not in values:
                    del self[key]
            for key, value in values.items():
                super().__setitem__(key, nested(value))

    def __setitem__(self, key, value):
        """Sets an option; a new name resets the section."""
        if key == "name" and "name" in self and value != self["name"]:
            if isinstance(value, str):
                self._fill({"name": value, **self._carried(value)})
                return
        super().__setitem__(key, nested(value))

    def _carried(self, name: str) -> dict[str, Any]:
        """Defaults of the new component, and what was changed of the shared options."""
        section = SECTIONS[self._path]
        old = str(self["name"])
        values, before = section.defaults(name), section.defaults(old)
        shared = set(section.defaults(AUTO)) | section.shared_names(name, old)
        own = {str(name) for name in self.keys()}
        for key in shared & values.keys() & before.keys() & own:
            if self[key] != before[key]:
                values[key] = self[key]
        return values


class ReplicaDict(ml_collections.ConfigDict):
    """The section of the replicas; keys of its grid have dots, as {"loss.tau": ...}."""

    def __setitem__(self, key, value):
        """Sets an option; a grid may be any mapping."""
        if key == "grid" and isinstance(value, Mapping | ml_collections.ConfigDict):
            value = ml_collections.ConfigDict(dict(value), allow_dotted_keys=True)
        super().__setitem__(key, value)


def nested(value: Any) -> Any:
    """A dict as a plain ConfigDict: only sections know components."""
    return ml_collections.ConfigDict(value) if isinstance(value, dict) else value


def section_dict(path: str, name: str) -> SectionDict:
    """The section of that path with a component's defaults."""
    section = SectionDict()
    object.__setattr__(section, "_path", path)
    section._fill({"name": name, **SECTIONS[path].defaults(name)})
    return section
