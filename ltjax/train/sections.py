"""The sections of a config: each holds one component of a kind, chosen by name."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, NamedTuple

from ltjax.data.augment import PipelineFacts
from ltjax.data.components import DATA
from ltjax.data.data_options import DataFacts
from ltjax.data.pipelines import PIPELINES
from ltjax.data.supervision import LABELS, LabelFacts
from ltjax.data.unlabelled_streams import COMPANIONS, CompanionFacts
from ltjax.evaluators.registry import EVALUATORS
from ltjax.losses.component import LossFacts
from ltjax.methods.classifiers import CLASSIFIERS
from ltjax.methods.gradient_rule import RuleFacts
from ltjax.methods.method import MethodFacts
from ltjax.methods.registry import (
    GRADIENTS,
    LOSSES,
    METHODS,
    PSEUDO_LABELS,
    SAMPLERS,
    WEIGHTS,
)
from ltjax.methods.treatment import TreatmentFacts
from ltjax.methods.weights import WeightsFacts
from ltjax.models.components import AdapterFacts, HeadOptions, NetworkFacts
from ltjax.models.lora import ADAPTERS
from ltjax.models.registry import HEADS, MODELS
from ltjax.options import Component, NoOptions, defaults, options_of, plain
from ltjax.resampling.component import SamplerFacts
from ltjax.train.optim import OPTIMIZERS
from ltjax.train.schedule import SCHEDULES

AUTO = "auto"  # a name that stands for what another component is meant for


class Section(NamedTuple):
    """A section of the config.

    Attributes:
        kind: of its components.
        table: of the kind.
        default: name that it has by default; `AUTO` where another component decides.
        usual: facts of a component that states none.
        shared: dataclass of the options that all components of the kind have, which
            a section named `AUTO` can hold.
    """

    kind: str
    table: Mapping[str, Component]
    default: str
    usual: Any = None
    shared: type = NoOptions

    def defaults(self, name: str) -> dict:
        """The default of every option of a component of this kind."""
        if name in self.table:
            return defaults(self.table[name])
        return {o.name: plain(o.default) for o in options_of(self.shared).values()}

    def shared_names(self, name: str, other: str) -> set[str]:
        """Options that two components of this kind have from the same class."""
        if name not in self.table or other not in self.table:
            return set()
        ours, theirs = (self.table[one].options.__mro__ for one in (name, other))
        common = [cls for cls in ours if cls in theirs and is_dataclass(cls)]
        return {key for cls in common for key in options_of(cls)}


SECTIONS: dict[str, Section] = {
    "method": Section("methods", METHODS, "supervised", MethodFacts()),
    "data": Section("datasets", DATA, "mnist1d", DataFacts()),
    "labels": Section("labels", LABELS, "given", LabelFacts()),
    "unlabelled": Section("companions", COMPANIONS, "none", CompanionFacts()),
    "augment": Section("augment", PIPELINES, "none", PipelineFacts()),
    "augment_unlabelled": Section("augment", PIPELINES, "none", PipelineFacts()),
    "model": Section("models", MODELS, "conv1d", NetworkFacts(False)),
    "head": Section("heads", HEADS, AUTO, NetworkFacts(False), HeadOptions),
    "adapter": Section("adapters", ADAPTERS, "none", AdapterFacts()),
    "loss": Section("losses", LOSSES, "ce", LossFacts()),
    "weights": Section("weights", WEIGHTS, "none", WeightsFacts()),
    "sampler": Section("samplers", SAMPLERS, "instance", SamplerFacts()),
    "pseudo_labels": Section("pseudo_labels", PSEUDO_LABELS, "none", TreatmentFacts()),
    "gradient": Section("gradients", GRADIENTS, "plain", RuleFacts()),
    "optimizer": Section("optimizers", OPTIMIZERS, "sgd"),
    "schedule": Section("schedules", SCHEDULES, "constant"),
}

# Kinds that a config does not choose by a section, but by a list or a command.
OTHER_KINDS: dict[str, Mapping[str, Component]] = {
    "evaluators": EVALUATORS,
    "classifiers": CLASSIFIERS,
}


def kinds() -> dict[str, Mapping[str, Component]]:
    """Kind -> table, for listings, plugins and tests."""
    found = {section.kind: section.table for section in SECTIONS.values()}
    return {**found, **OTHER_KINDS}
