"""Linen modules as components: their options are the module's own attributes."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from ltjax.options import Component, option


class NetworkFacts(NamedTuple):
    """What is known of a backbone or a head before it is made.

    Attributes:
        rows_independent: whether train mode couples no two examples.
        dense: of a backbone, whether it has a feature for every pixel.
        experts: of a backbone, number of the equal parts that its features have, one
            for each expert.
        affine: of a head, whether the logits are an affine function of the features.
        ordinary: of a head, whether it is the layer that networks end with anyway.
        modalities: of a backbone, names of its inputs if they are a dict.
        stages: of a backbone, names of its parameters from the input on, those of one
            depth together; empty where it does not say.
        started: of a backbone, whether it brings its trained values along.
        adapters: of a backbone, modules of its own at the top level of the parameters.
    """

    rows_independent: bool
    dense: bool = False
    experts: int = 1
    affine: bool = False
    ordinary: bool = False
    modalities: tuple[str, ...] = ()
    stages: tuple[tuple[str, ...], ...] = ()
    started: bool = False
    adapters: tuple[str, ...] = ()


class AdapterFacts(NamedTuple):
    """What is known of an adapter before it is made.

    Attributes:
        modules: that it adds at the top level of the parameters.
    """

    modules: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """Shared by all heads."""

    class_scale: str = option(
        "none",
        "a learnable scale per class on top (LWS), from ones or the inverse norms",
        choices=("none", "ones", "inverse_norm"),
    )
    class_scale_power: float = option(
        0.5, "inverse_norm: the scales start at 1 / norm^power", low=0
    )


def module_component(
    module: type,
    about: str,
    *,
    base: type | None = None,
    kinds: Mapping[str, Any] | None = None,
    needed: Mapping[str, Any] | None = None,
    needs: Any = None,
    **fixed: Any,
) -> Component:
    """The component of a Linen module class.

    Its options are the attributes that the class declares with `ltjax.options.option`;
    what the class refuses in `__post_init__` is a fault of the config.

    Args:
        module: the class.
        about: one line.
        base: dataclass of options that the kind shares.
        kinds: types of options whose annotation allows more than a config can say.
        needed: an example of the attributes that only the setting knows.
        needs: see `Component`.
        **fixed: attributes that belong to the name.

    Returns:
        `Component` whose `make` takes further attributes as its setting.
    """
    hints = typing.get_type_hints(module)
    declared: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(typing.cast(Any, module)):
        if "option" in field.metadata and field.name not in fixed:
            kind = (kinds or {}).get(field.name, hints[field.name])
            again = dataclasses.field(default=field.default, metadata=field.metadata)
            declared.append((field.name, kind, again))
    names = [name for name, _, _ in declared]

    def build(options: Any, more: Mapping[str, Any]) -> Any:
        return module(**{**fixed, **{n: getattr(options, n) for n in names}, **more})

    def try_it(options: Any) -> None:
        build(options, needed or {})

    cls = dataclasses.make_dataclass(
        f"{module.__name__}Options",
        declared,
        bases=(base,) if base else (),
        namespace={
            "__post_init__": try_it,
            "__module__": module.__module__,
            "__doc__": f"Of {module.__name__}.",
        },
        frozen=True,
    )

    def facts(options: Any) -> NetworkFacts:
        built = build(options, needed or {})
        independent = bool(getattr(built, "rows_independent", False))
        return NetworkFacts(
            rows_independent=independent,
            dense=bool(getattr(built, "dense", False)),
            experts=getattr(built, "experts", 1),
            affine=bool(getattr(built, "affine", False)),
            ordinary=getattr(module, "ordinary", False) and options == cls(),
            modalities=getattr(built, "modalities", ()),
            stages=getattr(built, "stages", ()),
            adapters=getattr(built, "adapters", ()),
        )

    component = Component(about, cls, build, facts=facts)
    return component if needs is None else component._replace(needs=needs)
