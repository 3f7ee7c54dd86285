"""The directive `components`: every component of a kind with its options.

Read off the same tables as `ltjax list` and `ltjax options`, so that a page cannot say
something else than the program. Where an experiment measured a component, its row
stands beside it.
"""

from docutils import nodes
from docutils.parsers.rst import Directive
from measured import MEASURED, result_of

from ltjax.methods.presets import PRESETS
from ltjax.options import Component, describe, options_of
from ltjax.train.config import EngineOptions, ReplicaOptions
from ltjax.train.listing import preset_text
from ltjax.train.sections import kinds


class Components(Directive):
    """`components KIND`, where KIND is one of `ltjax list`, "engine" or "presets"."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A section for each component."""
        kind = self.arguments[0]
        if kind == "engine":
            return [
                _section("engine", "The top level of a config.", EngineOptions),
                _section("replicas", "Copies trained side by side.", ReplicaOptions),
            ]
        if kind == "presets":
            told = {name: preset_text(values) for name, values in PRESETS.items()}
            return [_section(name, about, None, kind) for name, about in told.items()]
        table: dict[str, Component] = dict(kinds()[kind])
        return [
            _section(name, component.about, component.options, kind)
            for name, component in table.items()
        ]


def _section(
    name: str, about: str, options: type | None, kind: str = ""
) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(f"{kind}-{name}")])
    section += nodes.title(name, name)
    section += nodes.paragraph(about, about)
    if options is not None:
        entries = nodes.bullet_list()
        for known in options_of(options).values():
            setting, _, meaning = describe(known).partition("  ")
            line = nodes.paragraph()
            line += [
                nodes.literal(setting, setting),
                nodes.Text(f": {meaning.strip()}"),
            ]
            entries += nodes.list_item("", line)
        section += entries if len(entries) else nodes.paragraph("", "No options.")
    if kind in MEASURED:
        row = result_of(kind, name)
        if row:
            section += nodes.paragraph("", f"Measured: {row}")
    return section


def setup(app) -> dict:
    """Registers the directive."""
    app.add_directive("components", Components)
    return {"parallel_read_safe": True}
