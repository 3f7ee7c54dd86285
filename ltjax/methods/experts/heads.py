"""What methods of several experts share: their prediction, and what they need.

The network's head is "experts": "expert_logits" [B, E, K] and their mean "logits".
"""

from typing import Any

from ltjax.methods.method import MethodFacts, Setting, evaluated

FACTS = MethodFacts(head="experts", reads_loss=False, reads_weights=False)


def mean_of_experts(setting: Setting):
    """The `predict` of a method: the network's own logits, the mean of its experts."""

    def predict(state, inputs):
        return evaluated(setting, state, inputs)

    return predict


def three_experts(options: Any, config) -> list[str]:
    """Faults of a config whose method has one expert for each of three test priors."""
    # With another head there is no such option; the engine says what is wrong.
    found = getattr(config.head.options, "num_experts", 3)
    if found == 3:
        return []
    return [
        f"config.head.num_experts is {found}, but method {config.method.name!r} has an"
        " expert each for a long-tailed, a uniform and a reversed test set, expected 3"
    ]
