"""What a public function takes and gives, read off its docstring.

`labels: [B] int class indices.` says enough to make valid labels, and `[B] float32`
what has to come back. Arguments that a docstring describes in words only have a row in
`experiments.reliability.fuzz.arguments`.
"""

import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Mapping

MODULES = (
    "losses",
    "class_stats",
    "reduce",
    "metrics",
    "classifiers",
    "resampling",
    "pseudo_labels",
)
# Letters that stand for the examples of a batch or of a data set.
ROWS = ("B", "N", "n", "M", "...")
_SHAPE = re.compile(r"(?:optional )?\[([\w., ]*)\]\s*(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Argument:
    """A parameter of a function.

    Attributes:
        name: of the parameter.
        axes: letters of its shape, or None if it is not documented as an array.
        text: what the docstring says.
        default: its default, or `inspect.Parameter.empty`.
    """

    name: str
    axes: tuple[str, ...] | None
    text: str
    default: object

    @property
    def required(self) -> bool:
        """Whether a call needs it."""
        return self.default is inspect.Parameter.empty

    @property
    def words(self) -> str:
        """What is said of its values, up to the first remark."""
        found = _SHAPE.match(self.text)
        return re.split(r"[;.] ", found[2] if found else self.text)[0]

    @property
    def choices(self) -> tuple[str, ...]:
        """The quoted words of an option that is one."""
        quoted = re.findall(r'"([\w-]+)"', self.text)
        return tuple(quoted) if isinstance(self.default, str) else ()


@dataclasses.dataclass(frozen=True, eq=False)
class Contract:
    """A public function as its docstring has it.

    Attributes:
        name: with its module, such as "losses.focal".
        function: to be called.
        arguments: by name.
        returns: the text of that section.
        axes: letters of the shape of the result, or None.
    """

    name: str
    function: Callable
    arguments: Mapping[str, Argument]
    returns: str
    axes: tuple[str, ...] | None

    @property
    def row(self) -> str | None:
        """The letter of the examples: the first axis of the first array."""
        for argument in self.arguments.values():
            if argument.axes:
                return argument.axes[0] if argument.axes[0] in ROWS else None
        return None

    @property
    def dtype(self) -> str:
        """The dtype that the result is said to have, or ""."""
        if self.axes is None:
            return ""
        after = _SHAPE.match(self.returns)
        found = re.match(r"(bool|int32|int64|float32|float64)\b", after[2])
        return found[1] if found and "numpy" not in self.returns else ""

    @property
    def finite(self) -> bool:
        """Whether nothing is said of results that are not."""
        return not re.search(r"NaN|inf\b|infinity", self.returns)


def _axes(text: str) -> tuple[str, ...] | None:
    found = _SHAPE.match(text)
    if not found:
        return None
    return tuple(part.strip() for part in found[1].split(",") if part.strip())


def _section(doc: str, title: str) -> str:
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", doc + "\n\n", re.MULTILINE)
    return inspect.cleandoc(found[1]) if found else ""


def read_contract(module: str, name: str) -> Contract:
    """The contract of `ltjax.<module>.<name>`."""
    function = getattr(importlib.import_module(f"ltjax.{module}"), name)
    doc = inspect.getdoc(function) or ""
    said = dict(
        re.findall(
            r"^(\w+): (.*(?:\n(?: .*)?)*)", _section(doc, "Args"), flags=re.MULTILINE
        )
    )
    arguments = {}
    for key, parameter in inspect.signature(function).parameters.items():
        text = " ".join(said.get(key, "").split())
        arguments[key] = Argument(key, _axes(text), text, parameter.default)
    returns = " ".join(_section(doc, "Returns").split())
    return Contract(f"{module}.{name}", function, arguments, returns, _axes(returns))


@functools.cache
def contracts() -> Mapping[str, Contract]:
    """Every public function of `MODULES`, by name."""
    found = {}
    for module in MODULES:
        loaded = importlib.import_module(f"ltjax.{module}")
        names = getattr(loaded, "__all__", None) or [
            name
            for name, value in vars(loaded).items()
            if getattr(value, "__module__", "") == loaded.__name__
            and not name.startswith("_")
        ]
        for name in names:
            if inspect.isfunction(getattr(loaded, name)):
                found[f"{module}.{name}"] = read_contract(module, name)
    return found
