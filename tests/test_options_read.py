"""Every option of every component is read by something, or it would promise nothing."""

import ast
import dataclasses
import functools
import importlib.util
import pathlib
import sys

import pytest

from ltjax.options import Component, option, options_of
from ltjax.train.sections import kinds

# Modules that read what a kind's components share, or hand on by keyword.
ENGINE = {
    "datasets": (
        *("ltjax.data.splits", "ltjax.data.records", "ltjax.data.folders"),
        *("ltjax.data.mnist1d", "ltjax.data.own", "ltjax.train.feeds"),
    ),
    "labels": ("ltjax.data.candidates",),
    "heads": ("ltjax.models.registry",),
    "losses": (
        *("ltjax.losses.margins", "ltjax.losses.partial_auc"),
        *("ltjax.losses.ranking", "ltjax.losses.vector_scaling"),
    ),
    "weights": ("ltjax.train.parts",),
    "optimizers": ("ltjax.train.build", "ltjax.train.parts"),
}


def tree_of(module):
    file = importlib.util.find_spec(module).origin
    return ast.parse(pathlib.Path(file).read_text())


@functools.cache
def imported(module):
    """Modules of ours that a module takes names from."""
    found = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ltjax"):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module, *(name for name in inside if name in sys.modules)}
    return found


@functools.cache
def words_read(module):
    """Names that a module reads: of attributes, of variables, and in strings.

    A declaration reads nothing, and neither does what an option says of itself.
    """
    tree = tree_of(module)
    for node in ast.walk(tree):
        for field in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(field, ast.AnnAssign):
                field.value = None
        if isinstance(node, ast.Constant) and not str(node.value).isidentifier():
            node.value = ""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def readers(kind, component):
    """Modules whose business the options are.

    Those that declare them and make the component, those that these build on, and
    what the engine has for the kind.
    """
    owners = [cls for cls in component.options.__mro__ if cls is not object]
    functions, modules = [component.make], set()
    while functions:
        one = functions.pop()
        one = getattr(one, "func", one)  # of a partial
        modules.add(getattr(one, "__module__", None))
        cells = getattr(one, "__closure__", None) or ()
        held = [cell.cell_contents for cell in cells]
        functions += [x for x in held if callable(x) and not isinstance(x, type)]
        modules |= {x.__module__ for x in held if isinstance(x, type)}
    modules |= {cls.__module__ for cls in owners}
    modules = {m for m in modules if m and m.startswith("ltjax.")}
    return modules.union(ENGINE.get(kind, ()), *map(imported, modules))


COMPONENTS = [
    pytest.param(kind, component, id=f"{kind}.{name}")
    for kind, table in kinds().items()
    for name, component in table.items()
    if options_of(component.options)
]


def unread(component, modules):
    read = set().union(*map(words_read, modules))
    return [name for name in options_of(component.options) if name not in read]


@pytest.mark.parametrize(("kind", "component"), COMPONENTS)
def test_every_option_is_read(kind, component):
    assert unread(component, readers(kind, component)) == []


def test_an_option_that_nothing_reads_is_found():
    @dataclasses.dataclass(frozen=True)
    class Options:
        margin: float = option(1.0, "read below")
        forgotten: float = option(0.5, "read nowhere")

    def make(options, setting):
        return options.margin

    component = Component("a component", Options, make)
    assert unread(component, {__name__}) == list(options_of(Options))[1:]
