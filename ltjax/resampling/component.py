"""A sampler as a component: what training code may ask of it, whatever it is called."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from ltjax.options import option
from ltjax.resampling import combined, samplers


class SamplerFacts(NamedTuple):
    """What is known of a sampler before it is made.

    Attributes:
        padded: whether its batches may hold padding rows.
        reads_labels: whether it draws by class.
    """

    padded: bool = False
    reads_labels: bool = True


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """Shared by the samplers that can take over from instance sampling."""

    start: str = option(
        "0 steps", "instance sampling before this step (DRS: '80%')", duration=True
    )


def deferred(draw: Callable[..., samplers.Sampler]) -> Callable[..., samplers.Sampler]:
    """A component's `make` from (options, setting) -> Sampler, honouring `start`."""

    def make(options: Any, setting: Any) -> samplers.Sampler:
        chosen = draw(options, setting)
        start = setting.steps(options.start)
        if not start:
            return chosen
        labels, classes, batch_size = label_arguments(setting)
        first = samplers.instance(
            len(labels), batch_size, labels=labels, num_classes=classes
        )
        return combined.deferred(first, chosen, switch_step=start)

    return make


def label_arguments(setting: Any) -> tuple:
    """The first arguments of every sampler by class: labels, K, batch size."""
    return setting.labels, setting.num_classes, setting.batch_size
